"""Routes of a user's stored clips: upload in resumable pieces, list, fetch, remove."""

from __future__ import annotations

from typing import Annotated, Any
from urllib.parse import urljoin

from fastapi import APIRouter, Header, HTTPException, Path, Request
from fastapi.responses import JSONResponse, RedirectResponse, Response
from starlette.concurrency import run_in_threadpool

from backend.access import User
from backend.api_document import errors
from backend.clip_library import add_clip, clip_document, stored_clip
from backend.clip_names import check_is_film
from backend.export_form import CLIPS, clip_key
from backend.resumable_upload import (
    ContentRange,
    append,
    discard_upload,
    find_upload,
    upload_path,
)
from backend.services import Server
from backend.worker_pool import WorkError
from engine.storage import user_key

router = APIRouter(prefix="/api/clips", tags=["clips"])

Key = Annotated[str, Path(min_length=1, max_length=200)]


@router.get("")
def list_clips(user: User, server: Server) -> dict[str, Any]:
    """The user's clips, by key."""
    return {"clips": [clip_document(each) for each in server.store.list(user_key(user, CLIPS))]}


@router.get("/{key}", responses=errors(404, 500, 507))
async def get_clip(user: User, server: Server, key: Key) -> dict[str, Any]:
    """Facts about a clip: size, rotation, colours, frames, sound, chapters."""
    info = await stored_clip(server, user, key)
    try:
        return clip_document(info) | await server.inspector.probe_stored(info.key, user)
    except WorkError as error:
        raise HTTPException(error.status, error.detail) from error


@router.get("/{key}/file", status_code=307, responses=errors(404))
async def fetch(request: Request, user: User, server: Server, key: Key) -> RedirectResponse:
    """The clip's file: redirects to a URL that expires and serves byte ranges."""
    info = await stored_clip(server, user, key)
    url = server.store.url(info.key, server.settings.url_lifetime_s)
    return RedirectResponse(urljoin(str(request.base_url), url), 307)


@router.get("/{key}/upload", responses=errors(423))
async def upload_state(user: User, server: Server, key: Key) -> dict[str, Any]:
    """How many bytes of a clip have been received: where to continue."""
    stored = await run_in_threadpool(server.store.stat, clip_key(user, key))
    if stored is not None:
        return {"key": key, "offset": stored.size_bytes, "complete": True}
    upload_dir = server.settings.upload_dir
    announced = await run_in_threadpool(find_upload, upload_dir, user, key)
    path = upload_path(upload_dir, user, key)
    size = path.stat().st_size if path.exists() else 0
    return {"key": key, "offset": announced.offset if announced else size, "complete": False}


@router.put(
    "/{key}",
    responses={
        201: {"description": "the clip is complete"},
        202: {"description": "more must follow"},
        **errors(409, 411, 500, 507),
    },
    openapi_extra={
        "requestBody": {
            "required": True,
            "content": {"application/octet-stream": {"schema": {"type": "string"}}},
        }
    },
)
async def upload(
    request: Request,
    user: User,
    server: Server,
    key: Key,
    content_range: Annotated[str | None, Header()] = None,
) -> JSONResponse:
    """Upload a clip, or with `Content-Range: bytes 0-99/1000` the next piece of it.

    The key must end in what the file is, such as `match.mp4`. 409 and the `offset` to continue from
    if a piece does not follow the bytes received so far.
    """
    stored_as = clip_key(user, key)
    piece = ContentRange.from_request(content_range, request)
    there = await run_in_threadpool(server.store.stat, stored_as)
    if there is not None:
        if there.size_bytes == piece.total:
            return JSONResponse(clip_document(there))
        raise HTTPException(409, f"{key}: exists already, with another size")
    check_is_film(key)
    path = upload_path(server.settings.upload_dir, user, key)
    received = await append(request, path, key, piece, server.settings)
    if received.whole is None:
        return JSONResponse({"key": key, "offset": received.size_bytes, "complete": False}, 202)
    return JSONResponse(await add_clip(server, user, key, received), 201)


@router.delete("/{key}", status_code=204, responses=errors(423))
async def remove(user: User, server: Server, key: Key) -> Response:
    """Remove a clip, also an unfinished one. 423 while another request sends it."""
    stored_as = clip_key(user, key)
    await run_in_threadpool(discard_upload, server.settings.upload_dir, user, key)
    await run_in_threadpool(server.store.delete, stored_as)
    return Response(status_code=204)
