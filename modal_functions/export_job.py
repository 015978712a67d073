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
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import modal

from engine.errors import EditError, EngineError, ObjectMissingError, SourceError, StoreError
from engine.media.encoders import Encoder
from engine.media.probe import probe
from engine.pipeline.cache import StoreCache
from engine.pipeline.exporter import Listener, export_job
from engine.pipeline.job import ChosenUpscaler, RenderJob, decided_job
from engine.source import SourceInfo
from engine.storage import Store
from engine.timeline.chunks import RENDER_VERSION
from engine.timeline.edit import Edit
from engine.timeline.plan import Plan, build_plan
from engine.upscale.spec import stage_of_document
from engine.version import VERSION
from modal_functions.app import APP_NAME
from modal_functions.bucket import check_owner, manifest_key, open_bucket, temp_prefix
from modal_functions.clips import export_response, report_export_progress, upload_film
from modal_functions.executor import ModalExecutor
from modal_functions.ledger import CallLedger, cancel_call, poll_call
from modal_functions.progress_dict import PhaseProgress, ProgressDict
from modal_functions.renderer import chunk_slot
from modal_functions.responses import Response

log = logging.getLogger(__name__)

RENDERER = "Renderer"
LONGEST_CHOICE_S = 900.0
"""How long a T4 is waited for that says what it renders with."""
CHOICE_POLL_S = 0.2
CHOICE_VERSION = 2
"""Raised whenever a renderer's choice would be written or read differently."""


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


def export(job_id: str, user_id: str, output_key: str, job_key: str, job_sha256: str) -> Response:
    """Exports, or goes on, or finds that it is done. Raises `EngineError`."""
    store = open_bucket()
    check_owner(user_id, output_key)
    prefix = temp_prefix(user_id, job_id)
    ledger = CallLedger.read(store, f"{prefix}/calls.json")
    try:
        made = _finished(store, output_key, job_id)
        if made is None:
            job = _job(store, user_id, job_key, job_sha256)
            made = _made(store, job_id, output_key, prefix, job, ledger)
    except KeyboardInterrupt:  # preempted: another orchestrator goes on from here
        raise
    except BaseException:
        _clear_away(store, prefix, ledger)
        raise
    _clear_away(store, prefix, ledger)
    return made


def _made(
    store: Store, job_id: str, output_key: str, prefix: str, job: _Job, ledger: CallLedger
) -> Response:
    """Renders, joins and publishes; the manifest is written last."""
    with ProgressDict() as progress, TemporaryDirectory() as folder:
        phases = PhaseProgress(progress, job_id)
        phases.report("download", 0, "Reading the clips")
        edit = Edit.parse(job.edit, unknown="warn")
        plan = build_plan(edit, _sources(edit, job, store))
        phases.report("model", 0, "Waiting for a container")
        renderer = modal.Cls.from_name(APP_NAME, RENDERER)()
        render_job = _render_job(renderer, job, plan, store, ledger)
        executor = ModalExecutor(
            job_id=job_id,
            renderer=renderer,
            ledger=ledger,
            cache=StoreCache(store),
            progress=progress,
            temp_prefix=prefix,
            upscaler=job.upscaler,
            max_containers=job.max_containers,
        )
        out = Path(folder) / "reel.mp4"
        report = export_job(
            plan,
            render_job,
            out,
            executor=executor,
            cache=StoreCache(store),
            store=store,
            listener=Listener(on_progress=lambda at: report_export_progress(phases, at)),
        )
        progress.delete([chunk_slot(job_id, chunk.digest) for chunk in report.chunks])
        upload_film(store, out, output_key, phases)
    made = {
        "status": "success",
        **export_response(output_key, report, warnings=edit.warnings),
        "containers": asdict(executor.decision),
    }
    manifest = {"job_id": job_id, "engine_version": VERSION, "result": made}
    store.put_bytes(manifest_key(output_key), json.dumps(manifest, ensure_ascii=False).encode())
    return made


def _clear_away(store: Store, prefix: str, ledger: CallLedger) -> None:
    """Ends renderers and deletes what is temporary; finished chunks stay in the cache.

    What cannot be cleared is no reason to lose a result, or to hide the error that came first.
    """
    for call_id in ledger.calls:
        cancel_call(call_id)
    try:
        store.delete_prefix(prefix)
    except StoreError as error:
        log.warning("temporary keys are left: %s", error)


def _finished(store: Store, output_key: str, job_id: str) -> Response | None:
    """The job's stored result, if it has one."""
    try:
        manifest = json.loads(store.get_bytes(manifest_key(output_key)))
    except ObjectMissingError:
        return None
    if manifest["job_id"] != job_id or store.stat(output_key) is None:
        return None
    made: Response = manifest["result"]
    return made


def _job(store: Store, user_id: str, key: str, sha256: str) -> _Job:
    """The job's document. Raises `EngineError` where it is not what was meant."""
    data = store.get_bytes(check_owner(user_id, key))
    if hashlib.sha256(data).hexdigest() != sha256:
        raise EngineError(f"{key}: is not what was meant: its SHA-256 is another")
    fields = json.loads(data)
    job = _Job(**{name: fields[name] for name in _Job.__dataclass_fields__})
    for source_key in job.source_keys.values():
        check_owner(user_id, source_key)
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
                found[key] = probe(store.source(key), store)
            except (ObjectMissingError, SourceError) as error:
                raise EditError(f"clips[{index}].fileName", str(error)) from error
    return [found[job.source_keys[clip.file_name]] for clip in edit.clips]


def _render_job(
    renderer: Any, job: _Job, plan: Plan, store: Store, ledger: CallLedger
) -> RenderJob:
    """What a T4 renders, and with what.

    A T4 is asked once for all exports that want the same of this engine.
    """
    scales = sorted({clip.scale for clip in plan.clips})
    size = [plan.size.width, plan.size.height]
    asked = {"request": job.request, "size": size, "fps": str(plan.fps), "scales": scales}
    text = json.dumps([VERSION, RENDER_VERSION, CHOICE_VERSION, asked], sort_keys=True)
    key = f"cache/choices/{hashlib.sha256(text.encode()).hexdigest()}.json"
    try:
        chosen = json.loads(store.get_bytes(key))
    except ObjectMissingError:
        chosen = _asked(renderer.choose.spawn(**asked), ledger)
        store.put_bytes(key, json.dumps(chosen).encode())
    stages = [stage_of_document(each) for each in chosen["stages"]]
    encoder, upscaler = chosen["encoder"], chosen["upscaler"]
    options = tuple((name, value) for name, value in encoder["options"])
    return decided_job(
        plan,
        [stages[scales.index(clip.scale)] for clip in plan.clips],
        ChosenUpscaler(upscaler["name"], upscaler["why"], upscaler["device"]),
        Encoder(encoder["name"], options, plan.size, plan.fps, encoder["why"]),
        strict=job.strict,
    )


def _asked(call: modal.FunctionCall[Any], ledger: CallLedger) -> Mapping[str, Any]:
    """A renderer's response. Raises `EngineError` where it is an error, or does not come."""
    ledger.call_started(call.object_id, [])
    until_s = time.monotonic() + LONGEST_CHOICE_S
    while (response := poll_call(call)) is None:
        if time.monotonic() > until_s:
            raise EngineError(f"no container with a T4 came within {LONGEST_CHOICE_S:.0f} s")
        time.sleep(CHOICE_POLL_S)
    ledger.call_ended(call.object_id)
    if response["status"] != "success":
        raise EngineError(response["error"])
    return response
