"""A user's stored clips: finds them, describes them, and takes in a complete upload."""

from __future__ import annotations

import asyncio
from typing import Any

from fastapi import HTTPException
from starlette.concurrency import run_in_threadpool

from backend.clip_names import check_is_in
from backend.export_form import CLIPS, clip_key
from backend.resumable_upload import AppendResult
from backend.services import Services
from backend.worker_pool import WorkError
from engine.storage import ObjectInfo


async def find_clip(server: Services, user: str, key: str) -> ObjectInfo | None:
    """The clip that the user calls `key`, None where there is none. Raises `HTTPException` 422."""
    return await run_in_threadpool(server.store.stat, clip_key(user, key))


async def stored_clip(server: Services, user: str, key: str) -> ObjectInfo:
    """The clip that the user calls `key`. Raises `HTTPException` 404 and 422."""
    info = await find_clip(server, user, key)
    if info is None:
        raise HTTPException(404, "there is no such clip")
    return info


async def add_clip(server: Services, user: str, key: str, received: AppendResult) -> dict[str, Any]:
    """Puts a complete upload into the store, and describes the clip.

    The file is probed first, and its folder is removed in any case. If the server stops meanwhile,
    the upload can be continued. Raises `HTTPException` 422 for a file that is no video, or is of
    another kind than its key says.
    """
    whole = received.whole
    assert whole is not None
    try:
        facts = await server.inspector.probe(whole.parent, whole.name, user)
        check_is_in(key, facts["file"]["container"])
        await run_in_threadpool(server.store.put_file, clip_key(user, key), whole)
    except WorkError as error:
        raise HTTPException(error.status, error.detail) from error
    except asyncio.CancelledError:  # the server stops
        received.put_back()
        raise
    finally:
        await server.cleanup.discard(whole.parent)
    server.metrics.uploaded.inc(received.size_bytes)
    return clip_document(await stored_clip(server, user, key)) | facts


def clip_document(info: ObjectInfo) -> dict[str, Any]:
    """A stored clip as JSON."""
    return {
        "key": info.key.partition(f"/{CLIPS}/")[2],
        "size_bytes": info.size_bytes,
        "modified": info.modified.isoformat(),
        "complete": True,
    }
