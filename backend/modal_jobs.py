"""Runs a job on Modal: puts its sources into the store, starts one call, follows it to its result.

The call's id is written into the job's row before the call is followed, so that a restarted server
follows the same call. Loads Modal's client: imported only if Modal is enabled.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from pathlib import Path

from starlette.concurrency import run_in_threadpool

from backend.cleanup import temp_prefix
from backend.jobs import JobResult
from backend.modal_client import (
    ExportJob,
    ProgressCallback,
    cancel_export,
    follow_export,
    start_export,
)
from backend.modal_client import ModalError as ModalError
from backend.models import Job
from backend.settings import Settings
from backend.tasks import ExportMode, RenderTask, task_adapter
from engine.storage import Store


class RemoteFailedError(Exception):
    """The export ran on Modal and failed."""


def export_job(job: Job, settings: Settings) -> ExportJob:
    """The job for the functions on Modal. The same row always gives the same value."""
    task = _task(job)
    best_quality = task.mode is ExportMode.QUALITY
    return ExportJob(
        job_id=job.folder,
        user_id=job.user_id,
        edit=task.edit,
        source_keys={name: _key_of(job, task, name) for name in _file_names(task)},
        output_key=job.output_key,
        upscaler=settings.upscaler,
        encoder="libx264" if best_quality and settings.encoder == "auto" else settings.encoder,
        preset="medium" if best_quality else None,
    )


async def render(
    job: Job,
    store: Store,
    settings: Settings,
    on_call: Callable[[str], Awaitable[None]],
    on_progress: ProgressCallback,
) -> JobResult:
    """The result of the job's call. Starts a call if the job has none yet.

    `on_call` must save the call's id. Cancelling this coroutine does not end the call; `stop` does.
    Raises `ModalError` if Modal cannot take the job, and `RemoteFailedError` if the export failed.
    """
    task, export = _task(job), export_job(job, settings)
    call_id = job.modal_call_id
    if call_id is None:
        await run_in_threadpool(_put_sources, job, task, store, settings.work_dir / job.folder)
        # a call that was asked for exists: its id must be saved even if this coroutine is cancelled
        call_id = await asyncio.shield(_start(export, store, on_call))
    result = await follow_export(call_id, export, store, on_progress)
    if result["status"] != "success":
        raise RemoteFailedError(result["error"])
    details = {"frames": result.get("frames"), "warnings": result.get("warnings", [])}
    report = result.get("report") or result
    return JobResult(float(result["duration"]), details, report, modal_used=True)


async def stop(job: Job, store: Store, settings: Settings) -> None:
    """Ends the job's call and its containers, if it has a call. Raises `ModalError`."""
    if job.modal_call_id is not None:
        await cancel_export(job.modal_call_id, export_job(job, settings), store)


async def _start(export: ExportJob, store: Store, on_call: Callable[[str], Awaitable[None]]) -> str:
    call_id = await start_export(export, store)
    await on_call(call_id)
    return call_id


def _task(job: Job) -> RenderTask:
    task = task_adapter.validate_python(job.request)
    assert isinstance(task, RenderTask), "only render tasks run on Modal"
    return task


def _put_sources(job: Job, task: RenderTask, store: Store, folder: Path) -> None:
    """Stores uploaded sources where containers can read them. They are removed with the job."""
    for name in _file_names(task):
        key = _key_of(job, task, name)
        if name not in task.keys and store.stat(key) is None:
            store.put_file(key, folder / name)


def _key_of(job: Job, task: RenderTask, name: str) -> str:
    return task.keys.get(name) or f"{temp_prefix(job)}/sources/{name}"


def _file_names(task: RenderTask) -> list[str]:
    return sorted({clip["fileName"] for clip in task.edit["clips"]})
