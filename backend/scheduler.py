"""Decides which job runs when: a few at once, fair between users. Runs no job itself."""

from __future__ import annotations

import asyncio
import contextlib
from collections import Counter
from collections.abc import Coroutine, Mapping, Sequence

import structlog
from sqlalchemy.exc import SQLAlchemyError
from starlette.concurrency import run_in_threadpool

from backend.cleanup import Cleanup
from backend.database import reason_of
from backend.disk_space import DiskSpace
from backend.job_runner import ExecutionTarget, JobRunner, OutOfSpaceError
from backend.jobs import Jobs
from backend.metrics import Metrics
from backend.models import Job, JobStatus
from backend.outage import Outage
from backend.outside_tasks import OutsideTasks
from backend.progress_hub import JobKey
from backend.server_lock import ServerLock, keep
from backend.settings import Settings
from backend.worker_pool import end_orphans

SWEEP_INTERVAL_S = 600.0
END_S = 60.0
"""How long a cancellation, and the server's end, wait for the end of a run."""

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
        lock: ServerLock,
        space: DiskSpace,
    ) -> None:
        self._settings = settings
        self._jobs = jobs
        self._runner = runner
        self._cleanup = cleanup
        self._metrics = metrics
        self._outside = outside
        self._lock = lock
        self._space = space
        self._outage = Outage("the queue cannot be worked on")
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
        """Begins to start jobs, those that an earlier server was running among them."""
        self._run_in_background(self._start_jobs())
        self._run_in_background(self._sweep_periodically())
        self._run_in_background(self._outside.run())
        self._run_in_background(keep(self._lock, regained=self.wake))

    async def stop(self) -> None:
        """Ends all workers. Their jobs continue when the server starts again.

        This was none of their attempts. Without the lock the rows may be another server's.
        """
        tasks = [*self._tasks, *(task for _, task in self._running.values())]
        for task in tasks:
            task.cancel()
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(END_S):
                await asyncio.gather(*tasks, return_exceptions=True)
        if self._lock.held:
            try:
                await run_in_threadpool(self._jobs.requeue_running)
            except SQLAlchemyError as error:
                log.warning("running jobs stay marked as running", why=reason_of(error))

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
        self._space.release(key)
        self._outside.wake()
        self._runner.publish(job)
        return job

    async def retry(self, key: JobKey) -> Job | None:
        """Queues a failed or cancelled job again. Raises `SourcesGoneError`, `QueueFullError`."""
        async with self._cleanup.lock:
            job = await run_in_threadpool(self._jobs.retry, *key, self._cleanup.keeps_files)
        if job is not None and job.status == JobStatus.QUEUED:
            self.queued(job)
        return job

    async def _start_jobs(self) -> None:
        recovered = False
        while True:
            try:
                if not recovered:
                    await self._recover()
                    recovered = True
                await self._fill_slots()
            except Exception as error:
                await asyncio.sleep(self._outage.met(error))
                continue
            self._outage.ended()
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(self._space.poll_s()):
                    await self._wake_event.wait()

    async def _recover(self) -> None:
        """Ends what an earlier server has left running, and queues its jobs again or fails them."""
        orphans = await run_in_threadpool(end_orphans, self._settings.work_dir)
        jobs = await run_in_threadpool(self._jobs.recover, self._settings.max_attempts)
        for job in jobs:
            self._runner.publish(job)
        log.info("started", orphans_ended=orphans, jobs_resumed=len(jobs))

    async def _fill_slots(self) -> None:
        """Starts queued jobs while there are slots. Nothing is started while the lock is lost."""
        self._wake_event.clear()
        if not self._lock.held:
            return
        queued = await run_in_threadpool(self._jobs.queued)
        for target, slots in self._slots.items():
            waiting = [
                job
                for job in queued
                if self._runner.target_of(job) is target
                and (job.user_id, job.id) not in self._running
                and self._space.may_start((job.user_id, job.id))
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
                ended = await self._run_to_its_end(job)
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

    async def _run_to_its_end(self, job: Job) -> Job | None:
        """Runs a started job. Returns its row if it ended, None if it was queued again.

        A run that the disk or the database broke off is not one of the job's attempts.
        """
        key = job.user_id, job.id
        requeue, persist = self._jobs.requeue, self._runner.persist
        try:
            ended = await self._runner.run(job)
        except OutOfSpaceError as error:
            if self._space.hold(key):
                log.warning("the job waits for disk space", why=str(error))
            message = "Waiting for disk space"
            if waiting := await persist(requeue, *key, counts=False, message=message):
                self._runner.publish(waiting)
            return None
        except SQLAlchemyError as error:
            log.error("the database broke the run off", why=reason_of(error))
            await persist(requeue, *key, counts=False)
            return None
        except Exception:
            log.exception("the job failed unexpectedly")
            if job.attempts < self._settings.max_attempts:
                await persist(requeue, *key, counts=True)
                return None
            ended = await persist(self._jobs.fail, *key, "internal error", 500)
        self._space.release(key)
        return ended

    def _run_in_background(self, work: Coroutine[None, None, None]) -> None:
        task = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _sweep_periodically(self) -> None:
        outage = Outage("the sweep failed")
        while True:
            try:
                if self._lock.held:
                    await self._cleanup.sweep()
            except Exception as error:
                outage.met(error)
            else:
                outage.ended()
            await asyncio.sleep(SWEEP_INTERVAL_S)


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
