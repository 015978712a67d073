"""Runs one job, here or on Modal: publishes its progress and writes how it ended."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from dataclasses import replace
from enum import StrEnum
from functools import partial
from typing import TYPE_CHECKING, Any, ParamSpec, TypeVar

import structlog
from sqlalchemy.exc import SQLAlchemyError
from starlette.concurrency import run_in_threadpool

from backend import progress_hub
from backend.assignment import OUT_OF_SPACE_STATUS, Assignment, WorkKind
from backend.cleanup import has_uploads
from backend.file_cache import FileCache
from backend.jobs import SOURCES_GONE_STATUS, JobResult, Jobs
from backend.metrics import Metrics
from backend.models import Job, JobType
from backend.outage import Outage, persist
from backend.outside_tasks import OutsideTasks
from backend.progress_hub import ProgressHub, percent_within, state_from_job
from backend.public_errors import public_text
from backend.settings import ModalFallback, Settings
from backend.tasks import task_adapter
from backend.worker_pool import WorkerDiedError, WorkError, run_worker
from engine.errors import StoreError, is_out_of_space
from engine.storage import Store

if TYPE_CHECKING:
    from backend.modal_client import ModalProgress

ROW_UPDATE_INTERVAL_S = 2.0
"""Shortest time between two writes of a running job's progress into its row."""

log = structlog.get_logger()

P = ParamSpec("P")
T = TypeVar("T")


class OutOfSpaceError(Exception):
    """The disk is full. The job can go on where it stopped once there is room."""


class ExecutionTarget(StrEnum):
    """Where a job runs."""

    LOCAL = "local"
    MODAL = "modal"


class JobRunner:
    """Runs jobs. A job's end is written to its row before it is published."""

    def __init__(
        self,
        settings: Settings,
        jobs: Jobs,
        hub: ProgressHub,
        store: Store,
        source_cache: FileCache,
        metrics: Metrics,
        outside: OutsideTasks,
    ) -> None:
        self._settings = settings
        self._jobs = jobs
        self._hub = hub
        self._store = store
        self._source_cache = source_cache
        self._metrics = metrics
        self._outside = outside
        self._local_slots = asyncio.Semaphore(settings.local_jobs)
        """Jobs that fell back from Modal wait for it too."""
        self._outage = Outage("the end of a job cannot be written")

    def target_of(self, job: Job) -> ExecutionTarget:
        """Where the job must run. Extracts always run here."""
        on_modal = self._settings.modal_enabled and job.type != JobType.EXTRACT
        return ExecutionTarget.MODAL if on_modal else ExecutionTarget.LOCAL

    async def run(self, job: Job) -> Job | None:
        """Runs a started job. Returns its row if the job ended.

        Returns None if the job was queued again because its worker died, or if it was cancelled.
        Cancelling this coroutine ends a local worker at once, and no call on Modal. Raises
        `OutOfSpaceError`. Waits for the database where it does not answer.
        """
        key = job.user_id, job.id
        try:
            result = await self._result(job)
        except WorkError as error:
            if error.status == OUT_OF_SPACE_STATUS:
                raise OutOfSpaceError(error.detail) from error
            return await self.persist(self._jobs.fail, *key, error.detail, error.status)
        except OSError as error:
            if not is_out_of_space(error):
                raise
            raise OutOfSpaceError(str(error)) from error
        except (WorkerDiedError, StoreError) as error:
            log.warning("the run broke off", why=str(error))
            if job.attempts < self._settings.max_attempts:
                await self.persist(self._jobs.requeue, *key, counts=True)
                return None
            reason = f"{public_text(error)}, {job.attempts} times in a row"
            return await self.persist(self._jobs.fail, *key, reason, 500)
        self.publish(job, phase="database", percent=progress_hub.DATABASE[0], message="Saving")
        self._metrics.frames.inc(result.details.get("frames") or 0)
        return await self.persist(self._jobs.finish, *key, result)

    async def persist(self, change: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        """The result of a change in the table of jobs. It is tried until the database answers."""
        return await persist(partial(change, *args, **kwargs), self._outage)

    def publish(self, job: Job, **changes: Any) -> None:
        """Publishes the job's state: its row as it was read, with `changes`."""
        percent = max(job.progress, changes.pop("percent", 0.0))
        state = replace(state_from_job(job), percent=percent, **changes)
        self._hub.publish((job.user_id, job.id), state)

    async def _result(self, job: Job) -> JobResult:
        folder = self._settings.work_dir / job.folder
        if not job.remote and not await run_in_threadpool(has_uploads, job, folder.parent):
            raise WorkError(SOURCES_GONE_STATUS, "its clips are gone; send them again")
        if self.target_of(job) is ExecutionTarget.MODAL:
            from backend import modal_jobs  # late: loads Modal's client

            try:
                return await self._run_on_modal(job)
            except modal_jobs.RemoteFailedError as error:
                log.error("the export on Modal failed", why=str(error))
                raise WorkError(500, public_text(error)) from error
            except modal_jobs.ModalError as error:
                log.warning("Modal cannot take the export", why=str(error))
                if self._settings.modal_fallback is not ModalFallback.LOCAL:
                    raise WorkError(502, error.reason) from error
                self.publish(job, message=f"{error.reason}; rendered here instead")
        if job.remote:
            await run_in_threadpool(self._jobs.end_call, job.user_id, job.id)
            self._outside.wake()
        await run_in_threadpool(folder.mkdir, exist_ok=True)  # of clips in the store it needs none
        async with self._local_slots:
            result = await run_worker(
                self._assignment(job), _ProgressRecorder(self, self._jobs, job).record
            )
        return JobResult(result["duration_s"], result["details"], result["report"])

    def _assignment(self, job: Job) -> Assignment:
        return Assignment(
            WorkKind.EXPORT,
            job.user_id,
            self._settings.work_dir / job.folder,
            self._store,
            self._source_cache,
            task=task_adapter.validate_python(job.request),
            output_key=job.output_key,
            upscaler=self._settings.upscaler,
            encoder=self._settings.encoder,
            encoder_options=tuple(self._settings.encoder_options.items()),
            key_interval_s=self._settings.key_interval_s,
            workers=self._settings.workers,
            local_jobs=self._settings.local_jobs,
        )

    async def _run_on_modal(self, job: Job) -> JobResult:
        from backend import modal_jobs

        def publish_progress(at: ModalProgress) -> None:
            percent = percent_within(progress_hub.CLIPS, at.percent / 100)
            self.publish(job, phase=at.phase, percent=percent, message=at.message)

        return await modal_jobs.render(
            job,
            self._jobs,
            self._store,
            self._settings,
            lambda: self._outside.settled(job),
            publish_progress,
        )


class _ProgressRecorder:
    """Publishes a worker's events as states of its job, and writes some of them into its row."""

    def __init__(self, runner: JobRunner, jobs: Jobs, job: Job) -> None:
        self._runner = runner
        self._jobs = jobs
        self._job = job
        self._updated_s = 0.0
        self._updating: asyncio.Task[None] | None = None
        self._outage = Outage("progress is not written")

    def record(self, event: dict[str, Any]) -> None:
        """Publishes an event. Writes the row at most every `ROW_UPDATE_INTERVAL_S`."""
        changes = _state_changes(event)
        self._runner.publish(self._job, **changes)
        now_s = time.monotonic()
        if now_s - self._updated_s >= ROW_UPDATE_INTERVAL_S and (
            self._updating is None or self._updating.done()
        ):
            self._updated_s = now_s
            self._updating = asyncio.create_task(
                self._update_row(changes["percent"], changes["phase"])
            )

    async def _update_row(self, percent: float, phase: str) -> None:
        job = self._job
        update = self._jobs.update_running
        try:
            await run_in_threadpool(update, job.user_id, job.id, progress=percent, phase=phase)
        except SQLAlchemyError as error:  # the next progress is written instead
            self._outage.met(error)
        else:
            self._outage.ended()


def _state_changes(event: dict[str, Any]) -> dict[str, Any]:
    """The fields of the job's state that a worker's event changes."""
    if event["event"] == "upload":
        percent = percent_within(progress_hub.PUBLISH, event["share"])
        return {"phase": "upload", "percent": percent, "message": "Storing the video"}
    phase, done, total = event["phase"], event["frames_done"], event["frames_total"]
    frames = {
        "frames_done": done,
        "frames_total": total,
        "chunks_done": tuple(event.get("chunks_done", ())),
        "bottleneck": event.get("bottleneck"),
    }
    speed = {"fps": event.get("fps"), "eta_s": event.get("eta_s")}
    if phase == "frames":
        percent = percent_within(progress_hub.CLIPS, done / total)
        message = f"Rendering frame {done} of {total}"
        return {"phase": phase, "percent": percent, "message": message, **frames, **speed}
    percent = percent_within(progress_hub.JOIN, 0.0 if phase == "sound" else 0.5)
    message = "Mixing the sound" if phase == "sound" else "Joining"
    return {"phase": phase, "percent": percent, "message": message, **frames}
