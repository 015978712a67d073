"""The job table: every change of a job's state is one transaction here. Renders nothing.

queued ──▶ running ──▶ done
   ▲ │        │ ├────▶ failed ───┐
   │ └────────┼─┴────▶ cancelled ┤
   └──────────┴── retry ◀────────┘      (and a restart of the server: running ──▶ queued, failed)
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Sequence
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
    OutsideTask,
    OutsideTaskKind,
    Project,
    WorkingVideo,
    utc_now,
)

UNFINISHED = (JobStatus.QUEUED, JobStatus.RUNNING)


class QueueFullError(Exception):
    """The queue is full. `own`: the user's own limit was reached, not the server's."""

    def __init__(self, limit: int, own: bool) -> None:
        super().__init__(f"{'you have' if own else 'the server has'} {limit} unfinished exports")
        self.own = own


class ExportIdReusedError(Exception):
    """The export id was used before, for a different request."""


SOURCES_GONE_STATUS = 410
"""The HTTP status of a job whose clips are gone."""


class SourcesGoneError(Exception):
    """The files that a retry needs were removed."""


@dataclass(frozen=True, slots=True)
class JobResult:
    """The result of a finished job."""

    duration_s: float
    details: dict[str, Any]
    """Merged into the response."""
    report: dict[str, Any]
    modal_used: bool = False


class Jobs:
    """The job table. Every method is one transaction. Users never see rows of other users."""

    def __init__(self, database: Database, *, limit: int, limit_per_user: int) -> None:
        self._database = database
        self._limit = limit
        self._limit_per_user = limit_per_user

    # called for users

    def add(
        self,
        requested: ExportRequest,
        user_id: str,
        folder: str,
        output_key: str,
        warnings: Sequence[str] = (),
    ) -> tuple[Job, bool]:
        """Adds a job, or finds the job of the same request. The second value is True if it is new.

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
                    warnings=list(warnings),
                )
                session.add(job)
            return job, True
        except IntegrityError:  # on PostgreSQL two requests may look at the same time
            with self._database.read() as session:
                existing = session.get_one(Job, (user_id, requested.export_id))
                return _same_request(existing, requested), False

    def check_queue(self, user_id: str) -> None:
        """Raises `QueueFullError`. Called before an upload is read, which may take long."""
        with self._database.read() as session:
            self._check_queue(session, user_id)

    def _check_queue(self, session: Session, user_id: str) -> None:
        unfinished = select(func.count()).where(Job.status.in_(UNFINISHED))
        if session.scalars(unfinished.where(Job.user_id == user_id)).one() >= self._limit_per_user:
            raise QueueFullError(self._limit_per_user, own=True)
        if session.scalars(unfinished).one() >= self._limit:
            raise QueueFullError(self._limit, own=False)

    def find(self, user_id: str, export_id: str) -> Job | None:
        """The user's job, None if there is none."""
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
        """Cancels a job that is not finished. Returns the job as it is afterwards."""
        with self._database.begin() as session:
            job = _locked(session, user_id, export_id)
            if job is not None and job.status in UNFINISHED:
                job.status, job.finished_at, job.message = (
                    JobStatus.CANCELLED,
                    utc_now(),
                    "Cancelled",
                )
                job.error, job.error_status = "the export was cancelled", 409
                _end_call(session, job, job.modal_call_id)
            return job

    def retry(
        self, user_id: str, export_id: str, keeps_files: Callable[[Job], bool] = lambda _: True
    ) -> Job | None:
        """Queues a failed or cancelled job again, whose files are still there.

        Raises `SourcesGoneError`, `QueueFullError`.
        """
        with self._database.begin() as session:
            job = _locked(session, user_id, export_id)
            if job is not None and job.status in (JobStatus.FAILED, JobStatus.CANCELLED):
                if not job.leftovers or not keeps_files(job):
                    raise SourcesGoneError
                self._check_queue(session, user_id)
                if job.modal_call_id is not None:  # written by an earlier version of the server
                    _end_call(session, job, job.modal_call_id)
                _queue(job)
                job.attempts = 0
                job.progress, job.progress_at_start = UPLOADED_PERCENT, 0.0
            return job

    # called by the scheduler

    def queued(self) -> Sequence[Job]:
        """Queued jobs, oldest first."""
        with self._database.read() as session:
            query = select(Job).where(Job.status == JobStatus.QUEUED)
            return session.scalars(query.order_by(Job.created_at, Job.id)).all()

    def start(self, user_id: str, export_id: str) -> Job | None:
        """Marks a queued job as running. None if it was cancelled meanwhile."""
        with self._database.begin() as session:
            job = _locked(session, user_id, export_id)
            if job is None or job.status != JobStatus.QUEUED:
                return None
            job.status, job.started_at, job.attempts = (
                JobStatus.RUNNING,
                utc_now(),
                job.attempts + 1,
            )
            job.message = "Starting"
            job.progress_at_start = max(job.progress_at_start, job.progress)
            return job

    def update_running(self, user_id: str, export_id: str, **columns: Any) -> bool:
        """Writes columns (progress, phase, ...) of the job. False if it is not running."""
        with self._database.begin() as session:
            written = session.execute(
                update(Job)
                .where(Job.user_id == user_id, Job.id == export_id)
                .where(Job.status == JobStatus.RUNNING)
                .values(columns)
                .returning(Job.id)
            )
            return written.first() is not None

    def call_started(self, user_id: str, export_id: str, call_id: str | None) -> None:
        """Saves the id of the job's call, None if it is not known whether there is one.

        If the job is not running any more, the call must end.
        """
        with self._database.begin() as session:
            job = _locked(session, user_id, export_id)
            assert job is not None
            if job.status == JobStatus.RUNNING:
                job.modal_call_id = call_id
            else:
                _end_call(session, job, call_id)

    def end_call(self, user_id: str, export_id: str) -> None:
        """Notes that the call of a running job must end: the job is rendered here instead."""
        with self._database.begin() as session:
            job = _locked(session, user_id, export_id)
            if job is not None and job.status == JobStatus.RUNNING:
                _end_call(session, job, job.modal_call_id)

    def finish(self, user_id: str, export_id: str, result: JobResult) -> Job | None:
        """Publishes the result: writes the video's row, the project's pointer and the job's end.

        The file must already be stored at `output_key`. None if the job was cancelled meanwhile.
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
            job.warnings = result.details.get("warnings", job.warnings)
            job.status, job.finished_at = JobStatus.DONE, utc_now()
            job.progress, job.phase, job.message = 100.0, "done", "Done"
            _end_call(session, job, None)  # it has ended, and may have left something
            return job

    def fail(self, user_id: str, export_id: str, error: str, status: int) -> Job | None:
        """Marks a running job as failed. `status` is the HTTP status. None if it is not running."""
        with self._database.begin() as session:
            job = _locked(session, user_id, export_id)
            if job is None or job.status != JobStatus.RUNNING:
                return None
            _fail(session, job, error, status)
            return job

    def requeue(
        self, user_id: str, export_id: str, *, counts: bool, message: str = "Waiting"
    ) -> Job | None:
        """Puts a running job back into the queue. `counts`: this run was one of its attempts.

        `message` says what it waits for. None if it is not running.
        """
        with self._database.begin() as session:
            job = _locked(session, user_id, export_id)
            if job is None or job.status != JobStatus.RUNNING:
                return None
            _queue(job)
            job.attempts -= not counts
            job.message = message
            return job

    def requeue_running(self) -> None:
        """When the server stops: puts all running jobs back into the queue. None was an attempt."""
        with self._database.begin() as session:
            for job in session.scalars(select(Job).where(Job.status == JobStatus.RUNNING)):
                _queue(job)
                job.attempts -= 1

    def recover(self, max_attempts: int) -> Sequence[Job]:
        """After a crash of the server: queues its running jobs again, or fails them. Returns them.

        The job may have caused the crash, so the run was one of its attempts. It was none if it got
        further than every run before it, or followed a call on Modal, which goes on by itself.
        """
        with self._database.begin() as session:
            running = session.scalars(select(Job).where(Job.status == JobStatus.RUNNING)).all()
            for job in running:
                if job.modal_call_id is not None or job.progress > job.progress_at_start:
                    job.attempts -= 1
                if job.attempts < max_attempts:
                    _queue(job)
                else:
                    reason = (
                        "the server went down while this export was at work, and that was attempt "
                        f"{job.attempts} of {max_attempts}; it can be retried"
                    )
                    _fail(session, job, reason, 500)
            return running

    def leftovers(self, keep_s: float) -> Sequence[Job]:
        """Finished jobs whose temporary files may be removed.

        Those of done jobs at once, those of failed and cancelled jobs after `keep_s` seconds.
        """
        old = utc_now() - timedelta(seconds=keep_s)
        with self._database.read() as session:
            query = select(Job).where(Job.leftovers, Job.status.in_(FINISHED))
            return session.scalars(
                query.where((Job.status == JobStatus.DONE) | (Job.finished_at < old))
            ).all()

    def mark_cleared(self, user_id: str, export_id: str, still: JobStatus) -> None:
        """Notes that the job has no temporary files left, if its status is still `still`."""
        with self._database.begin() as session:
            job = _locked(session, user_id, export_id)
            if job is not None and job.status == still:
                job.leftovers = False

    def folders(self) -> set[str]:
        """Names of the work folders that belong to a job."""
        with self._database.read() as session:
            return set(session.scalars(select(Job.folder).where(Job.leftovers)))


def _same_request(job: Job, requested: ExportRequest) -> Job:
    if job.request_hash != requested.hash:
        raise ExportIdReusedError
    return job


def _locked(session: Session, user_id: str, export_id: str) -> Job | None:
    return session.get(Job, (user_id, export_id), with_for_update=True)


def _end_call(session: Session, job: Job, call_id: str | None) -> None:
    """Notes what has to happen outside before the job has left nothing there.

    Does nothing for a job that never went to Modal. The job has no call from here on.
    """
    if job.remote:
        details = {
            "user_id": job.user_id,
            "export_id": job.id,
            "folder": job.folder,
            "output_key": job.output_key,
            "call_id": call_id,
        }
        session.add(OutsideTask(kind=OutsideTaskKind.CANCEL_CALL, details=details))
        job.modal_call_id = None


def _fail(session: Session, job: Job, error: str, status: int) -> None:
    job.status, job.finished_at, job.message = JobStatus.FAILED, utc_now(), "Failed"
    job.error, job.error_status = error, status
    _end_call(session, job, job.modal_call_id)


def _queue(job: Job) -> None:
    job.status, job.phase, job.message = JobStatus.QUEUED, "queued", "Waiting"
    job.error = job.error_status = job.finished_at = None


def _new_version(session: Session, job: Job, duration_s: float) -> WorkingVideo:
    """Adds the project's next working video and points the project at it."""
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
    """The project, locked. It is created if it is new."""
    owner = (user_id, project_id)
    if session.get(Project, owner) is None:
        # another export of the project may create it at the same time
        with contextlib.suppress(IntegrityError), session.begin_nested():
            session.add(Project(user_id=user_id, id=project_id))
    return session.get_one(Project, owner, with_for_update=True, populate_existing=True)
