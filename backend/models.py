"""The database tables. Migrations create them."""

from __future__ import annotations

from datetime import UTC, datetime
from enum import StrEnum
from typing import Any

from sqlalchemy import JSON, DateTime, ForeignKeyConstraint, Index, String, Text, UniqueConstraint
from sqlalchemy.engine import Dialect
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column
from sqlalchemy.types import TypeDecorator


class UtcDateTime(TypeDecorator[datetime]):
    """A moment in UTC. SQLite drops the time zone, so it is added again on reading."""

    impl = DateTime(timezone=True)
    cache_ok = True

    def process_result_value(self, value: datetime | None, dialect: Dialect) -> datetime | None:  # noqa: ARG002
        """See `TypeDecorator`."""
        return value if value is None or value.tzinfo else value.replace(tzinfo=UTC)


def utc_now() -> datetime:
    """The time now, in UTC."""
    return datetime.now(UTC)


UPLOADED_PERCENT = 10.0
"""Percent at which a new job starts: its upload is complete."""


class JobStatus(StrEnum):
    """The status of a job. The last three are final, unless the job is retried."""

    QUEUED = "queued"
    RUNNING = "running"
    DONE = "done"
    FAILED = "failed"
    CANCELLED = "cancelled"


FINISHED = (JobStatus.DONE, JobStatus.FAILED, JobStatus.CANCELLED)


class JobType(StrEnum):
    """The kind of request that a job came from."""

    MULTI_CLIP = "multi_clip"
    UPSCALE = "upscale"
    EXTRACT = "extract"


class Base(DeclarativeBase):
    """Base class of all tables."""

    type_annotation_map = {dict[str, Any]: JSON, datetime: UtcDateTime}  # noqa: RUF012


class Project(Base):
    """A user's project, and its newest videos."""

    __tablename__ = "projects"

    user_id: Mapped[str] = mapped_column(String(64), primary_key=True)
    id: Mapped[str] = mapped_column(String(128), primary_key=True)
    name: Mapped[str] = mapped_column(Text, default="")
    working_video_id: Mapped[int | None]
    final_video_id: Mapped[int | None]
    """Set by the app. A new working video resets it."""
    created_at: Mapped[datetime] = mapped_column(default=utc_now)


class WorkingVideo(Base):
    """One finished export of a project. The project shows the highest version."""

    __tablename__ = "working_videos"
    __table_args__ = (
        UniqueConstraint("user_id", "project_id", "version"),
        UniqueConstraint("key"),
        ForeignKeyConstraint(["user_id", "project_id"], ["projects.user_id", "projects.id"]),
    )

    id: Mapped[int] = mapped_column(primary_key=True)
    user_id: Mapped[str] = mapped_column(String(64))
    project_id: Mapped[str] = mapped_column(String(128))
    version: Mapped[int]
    filename: Mapped[str] = mapped_column(String(255))
    key: Mapped[str] = mapped_column(String(512))
    """Its key in the store."""
    duration_s: Mapped[float]
    created_at: Mapped[datetime] = mapped_column(default=utc_now)


class Job(Base):
    """An export, from the moment it is accepted. Clients choose the ids, so ids are per user."""

    __tablename__ = "export_jobs"
    __table_args__ = (
        Index("ix_export_jobs_status", "status"),
        Index("ix_export_jobs_listed", "user_id", "created_at"),
    )

    user_id: Mapped[str] = mapped_column(String(64), primary_key=True)
    id: Mapped[str] = mapped_column(String(128), primary_key=True)
    type: Mapped[JobType] = mapped_column(String(16))
    status: Mapped[JobStatus] = mapped_column(String(16), default=JobStatus.QUEUED)
    project_id: Mapped[str | None] = mapped_column(String(128))
    project_name: Mapped[str] = mapped_column(Text, default="")
    folder: Mapped[str] = mapped_column(String(32))
    """Name of its folder in `Settings.work_dir`."""
    output_key: Mapped[str] = mapped_column(String(512))
    """Key of its result in the store, chosen before the job runs."""
    request: Mapped[dict[str, Any]]
    """A `backend.tasks.Task` as JSON."""
    request_hash: Mapped[str] = mapped_column(String(64))
    """Tells a repeated request from a different one with the same id."""
    warnings: Mapped[list[str]] = mapped_column(JSON, default=list)
    """Of its plan, and once it is done of its report."""
    result: Mapped[dict[str, Any] | None]
    report: Mapped[dict[str, Any] | None]
    error: Mapped[str | None] = mapped_column(Text)
    error_status: Mapped[int | None]
    """The HTTP status that fits the error."""
    progress: Mapped[float] = mapped_column(default=UPLOADED_PERCENT)
    """Percent, as last written. While the job runs, the progress hub is newer."""
    phase: Mapped[str] = mapped_column(String(16), default="queued")
    message: Mapped[str] = mapped_column(Text, default="Waiting")
    attempts: Mapped[int] = mapped_column(default=0)
    progress_at_start: Mapped[float] = mapped_column(default=0.0)
    """The highest percent ever reached, as it was when the job was last started."""
    modal_call_id: Mapped[str | None] = mapped_column(String(64))
    modal_used: Mapped[bool] = mapped_column(default=False)
    remote: Mapped[bool] = mapped_column(default=False)
    """True from before its first temporary object is put into the store for Modal."""
    leftovers: Mapped[bool] = mapped_column(default=True)
    """True until its work folder and its temporary objects have been removed."""
    created_at: Mapped[datetime] = mapped_column(default=utc_now)
    started_at: Mapped[datetime | None]
    finished_at: Mapped[datetime | None]


class ApiKey(Base):
    """The hash of a key, and its user. The key itself is shown once and never stored."""

    __tablename__ = "api_keys"

    key_hash: Mapped[str] = mapped_column(String(64), primary_key=True)
    user_id: Mapped[str] = mapped_column(String(64))
    created_at: Mapped[datetime] = mapped_column(default=utc_now)
    revoked_at: Mapped[datetime | None]
    """A revoked key stays: a server that once had keys never goes back to trusting everybody."""


class LoginSession(Base):
    """A login of the page. The cookie holds a random token, and the row its hash."""

    __tablename__ = "sessions"
    __table_args__ = (ForeignKeyConstraint(["key_hash"], ["api_keys.key_hash"]),)

    token_hash: Mapped[str] = mapped_column(String(64), primary_key=True)
    key_hash: Mapped[str] = mapped_column(String(64))
    """The key that was logged in with. Its revocation ends the session."""
    created_at: Mapped[datetime] = mapped_column(default=utc_now)
    expires_at: Mapped[datetime]


class Installation(Base):
    """The identity of this database, in one row. A data folder remembers whose files it holds."""

    __tablename__ = "installation"

    only: Mapped[int] = mapped_column(primary_key=True, default=1)
    id: Mapped[str] = mapped_column(String(32))


class OutsideTaskKind(StrEnum):
    """What has to happen outside."""

    CANCEL_CALL = "cancel_call"
    """End a call on Modal with its containers, and delete its temporary objects."""


class OutsideTask(Base):
    """Something that has to happen outside this server. The row goes when it has happened."""

    __tablename__ = "outside_tasks"

    id: Mapped[int] = mapped_column(primary_key=True)
    kind: Mapped[OutsideTaskKind] = mapped_column(String(16))
    details: Mapped[dict[str, Any]]
    attempts: Mapped[int] = mapped_column(default=0)
    last_error: Mapped[str | None] = mapped_column(Text)
    created_at: Mapped[datetime] = mapped_column(default=utc_now)
    next_at: Mapped[datetime] = mapped_column(default=utc_now)
    """Not tried before."""
