"""Removes what jobs and uploads leave behind: work folders, temporary objects, unwanted results.

A video is published in three steps. First its file is put into the store. Then one transaction
writes the video's row, the project's pointer and the job's end. Then this module cleans up.

A crash before the transaction leaves the old state, and a job that runs again and writes to the
same key. A crash after it leaves the new state, and files for the next sweep. The sweep finds them
by the job's row, or because no row names them.
"""

from __future__ import annotations

import asyncio
import contextlib
import shutil
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from uuid import uuid4

import structlog
from sqlalchemy.exc import SQLAlchemyError
from starlette.concurrency import run_in_threadpool

from backend.database import reason_of
from backend.file_cache import FileCache
from backend.jobs import Jobs
from backend.models import Job, JobStatus
from backend.progress_hub import JobKey
from backend.resumable_upload import sweep_uploads
from backend.tasks import task_adapter
from backend.threads import run_to_end
from engine.errors import StoreError
from engine.storage import Store, user_key

KEEP_FAILED_S = 24 * 3600.0
"""How long the clips of a failed or cancelled job are kept, so that it can be retried."""

KEEP_UPLOAD_S = 24 * 3600.0
"""How long an interrupted upload can be resumed, and a folder of no job is kept."""

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
        """Held while it is decided that a job's files go, and while a job is queued again."""
        self._clearing: set[JobKey] = set()

    @contextmanager
    def receiving(self) -> Iterator[Path]:
        """A new folder for an upload. It is removed if the block raises, else the caller has it."""
        folder = self._work_dir / uuid4().hex
        self._receiving.add(folder.name)  # before a sweep may see it
        try:
            folder.mkdir()
            yield folder
        except BaseException:
            shutil.rmtree(folder, ignore_errors=True)
            raise
        finally:
            self._receiving.discard(folder.name)

    async def discard(self, folder: Path) -> None:
        """Removes a folder that belongs to no job, also where the server is stopping."""
        await run_to_end(shutil.rmtree, folder, ignore_errors=True)

    async def clear(self, job: Job) -> None:
        """Removes all temporary files of a finished job, and a result that was not published.

        From its beginning on, the job cannot be queued again. A job that was queued again since it
        was read keeps its files.
        """
        key = job.user_id, job.id
        try:
            async with self.lock:
                now = await run_in_threadpool(self._jobs.find, *key)
                if now is None or now.finished_at != job.finished_at or key in self._clearing:
                    return
                self._clearing.add(key)
            try:
                await run_in_threadpool(self._clear, now)
            finally:
                self._clearing.discard(key)
        except SQLAlchemyError as error:
            log.warning("leftovers stay", export_id=job.id, why=reason_of(error))
        except (OSError, StoreError) as error:
            log.warning("leftovers stay", export_id=job.id, why=str(error))

    def keeps_files(self, job: Job) -> bool:
        """Whether the job can be queued again: its clips are there, and are not being removed."""
        return (job.user_id, job.id) not in self._clearing and has_uploads(job, self._work_dir)

    async def sweep(self) -> None:
        """Clears finished jobs, removes folders and uploads of no job, and sweeps the caches."""
        for job in await run_in_threadpool(self._jobs.leftovers, KEEP_FAILED_S):
            await self.clear(job)
        await run_in_threadpool(self._sweep_folders)
        await run_in_threadpool(sweep_uploads, self._upload_dir, KEEP_UPLOAD_S)
        for cache in self._caches:
            await run_in_threadpool(cache.sweep)

    def _clear(self, job: Job) -> None:
        folder = self._work_dir / job.folder
        if folder.exists():
            shutil.rmtree(folder)
        if job.remote:
            self._store.delete_prefix(temp_prefix(job))
            self._store.delete(manifest_key(job))
        self._store.discard_uploads(job.output_key)
        if job.status != JobStatus.DONE:
            self._store.delete(job.output_key)
        self._jobs.mark_cleared(job.user_id, job.id, still=JobStatus(job.status))

    def _sweep_folders(self) -> None:
        """Removes old folders of no job, and old clips that a crash kept from the store.

        A folder is received, then belongs to a job, then to nobody, in this order. So what lies
        there is listed first, and who needs it is asked afterwards. Names are not used twice.
        """
        folders = [*self._work_dir.iterdir()]
        receiving = set(self._receiving)
        needed = receiving | self._jobs.folders()
        nobodys = [folder for folder in folders if folder.name not in needed]
        nobodys += [path for path in self._upload_dir.iterdir() if path.is_dir()]
        old = time.time() - KEEP_UPLOAD_S
        for folder in nobodys:
            with contextlib.suppress(OSError):
                if max(path.lstat().st_mtime for path in [folder, *folder.rglob("*")]) < old:
                    shutil.rmtree(folder)


def has_uploads(job: Job, work_dir: Path) -> bool:
    """Whether all clips that were uploaded for the job are still in its folder."""
    names = task_adapter.validate_python(job.request).uploads()
    return all((work_dir / job.folder / name).is_file() for name in names)


def temp_prefix(job: Job) -> str:
    """Prefix of the job's temporary objects, inside the user's own folder of the store."""
    return user_key(job.user_id, "temp", f"multi_clip_{job.folder}")


def manifest_key(job: Job) -> str:
    """Key of the manifest that the functions on Modal write beside the video."""
    return f"{job.output_key}.manifest.json"
