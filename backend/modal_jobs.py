"""Runs a job on Modal: puts its sources into the store, starts one call, follows it to its result.

What the job has outside is written into its row first: `remote` before its first object, and the
call's id before the call is followed. So a restarted server follows the same call, and what nobody
wants any more is ended (`outside_tasks.py`). Loads Modal's client: imported only if it is needed.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Mapping
from contextlib import AbstractAsyncContextManager
from pathlib import Path
from typing import Any

from starlette.concurrency import run_in_threadpool

from backend.cleanup import temp_prefix
from backend.jobs import JobResult, Jobs
from backend.modal_client import (
    ExportJob,
    ProgressCallback,
    cancel_export,
    follow_export,
    start_export,
    stored_export,
)
from backend.modal_client import ModalError as ModalError
from backend.models import Job
from backend.public_errors import without_paths
from backend.settings import Settings
from backend.tasks import RenderTask, task_adapter
from backend.threads import run_to_end
from backend.worker_pool import WorkerDiedError
from engine.storage import Store
from modal_functions.protocol import encoder_on_modal


class RemoteFailedError(Exception):
    """The export ran on Modal and failed."""


class CallLostError(WorkerDiedError):
    """The call is gone without a result. A new one may do the export."""


def export_job(job: Job, settings: Settings) -> ExportJob:
    """The job for the functions on Modal. The same row always gives the same value."""
    task = _task(job)
    encoder = encoder_on_modal(settings.encoder)
    return ExportJob(
        job_id=job.folder,
        user_id=job.user_id,
        edit=task.edit,
        source_keys={name: _key_of(job, task, name) for name in _file_names(task)},
        output_key=job.output_key,
        upscaler=settings.upscaler,
        encoder=encoder,
        preset=task.mode.preset_of(encoder),
        encoder_options=settings.encoder_options or None,
        key_interval_s=settings.key_interval_s,
    )


async def render(
    job: Job,
    jobs: Jobs,
    store: Store,
    settings: Settings,
    settled: Callable[[], AbstractAsyncContextManager[None]],
    on_progress: ProgressCallback,
) -> JobResult:
    """The result that is stored, or that of the job's call. Starts a call if the job has none.

    `settled` is entered before a call is started, and must end earlier calls of the job. Cancelling
    this coroutine ends no call. Raises `ModalError` if Modal cannot take the job, `CallLostError`,
    `RemoteFailedError` if the export failed, and `StoreError`.
    """
    export = export_job(job, settings)
    result = await stored_export(export, store) if job.remote else None
    if result is None:
        call_id = job.modal_call_id
        if call_id is None:
            async with settled():
                call_id = await _new_call(job, export, jobs, store, settings)
        result = await follow_export(call_id, export, store, on_progress)
    if result.get("lost"):
        await run_in_threadpool(jobs.update_running, job.user_id, job.id, modal_call_id=None)
        raise CallLostError(result["error"])
    if result["status"] != "success":
        raise RemoteFailedError(result["error"])
    warnings = [*_task(job).warnings, *result.get("warnings", [])]
    details = {"frames": result.get("frames"), "warnings": warnings}
    report = {**(result.get("report") or result), "warnings": warnings}
    return JobResult(
        float(result["duration"]),
        without_paths(details),
        without_paths(report),
        modal_used=True,
    )


async def end_call(details: Mapping[str, Any], store: Store) -> None:
    """Ends the call of an `OutsideTask`, and its containers. Deletes its temporary objects.

    Raises `ModalError` and `StoreError` where that must be tried again.
    """
    job = ExportJob(details["folder"], details["user_id"], {}, {}, details["output_key"])
    await cancel_export(details["call_id"], job, store)


async def _new_call(
    job: Job, export: ExportJob, jobs: Jobs, store: Store, settings: Settings
) -> str:
    """Stores the sources and starts a call. Its id is saved, also if this is cancelled."""
    if not await run_in_threadpool(jobs.update_running, job.user_id, job.id, remote=True):
        raise asyncio.CancelledError  # the job was cancelled meanwhile
    job.remote = True
    stopped = threading.Event()
    try:
        folder = settings.work_dir / job.folder
        await run_in_threadpool(_put_sources, job, _task(job), store, folder, stopped)
    finally:
        stopped.set()
    starting = asyncio.ensure_future(_start(job, export, jobs, store))
    try:
        return await asyncio.shield(starting)
    finally:  # both the store and Modal have time limits
        await asyncio.wait([starting])


async def _start(job: Job, export: ExportJob, jobs: Jobs, store: Store) -> str:
    call_id = None
    try:
        call_id = await start_export(export, store)
        return call_id
    finally:
        await run_to_end(jobs.call_started, job.user_id, job.id, call_id)


def _task(job: Job) -> RenderTask:
    task = task_adapter.validate_python(job.request)
    assert isinstance(task, RenderTask), "only render tasks run on Modal"
    return task


def _put_sources(
    job: Job, task: RenderTask, store: Store, folder: Path, stopped: threading.Event
) -> None:
    """Stores uploaded sources where containers can read them. They are removed with the job."""

    def go_on(_: int) -> None:
        if stopped.is_set():
            raise asyncio.CancelledError

    for name in _file_names(task):
        key = _key_of(job, task, name)
        if name not in task.keys and store.stat(key) is None:
            go_on(0)
            store.put_file(key, folder / name, on_bytes=go_on)


def _key_of(job: Job, task: RenderTask, name: str) -> str:
    return task.keys.get(name) or f"{temp_prefix(job)}/sources/{name}"


def _file_names(task: RenderTask) -> list[str]:
    return sorted({clip["fileName"] for clip in task.edit["clips"]})
