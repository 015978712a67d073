"""Builds the JSON responses about jobs and videos from their rows. Changes nothing."""

from __future__ import annotations

from typing import Any
from urllib.parse import urljoin

from backend.export_form import CLIPS
from backend.jobs import SOURCES_GONE_STATUS
from backend.models import Job, JobStatus, JobType
from backend.progress_hub import public_id
from backend.services import Services
from backend.tasks import ExtractTask, task_adapter


def finished_document(job: Job, services: Services, base_url: str) -> dict[str, Any]:
    """The response for a finished export, with both names of each field that the app reads."""
    filename = job.output_key.rpartition("/")[2]
    result: dict[str, Any] = job.result or {}
    task = task_adapter.validate_python(job.request)
    document: dict[str, Any] = {
        "success": True,
        "status": "success",
        "export_id": job.id,
        "project_id": public_id(job.project_id),
        "working_video_id": result.get("working_video_id"),
        "working_filename": filename,
        "filename": filename,
        "presigned_url": video_url(job, services, base_url),
        "clips_processed": 1 if isinstance(task, ExtractTask) else len(task.edit["clips"]),
        "modal_used": job.modal_used,
        "video_duration": result.get("duration_s"),
    }
    if job.type == JobType.EXTRACT:
        document["key"] = job.output_key.partition(f"/{CLIPS}/")[2]
    return {**result, **document}


def video_url(job: Job, services: Services, base_url: str, *, file_name: str | None = None) -> str:
    """A signed URL of a finished job's file. It is absolute, also without `PUBLIC_URL`.

    A browser that opens it plays the film. With `file_name` it saves it under that name.
    """
    url = services.store.url(job.output_key, services.settings.url_lifetime_s, file_name=file_name)
    return urljoin(base_url, url)


def job_document(job: Job, services: Services, base_url: str) -> dict[str, Any]:
    """A job as it is now. `result` is the response that `POST` gives for a finished job."""
    state = services.hub.state((job.user_id, job.id))
    return {
        "export_id": job.id,
        "type": job.type,
        "status": job.status,
        "progress": round(max(job.progress, state.percent if state else 0.0), 1),
        "phase": state.phase if state and job.status == JobStatus.RUNNING else job.phase,
        "message": state.message if state else job.message,
        "project_id": public_id(job.project_id),
        "project_name": job.project_name,
        "error": job.error,
        "attempts": job.attempts,
        "warnings": job.warnings,
        "can_retry": (
            job.leftovers
            and job.status in (JobStatus.FAILED, JobStatus.CANCELLED)
            and job.error_status != SOURCES_GONE_STATUS
        ),
        "modal_used": job.modal_used,
        "created_at": job.created_at.isoformat(),
        "started_at": job.started_at and job.started_at.isoformat(),
        "finished_at": job.finished_at and job.finished_at.isoformat(),
        "result": finished_document(job, services, base_url)
        if job.status == JobStatus.DONE
        else None,
    }
