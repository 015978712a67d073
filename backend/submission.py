"""From a form to a job: received, read, inspected, written down, and waited for if so asked."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import structlog
from fastapi import HTTPException, Request
from fastapi.responses import JSONResponse
from starlette.concurrency import run_in_threadpool

from backend import progress_hub
from backend.export_form import CLIPS, ExportRequest
from backend.jobs import ExportIdReusedError, QueueFullError
from backend.models import Job, JobStatus, JobType
from backend.progress_hub import JobKey, ProgressState, share_of, state_of
from backend.responses import finished_answer, job_document
from backend.services import Services
from backend.uploads import Form, receive_form
from backend.worker_pool import WorkError
from engine.storage import user_key

RETRY_AFTER_S = 30

ReadOrder = Callable[[Form], ExportRequest]

log = structlog.get_logger()


async def take_job(
    request: Request, user_id: str, server: Services, read_order: ReadOrder, max_files: int
) -> JSONResponse:
    """Takes the request's job and answers when it is done, or at once if `respond-async` is
    preferred. The same request again, by `export_id`, is answered for the same job."""
    job = await _accepted(request, user_id, server, read_order, max_files)
    return await answer(request, server, job)


async def answer(request: Request, server: Services, job: Job) -> JSONResponse:
    """The job's end, or 202 and where to ask, as the client prefers."""
    if "respond-async" in request.headers.get("prefer", ""):
        return accepted(request, server, job)
    key = job.user_id, job.id
    async for _ in server.hub.watch(key, lambda: row_state(server, key)):
        pass
    ended = await run_in_threadpool(server.jobs.find, *key)
    assert ended is not None, "jobs are not deleted"
    base_url = str(request.base_url)
    if ended.status == JobStatus.DONE:
        return JSONResponse(finished_answer(ended, server, base_url))
    document = {"detail": ended.error, **job_document(ended, server, base_url)}
    return JSONResponse(document, ended.error_status or 409)


def accepted(request: Request, server: Services, job: Job) -> JSONResponse:
    """202: the job is written down."""
    location = {"Location": f"/api/exports/{job.id}"}
    document = job_document(job, server, str(request.base_url))
    return JSONResponse(document, 202, location)


def queue_full(error: QueueFullError) -> HTTPException:
    """429 where it is the user's own limit, else 503."""
    status = 429 if error.own else 503
    return HTTPException(status, f"{error}; try again later", {"Retry-After": str(RETRY_AFTER_S)})


async def _accepted(
    request: Request, user_id: str, server: Services, read_order: ReadOrder, max_files: int
) -> Job:
    uploading = _Uploading(server, user_id)
    try:
        await run_in_threadpool(server.jobs.check_room, user_id)
        with server.cleanup.receiving() as folder:
            form = await receive_form(
                request, folder, server.settings, max_files=max_files, on_bytes=uploading.tell
            )
            order = read_order(form)
            job, is_new = await _written_down(order, user_id, server, folder)
            if not is_new:
                await server.cleanup.discard(folder)
    except QueueFullError as error:
        raise queue_full(error) from error
    except ExportIdReusedError as error:
        uploading.failed("this export id was used for another request")
        raise HTTPException(409, "export_id: was used for another request") from error
    except WorkError as error:
        uploading.failed(error.detail)
        raise HTTPException(error.status, error.detail) from error
    except HTTPException as error:
        uploading.failed(error.detail)
        raise
    if not is_new:
        server.hub.publish((job.user_id, job.id), state_of(job))
    else:
        server.metrics.uploaded.inc(sum(file.size_bytes for file in form.files.values()))
        log.info("job accepted", export_id=job.id, user_id=user_id, type=job.type)
        server.scheduler.queued(job)
    return job


async def _written_down(
    order: ExportRequest, user_id: str, server: Services, folder: Path
) -> tuple[Job, bool]:
    there = await run_in_threadpool(server.jobs.find, user_id, order.export_id)
    if there is None:  # else what comes is compared, and not inspected again
        await server.inspector.check(order.task, folder, user_id)
    key = _output_key(order, user_id, folder.name)
    return await run_in_threadpool(server.jobs.add, order, user_id, folder.name, key)


def _output_key(order: ExportRequest, user_id: str, unique: str) -> str:
    if order.type == JobType.EXTRACT:
        return user_key(user_id, CLIPS, f"extract_{unique[:16]}.mp4")
    owner = order.project_id or order.export_id
    return user_key(user_id, "working_videos", f"working_{owner}_{unique[:8]}.mp4")


async def row_state(server: Services, key: JobKey) -> ProgressState | None:
    """What a job's row says, None where there is none."""
    job = await run_in_threadpool(server.jobs.find, *key)
    return None if job is None else state_of(job)


class _Uploading:
    """Tells who watches an export how much of it has come, while there is no job yet."""

    def __init__(self, server: Services, user_id: str) -> None:
        self._hub = server.hub
        self._user_id = user_id
        self._key: JobKey | None = None

    def tell(self, form: Form, share: float) -> None:
        export_id = form.fields.get("export_id")
        if export_id is None:
            return
        key = self._user_id, export_id
        if self._key is None and self._hub.state(key) is not None:
            return  # a job, or another upload under this id
        self._key = key
        percent = share_of(progress_hub.UPLOAD, share)
        self._hub.publish(key, ProgressState(None, "upload", percent, "Uploading"))

    def failed(self, why: str) -> None:
        """Tells those who watch that nothing will come of it."""
        if self._key is not None:
            state = ProgressState(JobStatus.FAILED, "upload", 0.0, "Refused", error=why)
            self._hub.publish(self._key, state)
