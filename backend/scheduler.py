"""Decides which job runs when: a few at once, fair between users. Runs no job itself."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Coroutine, Mapping, Sequence

import structlog
from sqlalchemy.exc import SQLAlchemyError
from starlette.concurrency import run_in_threadpool

from backend.cleanup import Cleanup
from backend.job_runner import ExecutionTarget, JobRunner
from backend.jobs import Jobs
from backend.metrics import Metrics
from backend.models import Job, JobStatus
from backend.outside_tasks import OutsideTasks
from backend.progress_hub import JobKey
from backend.settings import Settings
from backend.worker_pool import end_orphans

SWEEP_INTERVAL_S = 600.0
END_S = 60.0
"""How long a cancellation waits for the end of a run. The job is cancelled in any case."""

log = structlog.get_logger()


class Scheduler:
    """Starts queued jobs, each in its own asyncio task."""

    def __init__(
        self,
        settings: Settings,
        jobs: Jobs,
        runner: JobRunner,
        cleanup: Cleanup,
        metrics: Metrics,
        outside: OutsideTasks,
    ) -> None:
        self._settings = settings
        self._jobs = jobs
        self._runner = runner
        self._cleanup = cleanup
        self._metrics = metrics
        self._outside = outside
        self._slots = {
            ExecutionTarget.LOCAL: settings.local_jobs,
            ExecutionTarget.MODAL: settings.modal_jobs,
        }
        self._running: dict[JobKey, tuple[ExecutionTarget, asyncio.Task[None]]] = {}
        self._last_starts: dict[str, int] = {}
        """By user: the serial number of the last start of a job of theirs."""
        self._starting = asyncio.Lock()
        """Held from the moment a job's row says that it runs until its task exists."""
        self._wake_event = asyncio.Event()
        self._tasks: set[asyncio.Task[None]] = set()

    async def start(self) -> None:
        """Resumes the jobs of an earlier server, and begins to start jobs."""
        orphans = await run_in_threadpool(end_orphans, self._settings.work_dir)
        resumed = await run_in_threadpool(self._jobs.recover)
        await self._cleanup.sweep()
        log.info("started", orphans_ended=orphans, jobs_resumed=resumed)
        self._run_in_background(self._start_jobs())
        self._run_in_background(self._sweep_periodically())
        self._run_in_background(self._outside.run())
        self.wake()

    async def stop(self) -> None:
        """Ends all workers. Their jobs continue when the server starts again."""
        tasks = [*self._tasks, *(task for _, task in self._running.values())]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    def wake(self) -> None:
        """Looks for jobs to start: one was queued, or a slot became free."""
        self._wake_event.set()

    def queued(self, job: Job) -> None:
        """Publishes a job that was just queued, and wakes the scheduler."""
        self._runner.publish(job)
        self.wake()

    async def cancel(self, key: JobKey) -> Job | None:
        """Cancels a job that is not finished. Returns it as it is then, None if there is none."""
        async with self._starting:
            job = await run_in_threadpool(self._jobs.cancel, *key)
        if job is None or job.status != JobStatus.CANCELLED:
            return job
        if key in self._running:
            _, task = self._running[key]
            task.cancel()
            await asyncio.wait([task], timeout=END_S)
            job = await run_in_threadpool(self._jobs.find, *key) or job
        self._outside.wake()
        self._runner.publish(job)
        return job

    async def retry(self, key: JobKey) -> Job | None:
        """Queues a failed or cancelled job again. Raises `SourcesGoneError`, `QueueFullError`."""
        async with self._cleanup.lock:
            job = await run_in_threadpool(self._jobs.retry, *key)
        if job is not None and job.status == JobStatus.QUEUED:
            self.queued(job)
        return job

    async def _start_jobs(self) -> None:
        while True:
            await self._wake_event.wait()
            self._wake_event.clear()
            try:
                await self._fill_slots()
            except Exception:
                log.exception("the queue cannot be read")
                await asyncio.sleep(1)
                self.wake()

    async def _fill_slots(self) -> None:
        queued = await run_in_threadpool(self._jobs.queued)
        for target, slots in self._slots.items():
            waiting = [
                job
                for job in queued
                if self._runner.target_of(job) is target
                and (job.user_id, job.id) not in self._running
            ]
            while waiting and sum(each is target for each, _ in self._running.values()) < slots:
                job = next_job(
                    waiting, Counter(user for user, _ in self._running), self._last_starts
                )
                waiting.remove(job)
                await self._start(job, target)
        self._metrics.queued.set(len(queued))
        self._metrics.running.set(len(self._running))

    async def _start(self, job: Job, target: ExecutionTarget) -> None:
        async with self._starting:
            started = await run_in_threadpool(self._jobs.start, job.user_id, job.id)
            if started is not None:  # else it was cancelled meanwhile
                self._last_starts[job.user_id] = 1 + max(self._last_starts.values(), default=0)
                task = asyncio.create_task(self._run_job(started, target))
                self._running[job.user_id, job.id] = target, task

    async def _run_job(self, job: Job, target: ExecutionTarget) -> None:
        with structlog.contextvars.bound_contextvars(export_id=job.id, user_id=job.user_id):
            log.info("job started", type=job.type, target=target, attempt=job.attempts)
            try:
                ended = await self._runner.run(job)
            except Exception:
                log.exception("the job failed unexpectedly")
                ended = await self._fail_or_requeue(job)
            finally:
                del self._running[job.user_id, job.id]
                self._outside.wake()
                self.wake()
            if ended is not None:
                log.info("job ended", status=ended.status, error=ended.error)
                self._metrics.jobs.labels(ended.type, ended.status).inc()
                self._runner.publish(ended)
                if ended.status == JobStatus.DONE:
                    await self._cleanup.clear(ended)

    async def _fail_or_requeue(self, job: Job) -> Job | None:
        """After an error of the server: queues the job again, or fails it after the last attempt.

        Tries until the database answers.
        """
        key = job.user_id, job.id
        while True:
            await asyncio.sleep(1)
            try:
                if job.attempts < self._settings.max_attempts:
                    await run_in_threadpool(self._jobs.requeue, *key, counts=True)
                    return None
                return await run_in_threadpool(self._jobs.fail, *key, "internal error", 500)
            except SQLAlchemyError:
                log.exception("the database does not answer")

    def _run_in_background(self, work: Coroutine[None, None, None]) -> None:
        task = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _sweep_periodically(self) -> None:
        while True:
            await asyncio.sleep(SWEEP_INTERVAL_S)
            try:
                await self._cleanup.sweep()
            except Exception:
                log.exception("the sweep failed")


def next_job(queued: Sequence[Job], busy: Mapping[str, int], last_starts: Mapping[str, int]) -> Job:
    """The next job to start, fair between users.

    Its user has the fewest running jobs. Among equals, it is the user whose last start is longest
    ago, and then the oldest job. `busy`: running jobs by user. `last_starts`: serial number of each
    user's last start.
    """
    return min(
        queued,
        key=lambda job: (
            busy.get(job.user_id, 0),
            last_starts.get(job.user_id, 0),
            job.created_at,
            job.id,
        ),
    )
