"""Takes a job from a form: receives it, checks it, adds the job, and waits for it if asked to."""

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
from backend.progress_hub import JobKey, ProgressState, percent_within, state_from_job
from backend.responses import finished_document, job_document
from backend.services import Services
from backend.threads import run_to_end
from backend.uploads import Form, receive_form
from backend.worker_pool import WorkError
from engine.storage import user_key

RETRY_AFTER_S = 30

ReadForm = Callable[[Form], ExportRequest]

log = structlog.get_logger()


async def submit_job(
    request: Request, user_id: str, server: Services, read_form: ReadForm, max_files: int
) -> JSONResponse:
    """Takes the request's job. Responds when it is done, or at once with `Prefer: respond-async`.

    The same request again, with the same `export_id`, gets the response for the same job.
    Raises `HTTPException`.
    """
    job = await _receive_job(request, user_id, server, read_form, max_files)
    return await respond(request, server, job)


async def respond(request: Request, server: Services, job: Job) -> JSONResponse:
    """Waits for the job's end and responds. With `Prefer: respond-async`, responds 202 at once."""
    if "respond-async" in request.headers.get("prefer", ""):
        return accepted_response(request, server, job)
    key = job.user_id, job.id
    async for _ in server.hub.watch(key, lambda: stored_state(server, key)):
        pass
    ended = await run_in_threadpool(server.jobs.find, *key)
    assert ended is not None, "jobs are not deleted"
    base_url = str(request.base_url)
    if ended.status == JobStatus.DONE:
        return JSONResponse(finished_document(ended, server, base_url))
    document = {"detail": ended.error, **job_document(ended, server, base_url)}
    return JSONResponse(document, ended.error_status or 409)


def accepted_response(request: Request, server: Services, job: Job) -> JSONResponse:
    """202: the job was accepted. `Location` says where its state is."""
    location = {"Location": f"/api/exports/{job.id}"}
    document = job_document(job, server, str(request.base_url))
    return JSONResponse(document, 202, location)


def queue_full_error(error: QueueFullError) -> HTTPException:
    """429 if the user's own limit was reached, 503 if the server's was."""
    status = 429 if error.own else 503
    return HTTPException(status, f"{error}; try again later", {"Retry-After": str(RETRY_AFTER_S)})


async def _receive_job(
    request: Request, user_id: str, server: Services, read_form: ReadForm, max_files: int
) -> Job:
    upload_progress = _UploadProgress(server, user_id)
    try:
        job, form = await _take_form(
            request, user_id, server, read_form, max_files, upload_progress.report
        )
    except HTTPException as error:
        upload_progress.failed(error.detail)
        raise
    except BaseException:  # whatever else it is, nobody may wait for this upload any longer
        upload_progress.failed("the server failed or was stopped; send it again")
        raise
    if form is None:
        server.hub.publish((job.user_id, job.id), state_from_job(job))
    else:
        server.metrics.uploaded.inc(sum(file.size_bytes for file in form.files.values()))
        log.info("job accepted", export_id=job.id, user_id=user_id, type=job.type)
        server.scheduler.queued(job)
    return job


async def _take_form(
    request: Request,
    user_id: str,
    server: Services,
    read_form: ReadForm,
    max_files: int,
    on_bytes: Callable[[Form, float], None],
) -> tuple[Job, Form | None]:
    """The job of a request and its form, or None for the form if the job was there before.

    Raises `HTTPException`.
    """
    try:
        await run_in_threadpool(server.jobs.check_queue, user_id)
        with server.cleanup.receiving() as folder:
            form = await receive_form(
                request, folder, server.settings, max_files=max_files, on_bytes=on_bytes
            )
            job, is_new = await _record_job(read_form(form), user_id, server, folder)
            if not is_new:
                await server.cleanup.discard(folder)
            return job, form if is_new else None
    except QueueFullError as error:
        raise queue_full_error(error) from error
    except ExportIdReusedError as error:
        raise HTTPException(409, "export_id: was used for a different request") from error
    except WorkError as error:
        raise HTTPException(error.status, error.detail) from error


async def _record_job(
    requested: ExportRequest, user_id: str, server: Services, folder: Path
) -> tuple[Job, bool]:
    """The request's job, and whether it is new. A new one is whole also if this is cancelled."""
    existing = await run_in_threadpool(server.jobs.find, user_id, requested.export_id)
    warnings: list[str] = []
    if existing is None:  # else the request is compared with it, and not inspected again
        found = await server.inspector.check(requested.task, folder, user_id)
        warnings = found["warnings"]
    key = _output_key(requested, user_id, folder.name)
    return await run_to_end(server.jobs.add, requested, user_id, folder.name, key, warnings)


def _output_key(requested: ExportRequest, user_id: str, unique: str) -> str:
    if requested.type == JobType.EXTRACT:
        return user_key(user_id, CLIPS, f"extract_{unique[:16]}.mp4")
    owner = requested.project_id or requested.export_id
    return user_key(user_id, "working_videos", f"working_{owner}_{unique[:8]}.mp4")


async def stored_state(server: Services, key: JobKey) -> ProgressState | None:
    """The state in the job's row, None if there is no such job."""
    job = await run_in_threadpool(server.jobs.find, *key)
    return None if job is None else state_from_job(job)


class _UploadProgress:
    """Publishes how much of an upload has come, while there is no job yet."""

    def __init__(self, server: Services, user_id: str) -> None:
        self._hub = server.hub
        self._user_id = user_id
        self._key: JobKey | None = None

    def report(self, form: Form, share: float) -> None:
        """Publishes the share (0 to 1) received, once the form's `export_id` is known."""
        export_id = form.fields.get("export_id")
        if export_id is None:
            return
        key = self._user_id, export_id
        if self._key is None and self._hub.state(key) is not None:
            return  # a job, or another upload under this id
        self._key = key
        percent = percent_within(progress_hub.UPLOAD, share)
        self._hub.publish(key, ProgressState(None, "upload", percent, "Uploading"))

    def failed(self, reason: str) -> None:
        """Publishes that the upload was refused."""
        if self._key is not None:
            state = ProgressState(JobStatus.FAILED, "upload", 0.0, "Refused", error=reason)
            self._hub.publish(self._key, state)
