"""What has to happen outside this server: rows that are tried until it has happened.

A row is written in the transaction that makes it necessary (`jobs.py`), and goes when it has
happened. So neither a crash at any moment nor a service out of reach leaves a call running that
nobody waits for. Everything here may be done twice.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from datetime import timedelta
from weakref import WeakValueDictionary

import structlog
from sqlalchemy import select
from sqlalchemy.exc import SQLAlchemyError
from starlette.concurrency import run_in_threadpool

from backend.cleanup import Cleanup
from backend.database import Database
from backend.models import Job, JobStatus, OutsideTask, utc_now
from backend.outage import Outage
from backend.progress_hub import JobKey
from backend.server_lock import ServerLock
from engine.storage import Store
from modal_functions.protocol import manifest_key

POLL_S = 5.0
"""How often is looked for tasks that are due. `wake` looks at once."""
FIRST_PAUSE_S, LONGEST_PAUSE_S = 5.0, 600.0
"""Pauses between the attempts at a task: each is twice the one before."""
AT_ONCE = 8

log = structlog.get_logger()


class OutsideTasks:
    """Works off the table of outside tasks. Those of one job are done one after the other."""

    def __init__(
        self, database: Database, store: Store, cleanup: Cleanup, lock: ServerLock
    ) -> None:
        self._database = database
        self._store = store
        self._cleanup = cleanup
        self._lock = lock
        self._wake_event = asyncio.Event()
        self._locks: WeakValueDictionary[JobKey, asyncio.Lock] = WeakValueDictionary()

    def wake(self) -> None:
        """Looks for tasks: one was added."""
        self._wake_event.set()

    async def run(self) -> None:
        """Works off what is due, until it is cancelled. Does nothing while the lock is lost."""
        outage = Outage("outside tasks cannot be worked off")
        while True:
            self._wake_event.clear()
            try:
                due = await run_in_threadpool(self._due) if self._lock.held else ()
                await asyncio.gather(*(self._try(task) for task in due))
            except Exception as error:
                await asyncio.sleep(outage.met(error))
                continue
            outage.ended()
            if due:
                continue
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(POLL_S):
                    await self._wake_event.wait()

    @asynccontextmanager
    async def settled(self, job: Job) -> AsyncIterator[None]:
        """Ends what is left of the job's earlier calls. While the block runs, nothing is done.

        So a new call starts when the earlier ones have ended. Raises what keeps a task from being
        done: `ModalError`, `StoreError`.
        """
        key = job.user_id, job.id
        async with self._lock_of(key):
            for task in await run_in_threadpool(self._all):
                if _job_key(task) == key and (error := await self._try_locked(task)):
                    raise error
            yield

    async def _try(self, task: OutsideTask) -> None:
        async with self._lock_of(_job_key(task)):
            await self._try_locked(task)

    async def _try_locked(self, task: OutsideTask) -> Exception | None:
        """Does a task that is still there. Returns the error if it cannot be done now."""
        if not await run_in_threadpool(self._exists, task):
            return None
        try:
            await self._end_call(task)
        except SQLAlchemyError:
            raise
        except Exception as error:
            await run_in_threadpool(self._postpone, task, str(error) or type(error).__name__)
            return error
        if task.attempts:
            log.info("done outside after all", **task.details, attempts=task.attempts + 1)
        return None

    async def _end_call(self, task: OutsideTask) -> None:
        from backend import modal_jobs  # late: loads Modal's client

        await modal_jobs.end_call(task.details, self._store)
        async with self._cleanup.lock:  # the job is not queued again meanwhile
            await run_in_threadpool(self._finish, task)

    def _finish(self, task: OutsideTask) -> None:
        """Deletes what the call may have published and nobody wants, and then the row."""
        output_key = task.details["output_key"]
        with self._database.read() as session:
            job = session.get(Job, _job_key(task))
        status = None if job is None else job.status
        if status in (JobStatus.DONE, JobStatus.CANCELLED):
            self._store.delete(manifest_key(output_key))
        if status == JobStatus.CANCELLED:
            self._store.delete(output_key)
        with self._database.begin() as session:
            session.delete(session.get_one(OutsideTask, task.id))

    def _due(self) -> Sequence[OutsideTask]:
        with self._database.read() as session:
            query = select(OutsideTask).where(OutsideTask.next_at <= utc_now())
            return session.scalars(query.order_by(OutsideTask.next_at).limit(AT_ONCE)).all()

    def _all(self) -> Sequence[OutsideTask]:
        with self._database.read() as session:
            return session.scalars(select(OutsideTask).order_by(OutsideTask.id)).all()

    def _exists(self, task: OutsideTask) -> bool:
        with self._database.read() as session:
            return session.get(OutsideTask, task.id) is not None

    def _postpone(self, task: OutsideTask, error: str) -> None:
        """Notes a failed attempt. Logs it once, and again when the reason changes."""
        if error != task.last_error:
            log.warning("not done outside yet", **task.details, why=error)
        pause_s = min(FIRST_PAUSE_S * 2 ** min(task.attempts, 16), LONGEST_PAUSE_S)
        with self._database.begin() as session:
            row = session.get_one(OutsideTask, task.id)
            row.attempts += 1
            row.last_error = error
            row.next_at = utc_now() + timedelta(seconds=pause_s)

    def _lock_of(self, key: JobKey) -> asyncio.Lock:
        return self._locks.setdefault(key, asyncio.Lock())


def _job_key(task: OutsideTask) -> JobKey:
    return task.details["user_id"], task.details["export_id"]
