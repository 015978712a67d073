"""A whole edit on Modal, from the job's document in the store to the video there.

Every step can be repeated: chunks are found in the cache, renderers in the ledger of calls, and a
video that has its manifest is finished. After an error or a cancellation, the renderers are
cancelled and the temporary objects deleted. An orchestrator that is preempted or replaced leaves
both to the one that takes over.
"""

from __future__ import annotations

import hashlib
import json
import logging
import time
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import modal

from engine.errors import EditError, EngineError, ObjectMissingError, SourceError, StoreError
from engine.media.encoders import named_encoder
from engine.media.probe import probe
from engine.pipeline.cache import StoreCache
from engine.pipeline.exporter import Listener, export_job
from engine.pipeline.job import ChosenUpscaler, RenderJob, decided_job
from engine.records import document_in, record_bytes
from engine.source import SourceInfo
from engine.storage import CachedStore, Store
from engine.timeline.chunks import RENDER_VERSION
from engine.timeline.edit import Edit
from engine.timeline.plan import Plan, build_plan
from engine.upscale.spec import stage_of_document
from engine.version import VERSION
from modal_functions.app import APP_NAME, COMPILE, GPU
from modal_functions.bucket import check_owner, open_bucket
from modal_functions.clips import report_export_progress, upload_film, video_response
from modal_functions.executor import ModalExecutor
from modal_functions.fence import ExportCancelledError, Fence, FencedError, ReplacedError
from modal_functions.ledger import CallLedger, poll_call, spawn_call
from modal_functions.progress_dict import PhaseProgress, ProgressDict
from modal_functions.protocol import (
    RENDERER,
    ErrorResponse,
    ExportJob,
    VideoResponse,
    chunk_progress_key,
    encoder_on_modal,
    export_progress_key,
    ledger_key,
    manifest_document,
    manifest_key,
    stored_response,
    temp_prefix,
)

log = logging.getLogger(__name__)

LONGEST_CHOICE_S = 900.0
"""How long to wait for a container that chooses what to render with."""
CHOICE_POLL_S = 0.2
CHOICE_VERSION = 3
"""Raised whenever a renderer's choice would be written or read differently."""


def export(
    job_id: str, user_id: str, output_key: str, job_key: str, job_sha256: str
) -> VideoResponse | ErrorResponse:
    """Exports the edit, goes on with it, or finds it finished.

    Returns an `ErrorResponse` where this call is not wanted any more. Raises `EngineError`.
    """
    store = open_bucket()
    check_owner(user_id, output_key)
    prefix = temp_prefix(user_id, job_id)
    fence = Fence(store, check_owner(user_id, job_key), job_sha256)
    ledger = CallLedger.read(store, ledger_key(prefix))
    try:
        response = _stored_response(store, output_key, job_id)
        if response is None:
            job = _read_job(fence, user_id)
            if (job.job_id, job.user_id, job.output_key) != (job_id, user_id, output_key):
                raise EngineError(f"{job_key}: is the document of another job")
            response = _run(job, store, fence, ledger)
    except KeyboardInterrupt:  # preempted: another orchestrator goes on from here
        raise
    except ReplacedError as error:  # a newer call goes on from here
        return _lost(error)
    except ExportCancelledError as error:  # who cancelled it clears away
        ledger.cancel_all()
        return _lost(error)
    except BaseException:
        _clear_away(prefix, fence, ledger)
        raise
    _clear_away(prefix, fence, ledger)
    return response


def _lost(error: FencedError) -> ErrorResponse:
    return {"status": "error", "error": str(error), "lost": True}


def _run(job: ExportJob, store: Store, fence: Fence, ledger: CallLedger) -> VideoResponse:
    """Renders, joins and uploads. The manifest is written last."""
    with ProgressDict() as progress, TemporaryDirectory() as folder:
        phases = PhaseProgress(progress, export_progress_key(job.job_id))
        phases.report("download", 0, "Reading the clips")
        edit = Edit.parse(job.edit, unknown="warn")
        sources = CachedStore(store)
        plan = build_plan(edit, _sources(edit, job, store, sources))
        phases.report("model", 0, "Waiting for a container")
        renderer = modal.Cls.from_name(APP_NAME, RENDERER)()
        render_job = _render_job(renderer, job, plan, fence, ledger)
        executor = ModalExecutor(job, renderer, fence, ledger, StoreCache(store), progress)
        out = Path(folder) / "reel.mp4"
        report = export_job(
            plan,
            render_job,
            out,
            executor=executor,
            cache=StoreCache(store),
            store=sources,
            listener=Listener(on_progress=lambda at: report_export_progress(phases, at)),
        )
        progress.delete(chunk_progress_key(job.job_id, chunk.digest) for chunk in report.chunks)
        fence.check()
        upload_film(store, out, job.output_key, phases)
    response = video_response(job.output_key, report)
    response["containers"] = asdict(executor.decision)
    fence.check()
    store.put_bytes(job.manifest_key, manifest_document(job.job_id, response))
    return response


def _clear_away(prefix: str, fence: Fence, ledger: CallLedger) -> None:
    """Cancels renderers and deletes temporary objects. Finished chunks stay in the cache.

    Touches nothing that another call works with. A failure here is only logged: it must not lose a
    result, or hide the error that came first. Where a renderer cannot be cancelled, the ledger
    stays for the backend.
    """
    try:
        if fence.is_replaced():
            return
        if not ledger.cancel_all():
            log.warning("renderers are left to the backend: %s", ", ".join(ledger.unfinished))
        elif not fence.is_replaced():
            fence.store.delete_prefix(prefix)
    except StoreError as error:
        log.warning("temporary objects are left: %s", error)


def _stored_response(store: Store, output_key: str, job_id: str) -> VideoResponse | None:
    """The response of the job where it is finished already."""
    try:
        manifest = store.get_bytes(manifest_key(output_key))
    except ObjectMissingError:
        return None
    return stored_response(manifest, job_id) if store.stat(output_key) else None


def _read_job(fence: Fence, user_id: str) -> ExportJob:
    """The job of the document. Raises `EngineError` where a source is not the user's."""
    job = ExportJob.from_document(fence.document())
    for source_key in job.source_keys.values():
        check_owner(user_id, source_key)
    return job


def _sources(edit: Edit, job: ExportJob, store: Store, sources: CachedStore) -> list[SourceInfo]:
    """The sources of the clips. Each file is probed once, where it lies, through `sources`."""
    found: dict[str, SourceInfo] = {}
    for index, clip in enumerate(edit.clips):
        if clip.file_name not in job.source_keys:
            raise EditError(f"clips[{index}].fileName", f"{clip.file_name} was not uploaded")
        key = job.source_keys[clip.file_name]
        if key not in found:
            try:
                found[key] = probe(store.source(key), sources)
            except (ObjectMissingError, SourceError) as error:
                raise EditError(f"clips[{index}].fileName", str(error)) from error
    return [found[job.source_keys[clip.file_name]] for clip in edit.clips]


def _render_job(
    renderer: Any, job: ExportJob, plan: Plan, fence: Fence, ledger: CallLedger
) -> RenderJob:
    """What renderers render, and with what.

    A renderer chooses the upscaler once for all exports that ask the same of this version of the
    engine. The encoder does not depend on a machine, so it is chosen here.
    """
    interval_s = job.key_interval_s if plan.key_interval_s is None else plan.key_interval_s
    encoder = named_encoder(
        plan.size,
        plan.fps,
        encoder_on_modal(job.encoder),
        quality=job.quality,
        preset=job.preset,
        options=job.encoder_options,
        key_interval_s=interval_s,
    )
    scales = sorted({clip.scale for clip in plan.clips})
    asked = {"upscaler": job.upscaler, "scales": scales}
    text = json.dumps(
        [VERSION, RENDER_VERSION, CHOICE_VERSION, GPU, COMPILE, asked], sort_keys=True
    )
    key = f"cache/choices/{hashlib.sha256(text.encode()).hexdigest()}.json"
    store = fence.store
    try:
        chosen: Mapping[str, Any] | None = document_in(store.get_bytes(key))
    except ObjectMissingError:
        chosen = None
    if chosen is None:
        fence.check()
        chosen = _wait_for_choice(spawn_call(renderer.choose, **asked), fence, ledger)
        store.put_bytes(key, record_bytes(chosen))
    stages = [stage_of_document(each) for each in chosen["stages"]]
    upscaler = chosen["upscaler"]
    return decided_job(
        plan,
        [stages[scales.index(clip.scale)] for clip in plan.clips],
        ChosenUpscaler(upscaler["name"], upscaler["why"], upscaler["device"]),
        encoder,
        strict=job.strict,
    )


def _wait_for_choice(
    call: modal.FunctionCall[Any], fence: Fence, ledger: CallLedger
) -> Mapping[str, Any]:
    """A renderer's `ChoiceResponse`. Raises `EngineError` for an error, or where none comes."""
    ledger.call_started(call.object_id, [])
    until_s = time.monotonic() + LONGEST_CHOICE_S
    while (response := poll_call(call)) is None:
        if time.monotonic() > until_s:
            raise EngineError(f"no container with a T4 came within {LONGEST_CHOICE_S:.0f} s")
        fence.check_now_and_then()
        time.sleep(CHOICE_POLL_S)
    ledger.call_ended(call.object_id)
    if response["status"] != "success":
        raise EngineError(response["error"])
    return response
