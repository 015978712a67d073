"""Removes what jobs and uploads leave behind: work folders, temporary objects, unwanted results.

A video is published in this order: file into the store, then one transaction (its row, the
project's pointer, the job's end), then this. A crash before the transaction leaves the old state
and a job that runs again to the same key; one after it leaves the new state and files that the
next sweep finds by the job's row, or by their not having one.
"""

from __future__ import annotations

import asyncio
import shutil
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from uuid import uuid4

import structlog
from starlette.concurrency import run_in_threadpool

from backend.jobs import Jobs
from backend.models import Job, JobStatus
from engine.errors import StoreError
from engine.storage import Store, user_key

KEEP_FAILED_S = 24 * 3600.0
"""How long a failed or cancelled job can be retried without sending its clips again."""

KEEP_UPLOAD_S = 24 * 3600.0
"""How long an upload that broke off can be resumed."""

log = structlog.get_logger()


class Cleanup:
    """Knows which folders are in use by this process, and clears the rest away."""

    def __init__(self, work_dir: Path, upload_dir: Path, jobs: Jobs, store: Store) -> None:
        self._work_dir = work_dir
        self._upload_dir = upload_dir
        self._jobs = jobs
        self._store = store
        self._receiving: set[str] = set()
        self.lock = asyncio.Lock()
        """Held while a job's files are removed, and while a job is queued again that needs them."""

    @contextmanager
    def receiving(self) -> Iterator[Path]:
        """A folder for what is being received, removed at the end unless a job has it by then."""
        folder = self._work_dir / uuid4().hex
        folder.mkdir()
        self._receiving.add(folder.name)
        try:
            yield folder
        except BaseException:
            shutil.rmtree(folder, ignore_errors=True)
            raise
        finally:
            self._receiving.discard(folder.name)

    async def discard(self, folder: Path) -> None:
        """Removes a folder that no job took."""
        await run_in_threadpool(shutil.rmtree, folder, ignore_errors=True)

    async def clear(self, job: Job) -> None:
        """Removes everything temporary of a finished job, and the file it did not publish."""
        async with self.lock:
            try:
                await run_in_threadpool(self._clear, job)
            except (OSError, StoreError) as error:
                log.warning("leftovers stay until the next sweep", export_id=job.id, why=str(error))

    async def sweep(self) -> None:
        """Clears finished jobs, and folders that belong to nobody."""
        for job in await run_in_threadpool(self._jobs.leftovers, KEEP_FAILED_S):
            await self.clear(job)
        async with self.lock:
            await run_in_threadpool(self._sweep_folders)

    def _clear(self, job: Job) -> None:
        folder = self._work_dir / job.folder
        if folder.exists():
            shutil.rmtree(folder)
        if job.modal_call_id is not None:
            self._store.delete_prefix(temp_prefix(job))
            self._store.delete(manifest_key(job))
        if job.status != JobStatus.DONE:
            self._store.delete(job.output_key)
        self._jobs.mark_cleared(job.user_id, job.id, still=JobStatus(job.status))

    def _sweep_folders(self) -> None:
        known = self._jobs.folders()
        for folder in self._work_dir.iterdir():
            if folder.name not in known and folder.name not in self._receiving:
                shutil.rmtree(folder, ignore_errors=True)
        old = time.time() - KEEP_UPLOAD_S
        for path in self._upload_dir.rglob("*"):
            if path.is_file() and path.stat().st_mtime < old:
                path.unlink()
            elif path.is_dir() and not any(path.iterdir()):
                path.rmdir()


def temp_prefix(job: Job) -> str:
    """Where a job keeps temporary objects: inside the user's own folder."""
    return user_key(job.user_id, "temp", f"multi_clip_{job.folder}")


def manifest_key(job: Job) -> str:
    """What Modal's functions leave beside the video, to be found by."""
    return f"{job.output_key}.manifest.json"
