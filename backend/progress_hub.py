"""The progress hub: the latest state of every active job, and the clients that watch it.

It holds one state per active job and one event per watcher, however slow the watcher is. It runs in
the event loop's thread, and knows no HTTP and no database.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncGenerator, Awaitable, Callable
from dataclasses import dataclass, field, replace
from typing import Any

from backend.models import FINISHED, Job, JobStatus

INTERVAL_S = 0.25
"""Shortest time between two states sent to a watcher."""

UPLOAD, CLIPS, JOIN, PUBLISH, DATABASE = (5, 10), (10, 80), (80, 90), (90, 95), (95, 100)
"""Start and end of each phase, in percent."""

_APP_STATUS: dict[JobStatus | None, str] = {
    JobStatus.DONE: "complete",
    JobStatus.FAILED: "error",
    JobStatus.CANCELLED: "error",
}

JobKey = tuple[str, str]
"""User id and export id."""


@dataclass(frozen=True, slots=True)
class ProgressState:
    """How far a job is. `status` is None during the upload, before there is a job."""

    status: JobStatus | None
    phase: str
    percent: float
    message: str
    project_id: str | None = None
    project_name: str = ""
    frames_done: int | None = None
    frames_total: int | None = None
    fps: float | None = None
    eta_s: float | None = None
    bottleneck: str | None = None
    chunks_done: tuple[int, ...] = ()
    """Indices of the finished chunks."""
    error: str | None = None
    working_video_id: int | None = None
    working_filename: str | None = None

    @property
    def is_final(self) -> bool:
        """True if no state follows, unless the job is retried."""
        return self.status in FINISHED

    def document(self) -> dict[str, Any]:
        """The state as JSON: the app's field names, and more."""
        document: dict[str, Any] = {
            "progress": round(self.percent, 1),
            "message": self.message,
            "status": _APP_STATUS.get(self.status, "processing"),
            "projectId": public_id(self.project_id),
            "projectName": self.project_name,
            "phase": self.phase,
            "job_status": self.status or "uploading",
            "frames_done": self.frames_done,
            "frames_total": self.frames_total,
            "fps": self.fps and round(self.fps, 2),
            "eta_s": self.eta_s and round(self.eta_s, 1),
            "bottleneck": self.bottleneck,
            "chunks_done": self.chunks_done,
        }
        if self.error is not None:
            document["error"] = self.error
        if self.status is JobStatus.DONE:
            document |= {
                "type": "framing",
                "workingVideoId": self.working_video_id,
                "workingFilename": self.working_filename,
            }
        return document


def percent_within(span: tuple[int, int], share: float) -> float:
    """The percentage at `share` (0 to 1) of a phase that spans `span` percent."""
    start, stop = span
    return start + (stop - start) * share


def state_from_job(job: Job) -> ProgressState:
    """The state that a job's row describes."""
    return ProgressState(
        status=JobStatus(job.status),
        phase=job.phase,
        percent=job.progress,
        message=job.message,
        project_id=job.project_id,
        project_name=job.project_name,
        error=job.error,
        working_video_id=(job.result or {}).get("working_video_id"),
        working_filename=job.output_key.rpartition("/")[2],
    )


def public_id(project_id: str | None) -> int | str | None:
    """A project id as the app sent it: decimal ids are numbers, others are text."""
    if project_id is not None and project_id.isdecimal() and str(int(project_id)) == project_id:
        return int(project_id)
    return project_id


@dataclass(slots=True, eq=False)
class _Channel:
    state: ProgressState | None = None
    watchers: set[asyncio.Event] = field(default_factory=set)


class ProgressHub:
    """Takes states, and gives each watcher the newest one, at most every `INTERVAL_S`."""

    def __init__(self) -> None:
        self._channels: dict[JobKey, _Channel] = {}

    def publish(self, key: JobKey, state: ProgressState) -> None:
        """Publishes a new state. The percentage never falls, unless the job starts again."""
        channel = self._channels.setdefault(key, _Channel())
        before = channel.state
        if before is not None and not before.is_final and not state.is_final:
            state = replace(state, percent=max(before.percent, state.percent))
        channel.state = state
        for watcher in channel.watchers:
            watcher.set()
        if state.is_final:
            self._forget_unwatched(key)

    def state(self, key: JobKey) -> ProgressState | None:
        """The latest state, None if the hub knows none."""
        channel = self._channels.get(key)
        return None if channel is None else channel.state

    @property
    def watchers(self) -> int:
        """How many watchers there are."""
        return sum(len(channel.watchers) for channel in self._channels.values())

    async def watch(
        self, key: JobKey, read_row: Callable[[], Awaitable[ProgressState | None]]
    ) -> AsyncGenerator[ProgressState, None]:
        """Yields the current state and each newer one. Ends after the final one.

        `read_row` gives the state of the job's row, used if the hub does not know the job.
        """
        channel = self._channels.setdefault(key, _Channel())
        changed = asyncio.Event()
        channel.watchers.add(changed)
        try:
            row = await read_row()  # after registering, so that no state is missed
            state, sent = channel.state or row, None
            while True:
                if state is not None and state != sent:
                    sent = state
                    sent_s = time.monotonic()
                    yield state
                    if state.is_final:
                        return
                    await asyncio.sleep(max(0, sent_s + INTERVAL_S - time.monotonic()))
                await changed.wait()
                changed.clear()
                state = channel.state
        finally:
            channel.watchers.discard(changed)
            self._forget_unwatched(key)

    def _forget_unwatched(self, key: JobKey) -> None:
        """Forgets an unwatched job if it is finished (its row says the same) or has no state."""
        channel = self._channels.get(key)
        if channel and not channel.watchers and (channel.state is None or channel.state.is_final):
            del self._channels[key]
