"""Has a worker check a task or probe a file before the server accepts it."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from pathlib import Path
from typing import Any

from backend.assignment import Assignment, WorkKind
from backend.file_cache import FileCache
from backend.settings import Settings
from backend.tasks import ExtractTask, RenderTask
from backend.worker_pool import WorkerDiedError, WorkError, run_worker
from engine.storage import Store

MAX_CONCURRENT = 2
TIMEOUT_S = 120.0
"""A file that takes longer to inspect is refused."""


class Inspector:
    """Runs short workers, a few at a time. Raises `WorkError` for files that cannot be used."""

    def __init__(self, settings: Settings, store: Store, source_cache: FileCache) -> None:
        self._settings = settings
        self._store = store
        self._source_cache = source_cache
        self._slots = asyncio.Semaphore(MAX_CONCURRENT)

    async def check(
        self, task: RenderTask | ExtractTask, folder: Path, user_id: str
    ) -> dict[str, Any]:
        """`frames`, `duration_s` and `warnings` of the task's result.

        Raises `WorkError`: 422 if the task cannot be done, 413 if its result is too long.
        """
        found = await self._run(
            replace(self._assignment(WorkKind.CHECK, user_id, folder), task=task)
        )
        limit = self._settings.max_output_frames
        if found["frames"] > limit:
            raise WorkError(413, f"the result would have {found['frames']} frames, at most {limit}")
        return found

    async def probe(self, folder: Path, name: str, user_id: str) -> dict[str, Any]:
        """`file` and `chapters` of the file `folder / name`."""
        assignment = self._assignment(WorkKind.PROBE, user_id, folder)
        return await self._run(replace(assignment, probed=name))

    async def probe_stored(self, key: str, user_id: str) -> dict[str, Any]:
        """`file` and `chapters` of an object of the store."""
        assignment = self._assignment(WorkKind.PROBE, user_id, self._settings.work_dir)
        return await self._run(replace(assignment, output_key=key))

    def _assignment(self, kind: WorkKind, user_id: str, folder: Path) -> Assignment:
        return Assignment(kind, user_id, folder, self._store, self._source_cache)

    async def _run(self, assignment: Assignment) -> dict[str, Any]:
        try:
            async with self._slots, asyncio.timeout(TIMEOUT_S):
                return await run_worker(assignment)
        except TimeoutError:
            raise WorkError(422, f"the inspection took longer than {TIMEOUT_S:g} s") from None
        except WorkerDiedError as error:
            raise WorkError(422, f"one of the files cannot be read: {error}") from error
