"""A whole edit on Modal, from the job's document in the store to the video there.

Every step may be done again: chunks are found in the cache, renderers by their calls, and a video
that has its manifest is finished. An error or a cancellation ends the renderers and clears the
temporary keys; only a preemption leaves both to the orchestrator that takes this one's place.
"""

from __future__ import annotations

import hashlib
import json
import logging
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import modal

from engine.errors import EditError, EngineError, ObjectMissingError, SourceError, StoreError
from engine.media.encoders import Encoder
from engine.media.probe import probe
from engine.pipeline.cache import StoreCache
from engine.pipeline.exporter import Listener
from engine.pipeline.exporter import export as export_plan
from engine.pixels.picture import Picture
from engine.source import SourceInfo
from engine.storage import Store
from engine.timeline.chunks import RENDER_VERSION
from engine.timeline.edit import Edit
from engine.timeline.plan import Plan, build_plan
from engine.upscale.stage import PlainResampler, Stage
from engine.version import VERSION
from modal_functions.answers import Answer
from modal_functions.app import APP_NAME
from modal_functions.calls import CallBook, answer_of, cancel
from modal_functions.clips import answer, publish, tell_export
from modal_functions.desk import bucket, manifest_key, owned, temp_prefix
from modal_functions.executor import Containers
from modal_functions.rendering import chunk_slot
from modal_functions.slots import Phases, Slots

log = logging.getLogger(__name__)

RENDERER = "Renderer"
LONGEST_CHOICE_S = 900.0
"""How long a T4 is waited for that says what it renders with."""
CHOICE_POLL_S = 0.2


@dataclass(frozen=True, slots=True)
class _Job:
    """The job's document, as the backend has put it into the store."""

    edit: Mapping[str, Any]
    source_keys: Mapping[str, str]
    upscaler: str
    encoder: str
    quality: float | None
    preset: str | None
    max_containers: int
    strict: bool

    @property
    def request(self) -> dict[str, Any]:
        """What a renderer is asked to choose by."""
        return {
            "upscaler": self.upscaler,
            "encoder": self.encoder,
            "quality": self.quality,
            "preset": self.preset,
        }


def export(job_id: str, user_id: str, output_key: str, job_key: str, job_sha256: str) -> Answer:
    """Exports, or goes on, or finds that it is done. Raises `EngineError`."""
    store = bucket()
    owned(user_id, output_key)
    prefix = temp_prefix(user_id, job_id)
    book = CallBook.read(store, f"{prefix}/calls.json")
    try:
        made = _finished(store, output_key, job_id)
        if made is None:
            job = _job(store, user_id, job_key, job_sha256)
            made = _made(store, job_id, output_key, prefix, job, book)
    except KeyboardInterrupt:  # preempted: another orchestrator goes on from here
        raise
    except BaseException:
        _clear_away(store, prefix, book)
        raise
    _clear_away(store, prefix, book)
    return made


def _made(
    store: Store, job_id: str, output_key: str, prefix: str, job: _Job, book: CallBook
) -> Answer:
    """Renders, joins and publishes; the manifest is written last."""
    with Slots() as slots, TemporaryDirectory() as folder:
        phases = Phases(slots, job_id)
        phases.tell("download", 0, "Reading the clips")
        edit = Edit.parse(job.edit, unknown="warn")
        plan = build_plan(edit, _sources(edit, job, store))
        phases.tell("model", 0, "Waiting for a container")
        renderer = modal.Cls.from_name(APP_NAME, RENDERER)()
        encoder, upscaler = _choice(renderer, job, plan, store, book)
        containers = Containers(
            job_id=job_id,
            renderer=renderer,
            book=book,
            cache=StoreCache(store),
            slots=slots,
            temp_prefix=prefix,
            upscaler=job.upscaler,
            max_containers=job.max_containers,
        )
        out = Path(folder) / "reel.mp4"
        report = export_plan(
            plan,
            out,
            upscaler=upscaler,
            encoder=encoder,
            executor=containers,
            cache=StoreCache(store),
            strict=job.strict,
            listener=Listener(on_progress=lambda at: tell_export(phases, at)),
        )
        slots.clear([chunk_slot(job_id, chunk.digest) for chunk in report.chunks])
        publish(store, out, output_key, phases)
    made = {
        "status": "success",
        **answer(output_key, report, warnings=edit.warnings),
        "containers": asdict(containers.decision),
    }
    manifest = {"job_id": job_id, "engine_version": VERSION, "result": made}
    store.put_bytes(manifest_key(output_key), json.dumps(manifest, ensure_ascii=False).encode())
    return made


def _clear_away(store: Store, prefix: str, book: CallBook) -> None:
    """Ends renderers and deletes what is temporary; finished chunks stay in the cache.

    What cannot be cleared is no reason to lose a result, or to hide the error that came first.
    """
    for call_id in book.calls:
        cancel(call_id)
    try:
        store.delete_prefix(prefix)
    except StoreError as error:
        log.warning("temporary keys are left: %s", error)


def _finished(store: Store, output_key: str, job_id: str) -> Answer | None:
    """The job's stored result, if it has one."""
    try:
        manifest = json.loads(store.get_bytes(manifest_key(output_key)))
    except ObjectMissingError:
        return None
    if manifest["job_id"] != job_id or store.stat(output_key) is None:
        return None
    made: Answer = manifest["result"]
    return made


def _job(store: Store, user_id: str, key: str, sha256: str) -> _Job:
    """The job's document. Raises `EngineError` where it is not what was meant."""
    data = store.get_bytes(owned(user_id, key))
    if hashlib.sha256(data).hexdigest() != sha256:
        raise EngineError(f"{key}: is not what was meant: its SHA-256 is another")
    fields = json.loads(data)
    job = _Job(**{name: fields[name] for name in _Job.__dataclass_fields__})
    for source_key in job.source_keys.values():
        owned(user_id, source_key)
    return job


def _sources(edit: Edit, job: _Job, store: Store) -> list[SourceInfo]:
    """What the clips' files are, each probed once where it lies."""
    found: dict[str, SourceInfo] = {}
    for index, clip in enumerate(edit.clips):
        if clip.file_name not in job.source_keys:
            raise EditError(f"clips[{index}].fileName", f"{clip.file_name} was not uploaded")
        key = job.source_keys[clip.file_name]
        if key not in found:
            try:
                found[key] = probe(store.source(key))
            except (ObjectMissingError, SourceError) as error:
                raise EditError(f"clips[{index}].fileName", str(error)) from error
    return [found[job.source_keys[clip.file_name]] for clip in edit.clips]


@dataclass(frozen=True, slots=True)
class ChosenElsewhere:
    """An `Upscaler` that a renderer has chosen: what is said of it here, and its keys."""

    name: str
    why: str
    device: str
    keys: Mapping[float, str]
    """By a clip's scale."""
    events: Sequence[str] = ()

    def for_scale(self, scale: float) -> Stage:
        """See `Upscaler`; the stage has its key, and is of no other use."""
        return _StageElsewhere(self.keys[scale])


class _StageElsewhere(PlainResampler):
    """Has a key, and nothing to do."""

    def __init__(self, key: str) -> None:
        super().__init__("chosen elsewhere")
        self.key = key

    def pictures(self, *_: object, **__: object) -> Iterator[Picture]:
        raise AssertionError("chunks are rendered elsewhere")


def _choice(
    renderer: Any, job: _Job, plan: Plan, store: Store, book: CallBook
) -> tuple[Encoder, ChosenElsewhere]:
    """What a T4 renders with. Asked once for all exports that want the same of this engine."""
    scales = sorted({clip.scale for clip in plan.clips})
    size = [plan.size.width, plan.size.height]
    asked = {"request": job.request, "size": size, "fps": str(plan.fps), "scales": scales}
    text = json.dumps([VERSION, RENDER_VERSION, asked], sort_keys=True)
    key = f"cache/choices/{hashlib.sha256(text.encode()).hexdigest()}.json"
    try:
        chosen = json.loads(store.get_bytes(key))
    except ObjectMissingError:
        chosen = _asked(renderer.choose.spawn(**asked), book)
        store.put_bytes(key, json.dumps(chosen).encode())
    options = tuple((name, value) for name, value in chosen["encoder"]["options"])
    encoder = Encoder(
        chosen["encoder"]["name"], options, plan.size, plan.fps, chosen["encoder"]["why"]
    )
    said = chosen["upscaler"]
    keys = dict(zip(scales, said["keys"], strict=True))
    return encoder, ChosenElsewhere(said["name"], said["why"], said["device"], keys)


def _asked(call: modal.FunctionCall[Any], book: CallBook) -> Mapping[str, Any]:
    """A renderer's answer. Raises `EngineError` where it is an error, or does not come."""
    book.started(call.object_id, [])
    until_s = time.monotonic() + LONGEST_CHOICE_S
    while (answer := answer_of(call)) is None:
        if time.monotonic() > until_s:
            raise EngineError(f"no container with a T4 came within {LONGEST_CHOICE_S:.0f} s")
        time.sleep(CHOICE_POLL_S)
    book.ended(call.object_id)
    if answer["status"] != "success":
        raise EngineError(answer["error"])
    return answer
