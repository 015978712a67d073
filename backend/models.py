"""The tables: projects, working videos, export jobs, API keys. Alembic's migrations make them."""

from __future__ import annotations

from datetime import UTC, datetime
from enum import StrEnum
from typing import Any

from sqlalchemy import JSON, DateTime, ForeignKeyConstraint, Index, String, Text, UniqueConstraint
from sqlalchemy.engine import Dialect
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column
from sqlalchemy.types import TypeDecorator


class UtcDateTime(TypeDecorator[datetime]):
    """A moment in UTC; SQLite forgets the zone, so it is put back."""

    impl = DateTime(timezone=True)
    cache_ok = True

    def process_result_value(self, value: datetime | None, dialect: Dialect) -> datetime | None:  # noqa: ARG002
        return value if value is None or value.tzinfo else value.replace(tzinfo=UTC)


def utc_now() -> datetime:
    return datetime.now(UTC)


UPLOADED_PERCENT = 10.0
"""Where a job's progress begins: its upload is behind it."""


class JobStatus(StrEnum):
    """Where a job stands; the last three are for good unless it is retried."""

    QUEUED = "queued"
    RUNNING = "running"
    DONE = "done"
    FAILED = "failed"
    CANCELLED = "cancelled"


FINISHED = (JobStatus.DONE, JobStatus.FAILED, JobStatus.CANCELLED)


class JobType(StrEnum):
    """What a job makes."""

    MULTI_CLIP = "multi_clip"
    UPSCALE = "upscale"
    EXTRACT = "extract"


class Base(DeclarativeBase):
    """Base of all tables."""

    type_annotation_map = {dict[str, Any]: JSON, datetime: UtcDateTime}  # noqa: RUF012


class Project(Base):
    """A user's project and the newest videos made of it."""

    __tablename__ = "projects"

    user_id: Mapped[str] = mapped_column(String(64), primary_key=True)
    id: Mapped[str] = mapped_column(String(128), primary_key=True)
    name: Mapped[str] = mapped_column(Text, default="")
    working_video_id: Mapped[int | None]
    final_video_id: Mapped[int | None]
    """The app's own; a new working video takes it away."""
    created_at: Mapped[datetime] = mapped_column(default=utc_now)


class WorkingVideo(Base):
    """One finished export of a project; the highest version is the project's."""

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
    """Where it lies in the store."""
    duration_s: Mapped[float]
    created_at: Mapped[datetime] = mapped_column(default=utc_now)


class Job(Base):
    """An export from the moment it is accepted. Ids are the client's, so they are per user."""

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
    """Name of its folder below `Settings.work_dir`."""
    output_key: Mapped[str] = mapped_column(String(512))
    """Where its result goes, known before there is one."""
    request: Mapped[dict[str, Any]]
    """A `backend.tasks.Task` as JSON."""
    request_hash: Mapped[str] = mapped_column(String(64))
    """By which a repeated request is told from another one with the same id."""
    result: Mapped[dict[str, Any] | None]
    report: Mapped[dict[str, Any] | None]
    error: Mapped[str | None] = mapped_column(Text)
    error_status: Mapped[int | None]
    """The HTTP status that fits the error."""
    progress: Mapped[float] = mapped_column(default=UPLOADED_PERCENT)
    """Percent, as last written; the hub knows better while it runs."""
    phase: Mapped[str] = mapped_column(String(16), default="queued")
    message: Mapped[str] = mapped_column(Text, default="Waiting")
    attempts: Mapped[int] = mapped_column(default=0)
    modal_call_id: Mapped[str | None] = mapped_column(String(64))
    modal_used: Mapped[bool] = mapped_column(default=False)
    leftovers: Mapped[bool] = mapped_column(default=True)
    """True until its work folder and temporary objects are known to be gone."""
    created_at: Mapped[datetime] = mapped_column(default=utc_now)
    started_at: Mapped[datetime | None]
    finished_at: Mapped[datetime | None]


class ApiKey(Base):
    """A key's hash and whose it is; the key itself is shown once and kept nowhere."""

    __tablename__ = "api_keys"

    key_hash: Mapped[str] = mapped_column(String(64), primary_key=True)
    user_id: Mapped[str] = mapped_column(String(64))
    created_at: Mapped[datetime] = mapped_column(default=utc_now)
