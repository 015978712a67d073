"""Has workers make what the page shows: clip previews, exact frames, estimates.

Clip previews are cached in a folder, by the clip's key and ETag.
"""

from __future__ import annotations

import asyncio
import hashlib
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from starlette.concurrency import run_in_threadpool

from backend.assignment import FILMSTRIP_FILE, FRAME_FILE, Assignment, WorkKind
from backend.file_cache import FileCache
from backend.settings import Settings
from backend.tasks import RenderTask
from backend.worker_pool import WorkerDiedError, WorkError, run_worker
from engine.records import document_in, record_bytes
from engine.storage import ObjectInfo, Store

MAX_CONCURRENT = 2
TIMEOUT_S = 300.0
"""Without a GPU, a network may take minutes for one frame."""
PREVIEW_VERSION = 2
"""Increase it when the content of clip previews changes, so that cached ones are not used."""


class Previewer:
    """Runs preview workers, a few at a time. Raises `WorkError` if a preview is not possible."""

    def __init__(
        self, settings: Settings, store: Store, source_cache: FileCache, preview_cache: FileCache
    ) -> None:
        self._settings = settings
        self._store = store
        self._source_cache = source_cache
        self._previews = preview_cache
        self._slots = asyncio.Semaphore(MAX_CONCURRENT)

    async def clip_preview(self, clip: ObjectInfo, user_id: str) -> dict[str, Any]:
        """Facts, filmstrip layout and sound peaks of a stored clip."""
        document, _ = await self._clip_preview(clip, user_id)
        return document

    async def filmstrip(self, clip: ObjectInfo, user_id: str) -> bytes:
        """The filmstrip of a stored clip, as a JPEG file."""
        _, picture = await self._clip_preview(clip, user_id)
        return picture

    async def frame(
        self, task: RenderTask, user_id: str, frame: int, upscaler: str
    ) -> tuple[dict[str, Any], bytes]:
        """Facts about one output frame, and the frame as a PNG file."""
        assignment = self._assignment(WorkKind.FRAME_PREVIEW, user_id, task)
        return await self._run(replace(assignment, frame=frame, upscaler=upscaler), FRAME_FILE)

    async def estimate(self, task: RenderTask, user_id: str) -> dict[str, Any]:
        """`plan` and `estimate` of an edit."""
        made, _ = await self._run(self._assignment(WorkKind.ESTIMATE, user_id, task), "")
        return made

    async def read_back(self, key: str, user_id: str) -> dict[str, Any]:
        """What a finished film in the store holds, read from its file."""
        assignment = replace(self._assignment(WorkKind.READ_BACK, user_id), output_key=key)
        made, _ = await self._run(assignment, "")
        return made

    async def _clip_preview(self, clip: ObjectInfo, user_id: str) -> tuple[dict[str, Any], bytes]:
        """The facts and the filmstrip of a stored clip, from the cache or made by a worker."""
        version = f"{PREVIEW_VERSION}\n{clip.key}\n{clip.etag}"
        name = hashlib.sha256(version.encode()).hexdigest()[:40]
        document = document_in(await run_in_threadpool(self._previews.read, f"{name}.json"))
        picture = await run_in_threadpool(self._previews.read, f"{name}.jpg")
        if document is not None and picture is not None:
            return document, picture
        assignment = replace(self._assignment(WorkKind.CLIP_PREVIEW, user_id), output_key=clip.key)
        made, picture = await self._run(assignment, FILMSTRIP_FILE)
        await run_in_threadpool(self._previews.write, f"{name}.jpg", picture)
        await run_in_threadpool(self._previews.write, f"{name}.json", record_bytes(made))
        return made, picture

    def _assignment(
        self, kind: WorkKind, user_id: str, task: RenderTask | None = None
    ) -> Assignment:
        return Assignment(
            kind,
            user_id,
            Path(),
            self._store,
            self._source_cache,
            task=task,
            upscaler=self._settings.upscaler,
            encoder=self._settings.encoder,
            encoder_options=tuple(self._settings.encoder_options.items()),
            key_interval_s=self._settings.key_interval_s,
            workers=self._settings.workers,
            local_jobs=self._settings.local_jobs,
        )

    async def _run(self, assignment: Assignment, picture: str) -> tuple[dict[str, Any], bytes]:
        """A worker's result, and the picture that it wrote (empty if none)."""
        try:
            async with self._slots, asyncio.timeout(TIMEOUT_S):
                with TemporaryDirectory() as name:
                    folder = Path(name)
                    made = await run_worker(replace(assignment, folder=folder))
                    path = folder / picture
                    return made, path.read_bytes() if path.is_file() else b""
        except TimeoutError:
            raise WorkError(504, f"took longer than {TIMEOUT_S:g} s") from None
        except WorkerDiedError as error:
            raise WorkError(422, f"one of the files cannot be read: {error}") from error
