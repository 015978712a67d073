"""Has workers make what the page shows: clip previews, exact frames, estimates.

Clip previews are cached in a folder, by the clip's key and ETag.
"""

from __future__ import annotations

import asyncio
import hashlib
import json
import os
import time
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from starlette.concurrency import run_in_threadpool

from backend.assignment import FILMSTRIP_FILE, FRAME_FILE, Assignment, WorkKind
from backend.settings import Settings
from backend.tasks import RenderTask
from backend.worker_pool import WorkerDiedError, WorkError, run_worker
from engine.files import whole_file
from engine.storage import ObjectInfo, Store

MAX_CONCURRENT = 2
TIMEOUT_S = 300.0
"""Without a GPU, a network may take minutes for one frame."""
PREVIEW_VERSION = 2
"""Increase it when the content of clip previews changes, so that cached ones are not used."""
CACHE_LIFETIME_S = 30 * 86_400
"""How long an unused clip preview is kept."""


class Previewer:
    """Runs preview workers, a few at a time. Raises `WorkError` if a preview is not possible."""

    def __init__(self, settings: Settings, store: Store) -> None:
        self._settings = settings
        self._store = store
        self._slots = asyncio.Semaphore(MAX_CONCURRENT)
        self._folder = settings.data_dir / "glances"

    async def clip_preview(self, clip: ObjectInfo) -> dict[str, Any]:
        """Facts, filmstrip layout and sound peaks of a stored clip."""
        path = self._cached_path(clip, ".json")
        if (found := await run_in_threadpool(_read_cached, path)) is not None:
            document: dict[str, Any] = json.loads(found)
            return document
        assignment = Assignment(WorkKind.CLIP_PREVIEW, Path(), self._store, output_key=clip.key)
        made, picture = await self._run(assignment, FILMSTRIP_FILE)
        await run_in_threadpool(self._cache, clip, made, picture)
        return made

    async def filmstrip(self, clip: ObjectInfo) -> bytes:
        """The filmstrip of a stored clip, as a JPEG file."""
        path = self._cached_path(clip, ".jpg")
        if (found := await run_in_threadpool(_read_cached, path)) is None:
            await self.clip_preview(clip)
            found = await run_in_threadpool(path.read_bytes)
        return found

    async def frame(
        self, task: RenderTask, user_id: str, frame: int, upscaler: str
    ) -> tuple[dict[str, Any], bytes]:
        """Facts about one output frame, and the frame as a PNG file."""
        assignment = self._assignment(WorkKind.FRAME_PREVIEW, task, user_id)
        made, picture = await self._run(
            replace(assignment, frame=frame, upscaler=upscaler), FRAME_FILE
        )
        if "refused" in made:
            raise WorkError(503, made["refused"])
        return made, picture

    async def estimate(self, task: RenderTask, user_id: str) -> dict[str, Any]:
        """`plan` and `estimate` of an edit."""
        made, _ = await self._run(self._assignment(WorkKind.ESTIMATE, task, user_id), "")
        return made

    async def read_back(self, key: str) -> dict[str, Any]:
        """What a finished film in the store holds, read from its file."""
        made, _ = await self._run(
            Assignment(WorkKind.READ_BACK, Path(), self._store, output_key=key), ""
        )
        return made

    def _assignment(self, kind: WorkKind, task: RenderTask, user_id: str) -> Assignment:
        return Assignment(
            kind,
            Path(),
            self._store,
            task=task,
            output_key=f"{user_id}/",
            upscaler=self._settings.upscaler,
            encoder=self._settings.encoder,
            encoder_options=tuple(self._settings.encoder_options.items()),
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

    def _cached_path(self, clip: ObjectInfo, suffix: str) -> Path:
        name = hashlib.sha256(f"{PREVIEW_VERSION}\n{clip.key}\n{clip.etag}".encode()).hexdigest()[
            :40
        ]
        return self._folder / f"{name}{suffix}"

    def _cache(self, clip: ObjectInfo, made: dict[str, Any], picture: bytes) -> None:
        self._folder.mkdir(exist_ok=True)
        old = time.time() - CACHE_LIFETIME_S
        for path in self._folder.iterdir():
            if path.stat().st_mtime < old:
                path.unlink(missing_ok=True)
        for suffix, data in ((".jpg", picture), (".json", json.dumps(made).encode())):
            with whole_file(self._cached_path(clip, suffix)) as unfinished:
                unfinished.write_bytes(data)


def _read_cached(path: Path) -> bytes | None:
    """The cached file, None if there is none. Reading it renews its age."""
    try:
        os.utime(path)
        return path.read_bytes()
    except FileNotFoundError:
        return None
