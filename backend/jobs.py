"""Jobs as rows: every change of a job's state is one transaction here. Renders nothing.

queued ──▶ running ──▶ done
   ▲ │        │ ├────▶ failed ───┐
   │ └────────┼─┴────▶ cancelled ┤
   └──────────┴── retry ◀────────┘      (and a restart of the server: running ──▶ queued)
"""

from __future__ import annotations

import contextlib
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import func, select, update
from sqlalchemy.exc import IntegrityError
from sqlalchemy.orm import Session

from backend.database import Database
from backend.export_form import ExportRequest
from backend.models import (
    FINISHED,
    UPLOADED_PERCENT,
    Job,
    JobStatus,
    Project,
    WorkingVideo,
    utc_now,
)

UNFINISHED = (JobStatus.QUEUED, JobStatus.RUNNING)


class QueueFullError(Exception):
    """No more jobs are taken now; `whose` is the user's own limit or the server's."""

    def __init__(self, limit: int, own: bool) -> None:
        super().__init__(f"{'you have' if own else 'the server has'} {limit} unfinished exports")
        self.own = own


class ExportIdReusedError(Exception):
    """The export id was used before, for something else."""


class SourcesGoneError(Exception):
    """What a retry would need was cleared away."""


@dataclass(frozen=True, slots=True)
class JobResult:
    """What a finished job has to show."""

    duration_s: float
    details: dict[str, Any]
    """Goes into the answer."""
    report: dict[str, Any]
    modal_used: bool = False


class Jobs:
    """The job table. Every method is one transaction; nobody sees another user's rows."""

    def __init__(self, database: Database, *, limit: int, limit_per_user: int) -> None:
        self._database = database
        self._limit = limit
        self._limit_per_user = limit_per_user

    # asked for by users

    def add(
        self, requested: ExportRequest, user_id: str, folder: str, output_key: str
    ) -> tuple[Job, bool]:
        """Takes a job, or finds the one that was asked for before under this id; True if new.

        Raises `ExportIdReusedError`, `QueueFullError`.
        """
        try:
            with self._database.begin() as session:
                if existing := session.get(Job, (user_id, requested.export_id)):
                    return _same_request(existing, requested), False
                self._check_queue(session, user_id)
                job = Job(
                    user_id=user_id,
                    id=requested.export_id,
                    type=requested.type,
                    project_id=requested.project_id,
                    project_name=requested.project_name,
                    folder=folder,
                    output_key=output_key,
                    request=requested.task.model_dump(mode="json"),
                    request_hash=requested.hash,
                )
                session.add(job)
            return job, True
        except IntegrityError:  # PostgreSQL lets two look at the same time
            with self._database.read() as session:
                existing = session.get_one(Job, (user_id, requested.export_id))
                return _same_request(existing, requested), False

    def check_queue(self, user_id: str) -> None:
        """Raises `QueueFullError` before an upload is read for nothing."""
        with self._database.read() as session:
            self._check_queue(session, user_id)

    def _check_queue(self, session: Session, user_id: str) -> None:
        unfinished = select(func.count()).where(Job.status.in_(UNFINISHED))
        if session.scalars(unfinished.where(Job.user_id == user_id)).one() >= self._limit_per_user:
            raise QueueFullError(self._limit_per_user, own=True)
        if session.scalars(unfinished).one() >= self._limit:
            raise QueueFullError(self._limit, own=False)

    def find(self, user_id: str, export_id: str) -> Job | None:
        with self._database.read() as session:
            return session.get(Job, (user_id, export_id))

    def list(
        self, user_id: str, *, limit: int, before: datetime | None, status: JobStatus | None
    ) -> Sequence[Job]:
        """The user's jobs, newest first."""
        query = select(Job).where(Job.user_id == user_id).order_by(Job.created_at.desc(), Job.id)
        if before is not None:
            query = query.where(Job.created_at < before)
        if status is not None:
            query = query.where(Job.status == status)
        with self._database.read() as session:
            return session.scalars(query.limit(limit)).all()

    def cancel(self, user_id: str, export_id: str) -> Job | None:
        """Cancels what is not finished yet; gives the job as it is then."""
        with self._database.begin() as session:
            job = _locked(session, user_id, export_id)
            if job is not None and job.status in UNFINISHED:
                job.status, job.finished_at, job.message = (
                    JobStatus.CANCELLED,
                    utc_now(),
                    "Cancelled",
                )
                job.error, job.error_status = "the export was cancelled", 409
            return job

    def retry(self, user_id: str, export_id: str) -> Job | None:
        """Queues a failed or cancelled job again. Raises `SourcesGoneError`, `QueueFullError`."""
        with self._database.begin() as session:
            job = _locked(session, user_id, export_id)
            if job is not None and job.status in (JobStatus.FAILED, JobStatus.CANCELLED):
                if not job.leftovers:
                    raise SourcesGoneError
                self._check_queue(session, user_id)
                _queue(job)
                job.attempts = 0
                job.progress = UPLOADED_PERCENT
            return job

    # done by the scheduler

    def queued(self) -> Sequence[Job]:
        """Queued jobs, oldest first."""
        with self._database.read() as session:
            query = select(Job).where(Job.status == JobStatus.QUEUED)
            return session.scalars(query.order_by(Job.created_at, Job.id)).all()

    def start(self, user_id: str, export_id: str) -> Job | None:
        """Takes a queued job into work; None where it was cancelled meanwhile."""
        with self._database.begin() as session:
            job = _locked(session, user_id, export_id)
            if job is None or job.status != JobStatus.QUEUED:
                return None
            job.status, job.started_at, job.attempts = (
                JobStatus.RUNNING,
                utc_now(),
                job.attempts + 1,
            )
            return job

    def update_running(self, user_id: str, export_id: str, **columns: Any) -> None:
        """Writes columns of a job that runs (progress, phase, the id of a call), no others."""
        with self._database.begin() as session:
            session.execute(
                update(Job)
                .where(Job.user_id == user_id, Job.id == export_id)
                .where(Job.status == JobStatus.RUNNING)
                .values(columns)
            )

    def finish(self, user_id: str, export_id: str, result: JobResult) -> Job | None:
        """Publishes the result: the video's row, the project's pointer and the job's end at once.

        The file lies under `output_key` already. None where the job was cancelled meanwhile.
        """
        with self._database.begin() as session:
            job = _locked(session, user_id, export_id)
            if job is None or job.status != JobStatus.RUNNING:
                return None
            video = _new_version(session, job, result.duration_s) if job.project_id else None
            job.result = {
                **result.details,
                "duration_s": result.duration_s,
                "working_video_id": video.id if video else None,
            }
            job.report, job.modal_used = result.report, result.modal_used
            job.status, job.finished_at = JobStatus.DONE, utc_now()
            job.progress, job.phase, job.message = 100.0, "done", "Done"
            return job

    def fail(self, user_id: str, export_id: str, error: str, status: int) -> Job | None:
        """Ends a running job in failure."""
        with self._database.begin() as session:
            job = _locked(session, user_id, export_id)
            if job is None or job.status != JobStatus.RUNNING:
                return None
            job.status, job.finished_at, job.message = JobStatus.FAILED, utc_now(), "Failed"
            job.error, job.error_status = error, status
            return job

    def requeue(self, user_id: str, export_id: str, *, counts: bool) -> None:
        """Puts a running job back in the queue; `counts` as one of its attempts."""
        with self._database.begin() as session:
            job = _locked(session, user_id, export_id)
            if job is not None and job.status == JobStatus.RUNNING:
                _queue(job)
                job.attempts -= not counts

    def recover(self) -> int:
        """After a restart: what was running is queued again. Gives how many."""
        with self._database.begin() as session:
            running = session.scalars(select(Job).where(Job.status == JobStatus.RUNNING)).all()
            for job in running:
                _queue(job)
                job.attempts -= 1
            return len(running)

    def leftovers(self, keep_s: float) -> Sequence[Job]:
        """Finished jobs whose temporary files may go: done ones, and others after `keep_s`."""
        old = utc_now() - timedelta(seconds=keep_s)
        with self._database.read() as session:
            query = select(Job).where(Job.leftovers, Job.status.in_(FINISHED))
            return session.scalars(
                query.where((Job.status == JobStatus.DONE) | (Job.finished_at < old))
            ).all()

    def mark_cleared(self, user_id: str, export_id: str, still: JobStatus) -> None:
        """Notes that nothing temporary of a job is left, if it is `still` what it was."""
        with self._database.begin() as session:
            job = _locked(session, user_id, export_id)
            if job is not None and job.status == still:
                job.leftovers = False

    def folders(self) -> set[str]:
        """Work folders that belong to a job."""
        with self._database.read() as session:
            return set(session.scalars(select(Job.folder).where(Job.leftovers)))


def _same_request(job: Job, requested: ExportRequest) -> Job:
    if job.request_hash != requested.hash:
        raise ExportIdReusedError
    return job


def _locked(session: Session, user_id: str, export_id: str) -> Job | None:
    return session.get(Job, (user_id, export_id), with_for_update=True)


def _queue(job: Job) -> None:
    job.status, job.phase, job.message = JobStatus.QUEUED, "queued", "Waiting"
    job.error = job.error_status = job.finished_at = None


def _new_version(session: Session, job: Job, duration_s: float) -> WorkingVideo:
    """The project's next working video, which the project points at from now on."""
    assert job.project_id is not None
    project = _project(session, job.user_id, job.project_id)
    highest = session.scalar(
        select(func.max(WorkingVideo.version)).where(
            WorkingVideo.user_id == job.user_id, WorkingVideo.project_id == job.project_id
        )
    )
    video = WorkingVideo(
        user_id=job.user_id,
        project_id=job.project_id,
        version=(highest or 0) + 1,
        filename=job.output_key.rpartition("/")[2],
        key=job.output_key,
        duration_s=duration_s,
    )
    session.add(video)
    session.flush()
    project.name = job.project_name or project.name
    project.working_video_id, project.final_video_id = video.id, None
    return video


def _project(session: Session, user_id: str, project_id: str) -> Project:
    """The project, locked; made where it is new."""
    owner = (user_id, project_id)
    if session.get(Project, owner) is None:
        # another export of the project may make it at the same time
        with contextlib.suppress(IntegrityError), session.begin_nested():
            session.add(Project(user_id=user_id, id=project_id))
    return session.get_one(Project, owner, with_for_update=True, populate_existing=True)
