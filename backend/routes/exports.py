"""Routes of exports: start, list, show, cancel, retry, fetch."""

from __future__ import annotations

from datetime import datetime
from functools import partial
from typing import Annotated, Any

from fastapi import APIRouter, HTTPException, Path, Query, Request
from fastapi.responses import JSONResponse, RedirectResponse

from backend import export_form
from backend.access import User
from backend.api_document import errors
from backend.jobs import QueueFullError, SourcesGoneError
from backend.models import Job, JobStatus
from backend.responses import job_document, video_url
from backend.services import Server
from backend.submission import accepted_response, queue_full_error, submit_job
from backend.uploads import receive_form
from backend.worker_pool import WorkError

router = APIRouter(prefix="/api", tags=["exports"])

ExportId = Annotated[str, Path(max_length=128)]


def form_body(required: list[str], **fields: str) -> dict[str, Any]:
    """OpenAPI description of a form that is read as a stream. `fields`: name to description."""
    properties = {
        name: {"type": "string", "description": description}
        | ({"format": "binary"} if name.startswith("video") else {})
        for name, description in fields.items()
    }
    schema = {"type": "object", "properties": properties, "required": required}
    return {
        "requestBody": {"required": True, "content": {"multipart/form-data": {"schema": schema}}}
    }


_COMMON = {
    "export_id": "the client's own id; the same request again is the same job",
    "project_id": "the finished video becomes this project's working video",
    "project_name": "shown with its progress",
    "target_fps": "30, 29.97, 30000/1001",
    "target_width": "pixels",
    "target_height": "pixels",
    "export_mode": "fast or quality",
    "include_audio": "true or false",
}


_OF_A_JOB: dict[int | str, dict[str, Any]] = {
    200: {"description": "The export is done."},
    202: {"description": "The export was accepted."},
    **errors(409, 410, 411, 415, 422, 429, 500, 502, 507),
}


@router.post(
    "/export/multi-clip",
    responses=_OF_A_JOB,
    openapi_extra=form_body(
        ["multi_clip_data_json"],
        multi_clip_data_json="the edit document: clips and transition; a clip may have a `key`",
        video_0="the file of the clip with clipIndex 0, and so on",
        **_COMMON,
    ),
)
async def multi_clip(request: Request, user: User, server: Server) -> JSONResponse:
    """Export clips to one video. Responds when it is done, with `Prefer: respond-async` at once."""
    limit = server.settings.max_clips
    read = partial(export_form.multi_clip, user_id=user, max_clips=limit)
    return await submit_job(request, user, server, read, max_files=limit)


@router.post(
    "/export/upscale",
    responses=_OF_A_JOB,
    openapi_extra=form_body(
        [],
        video="the clip",
        key="a stored clip instead",
        keyframes_json="its crop keyframes",
        segment_data_json="its trim range and speed segments",
        **_COMMON,
    ),
)
async def upscale(request: Request, user: User, server: Server) -> JSONResponse:
    """Export one clip."""
    read = partial(export_form.upscale, user_id=user)
    return await submit_job(request, user, server, read, max_files=1)


@router.post(
    "/export/chapters",
    responses=errors(411, 415, 422, 500, 507),
    openapi_extra=form_body(["video"], video="a video with chapters"),
)
async def chapters(request: Request, user: User, server: Server) -> dict[str, Any]:
    """The chapters and facts of a video. The server does not keep the video."""
    with server.cleanup.receiving() as folder:
        try:
            form = await receive_form(request, folder, server.settings, max_files=1)
            if "video" not in form.files:
                export_form.refuse(400, "video", "is missing")
            found = await server.inspector.probe(folder, str(form.files["video"].path), user)
        except WorkError as error:
            raise HTTPException(error.status, error.detail) from error
        finally:
            await server.cleanup.discard(folder)
    return {"success": True, "duration": found["file"]["durationSeconds"], **found}


@router.post(
    "/clips/extract",
    responses=_OF_A_JOB,
    openapi_extra=form_body(
        ["start", "end"],
        video="the video",
        key="a stored clip instead",
        start="seconds",
        end="seconds",
        export_id=_COMMON["export_id"],
    ),
)
async def extract(request: Request, user: User, server: Server) -> JSONResponse:
    """Cut a range out of a video, exact to the frame, and store it as a clip."""
    read = partial(export_form.extract, user_id=user)
    return await submit_job(request, user, server, read, max_files=1)


@router.get("/exports")
def list_exports(
    request: Request,
    user: User,
    server: Server,
    limit: Annotated[int, Query(ge=1, le=200)] = 50,
    before: datetime | None = None,
    status: JobStatus | None = None,
) -> dict[str, Any]:
    """The user's exports, newest first. `before` continues from a `created_at`."""
    if before is not None and before.tzinfo is None:
        raise HTTPException(422, "before: needs a time zone")
    jobs = server.jobs.list(user, limit=limit, before=before, status=status)
    base_url = str(request.base_url)
    return {"exports": [job_document(job, server, base_url) for job in jobs]}


@router.get("/exports/{export_id}", responses=errors(404))
def get_export(request: Request, user: User, server: Server, export_id: ExportId) -> dict[str, Any]:
    """One export."""
    job = existing(server.jobs.find(user, export_id))
    return job_document(job, server, str(request.base_url))


@router.delete("/exports/{export_id}", responses=errors(404))
async def cancel(
    request: Request, user: User, server: Server, export_id: ExportId
) -> dict[str, Any]:
    """Cancel an export that is not finished. A finished one does not change."""
    job = existing(await server.scheduler.cancel((user, export_id)))
    return job_document(job, server, str(request.base_url))


@router.post("/exports/{export_id}/retry", status_code=202, responses=errors(404, 410, 429))
async def retry(request: Request, user: User, server: Server, export_id: ExportId) -> JSONResponse:
    """Queue a failed or cancelled export again. Its finished chunks are reused."""
    try:
        job = existing(await server.scheduler.retry((user, export_id)))
    except SourcesGoneError:
        raise HTTPException(410, "its clips were removed; send them again") from None
    except QueueFullError as error:
        raise queue_full_error(error) from error
    return accepted_response(request, server, job)


@router.get("/exports/{export_id}/report", responses=errors(404, 409))
def report(user: User, server: Server, export_id: ExportId) -> dict[str, Any]:
    """The report: what was done, with what and why, and how long each part took."""
    job = existing(server.jobs.find(user, export_id))
    if job.report is None:
        raise HTTPException(409, f"the export is {job.status}: there is no report yet")
    return job.report


@router.get("/exports/{export_id}/download", status_code=307, responses=errors(404, 409))
def download(request: Request, user: User, server: Server, export_id: ExportId) -> RedirectResponse:
    """The finished video, to be saved: redirects to a URL that expires."""
    job = existing(server.jobs.find(user, export_id))
    if job.status != JobStatus.DONE:
        raise HTTPException(409, f"the export is {job.status}: there is no video yet")
    name = job.output_key.rpartition("/")[2]
    return RedirectResponse(video_url(job, server, str(request.base_url), file_name=name), 307)


def existing(job: Job | None) -> Job:
    """The job. Raises 404 if there is none, or if it belongs to another user."""
    if job is None:
        raise HTTPException(404, "there is no such export")
    return job
