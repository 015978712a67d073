"""Removes what jobs and uploads leave behind: work folders, temporary objects, unwanted results.

A video is published in three steps. First its file is put into the store. Then one transaction
writes the video's row, the project's pointer and the job's end. Then this module cleans up.

A crash before the transaction leaves the old state, and a job that runs again and writes to the
same key. A crash after it leaves the new state, and files for the next sweep. The sweep finds them
by the job's row, or because no row names them.
"""

from __future__ import annotations

import asyncio
import shutil
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from uuid import uuid4

import structlog
from starlette.concurrency import run_in_threadpool

from backend.file_cache import FileCache
from backend.jobs import Jobs
from backend.models import Job, JobStatus
from engine.errors import StoreError
from engine.storage import Store, user_key

KEEP_FAILED_S = 24 * 3600.0
"""How long the clips of a failed or cancelled job are kept, so that it can be retried."""

KEEP_UPLOAD_S = 24 * 3600.0
"""How long an interrupted upload can be resumed."""

log = structlog.get_logger()


class Cleanup:
    """Knows which folders this process is using, and removes the others."""

    def __init__(
        self,
        work_dir: Path,
        upload_dir: Path,
        jobs: Jobs,
        store: Store,
        caches: Sequence[FileCache],
    ) -> None:
        self._work_dir = work_dir
        self._upload_dir = upload_dir
        self._jobs = jobs
        self._store = store
        self._caches = caches
        self._receiving: set[str] = set()
        self.lock = asyncio.Lock()
        """Held while a job's files are removed, and while a job that needs them is queued again."""

    @contextmanager
    def receiving(self) -> Iterator[Path]:
        """A new folder for an upload. It is removed if the block raises, else the caller has it."""
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
        """Removes a folder that belongs to no job."""
        await run_in_threadpool(shutil.rmtree, folder, ignore_errors=True)

    async def clear(self, job: Job) -> None:
        """Removes all temporary files of a finished job, and a result that was not published."""
        async with self.lock:
            try:
                await run_in_threadpool(self._clear, job)
            except (OSError, StoreError) as error:
                log.warning("leftovers stay until the next sweep", export_id=job.id, why=str(error))

    async def sweep(self) -> None:
        """Clears finished jobs, removes folders and uploads of no job, and sweeps the caches."""
        for job in await run_in_threadpool(self._jobs.leftovers, KEEP_FAILED_S):
            await self.clear(job)
        async with self.lock:
            await run_in_threadpool(self._sweep_folders)
        for cache in self._caches:
            await run_in_threadpool(cache.sweep)

    def _clear(self, job: Job) -> None:
        folder = self._work_dir / job.folder
        if folder.exists():
            shutil.rmtree(folder)
        if job.remote:
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
    """Prefix of the job's temporary objects, inside the user's own folder of the store."""
    return user_key(job.user_id, "temp", f"multi_clip_{job.folder}")


def manifest_key(job: Job) -> str:
    """Key of the manifest that the functions on Modal write beside the video."""
    return f"{job.output_key}.manifest.json"
