"""Routes for resumable uploads of clips by the tus protocol 1.0.0 (https://tus.io/protocols).

Extensions: creation, termination, expiration. An upload's URL ends in the key of the clip that it
becomes. Bytes are kept by `resumable_upload.py`, as are those of `PUT /api/clips/{key}`.
"""

from __future__ import annotations

import re
from base64 import b64decode
from binascii import Error as Base64Error
from collections.abc import Callable, Coroutine
from email.utils import formatdate
from typing import Annotated, Any
from urllib.parse import quote

from fastapi import APIRouter, Header, HTTPException, Path, Request, Response
from fastapi.routing import APIRoute
from starlette.concurrency import run_in_threadpool

from backend.access import User
from backend.api_document import errors
from backend.body_limits import RequestRefused
from backend.cleanup import KEEP_UPLOAD_S
from backend.clip_library import add_clip, find_clip
from backend.clip_names import check_is_film
from backend.export_form import clip_key
from backend.resumable_upload import (
    ContentRange,
    PendingUpload,
    append,
    check_room,
    discard_upload,
    find_upload,
    start_upload,
)
from backend.services import Server, Services

TUS_VERSION = "1.0.0"
EXTENSIONS = "creation,termination,expiration"
EXPOSED_HEADERS = (
    "Location",
    "Tus-Resumable",
    "Tus-Version",
    "Tus-Extension",
    "Tus-Max-Size",
    "Upload-Offset",
    "Upload-Length",
    "Upload-Expires",
)
"""Response headers that a client on another origin may read."""

OFFSET_STREAM = "application/offset+octet-stream"
_COUNT = re.compile(r"[0-9]{1,15}")


class TusRoute(APIRoute):
    """Adds `Tus-Resumable` to every response and refuses other versions of the protocol (412)."""

    def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        """See `APIRoute`."""
        handle = super().get_route_handler()

        async def handle_tus(request: Request) -> Response:
            try:
                if request.headers.get("tus-resumable") != TUS_VERSION:
                    message = f"Tus-Resumable: must be {TUS_VERSION}"
                    raise HTTPException(412, message, {"Tus-Version": TUS_VERSION})
                response = await handle(request)
            except HTTPException as error:
                error.headers = {**(error.headers or {}), "Tus-Resumable": TUS_VERSION}
                raise
            response.headers["Tus-Resumable"] = TUS_VERSION
            return response

        return handle_tus


router = APIRouter(
    prefix="/api/uploads", tags=["clips"], route_class=TusRoute, responses=errors(412)
)
discovery = APIRouter(prefix="/api/uploads", tags=["clips"])

Key = Annotated[str, Path(min_length=1, max_length=200)]


@discovery.options("", status_code=204)
@discovery.options("/{key}", status_code=204, include_in_schema=False)
def capabilities(server: Server) -> Response:
    """What the server supports of tus."""
    return Response(
        status_code=204,
        headers={
            "Tus-Resumable": TUS_VERSION,
            "Tus-Version": TUS_VERSION,
            "Tus-Extension": EXTENSIONS,
            "Tus-Max-Size": str(server.settings.max_request_bytes),
        },
    )


@router.post("", status_code=201, responses=errors(409, 413))
async def create(
    request: Request,
    user: User,
    server: Server,
    upload_length: Annotated[str | None, Header()] = None,
    upload_defer_length: Annotated[str | None, Header()] = None,
    upload_metadata: Annotated[str, Header(max_length=4096)] = "",
) -> Response:
    """Create an upload of `Upload-Length` bytes; `Location` is where to send them.

    `Upload-Metadata` names the clip: `key`, or else `filename`. It must end in what the file is,
    such as `.mp4`. An unfinished upload of the same key starts again. 409 if a clip of that key is
    stored already.
    """
    if upload_defer_length is not None:
        raise RequestRefused(400, "Upload-Defer-Length: the length must be known")
    length = _count("Upload-Length", upload_length)
    if length == 0:
        raise RequestRefused(422, "the clip is empty")
    key = _key_of(_metadata(upload_metadata))
    check_room(length, server.settings)
    if await find_clip(server, user, key) is not None:
        raise RequestRefused(409, f"{key}: exists already; name another `key` in Upload-Metadata")
    check_is_film(key)
    upload = await run_in_threadpool(start_upload, server.settings.upload_dir, user, key, length)
    path = request.url_for("resume", key=quote(key, safe="")).path
    return Response(status_code=201, headers={"Location": path, **_expiry(upload)})


@router.head("/{key}", name="resume", status_code=204, responses=errors(404))
async def offset(user: User, server: Server, key: Key) -> Response:
    """How many bytes have been received. All of them if the clip is stored."""
    stored = await find_clip(server, user, key)
    if stored is not None:
        return _state(stored.size_bytes, stored.size_bytes, {})
    upload = await _pending(server, user, key)
    return _state(upload.offset, upload.length, _expiry(upload))


@router.patch(
    "/{key}",
    status_code=204,
    responses=errors(404, 409, 411, 415, 500, 507),
    openapi_extra={
        "requestBody": {
            "required": True,
            "content": {OFFSET_STREAM: {"schema": {"type": "string"}}},
        }
    },
)
async def send(
    request: Request,
    user: User,
    server: Server,
    key: Key,
    upload_offset: Annotated[str | None, Header()] = None,
) -> Response:
    """Append the body at `Upload-Offset`. What comes before a broken connection is kept.

    409 if the offset is not the number of bytes received, or while another request sends. The last
    byte makes it a clip: 422 if it is no video, and the upload is gone.
    """
    if request.headers.get("content-type") != OFFSET_STREAM:
        raise RequestRefused(415, f"Content-Type: must be {OFFSET_STREAM}")
    start = _count("Upload-Offset", upload_offset)
    upload = await _pending(server, user, key)
    declared = request.headers.get("content-length")
    stop = upload.length if declared is None else start + int(declared)
    if stop > upload.length:
        raise RequestRefused(413, f"the upload has {upload.length} bytes, not {stop}")
    span = ContentRange(start, stop, upload.length)
    received = await append(request, upload.path, key, span, server.settings, may_restart=False)
    if received.whole is not None:
        await add_clip(server, user, key, received)
        return _state(received.size_bytes, None, {})
    return _state(received.size_bytes, None, _expiry(await _pending(server, user, key)))


@router.delete("/{key}", status_code=204, responses=errors(404, 423))
async def terminate(user: User, server: Server, key: Key) -> Response:
    """Delete an unfinished upload. A stored clip is deleted by `DELETE /api/clips/{key}`.

    423 while another request sends.
    """
    await _pending(server, user, key)
    await run_in_threadpool(discard_upload, server.settings.upload_dir, user, key)
    return Response(status_code=204)


@router.post("/{key}", status_code=204, include_in_schema=False)
async def override(
    request: Request,
    user: User,
    server: Server,
    key: Key,
    x_http_method_override: Annotated[str, Header()] = "",
    upload_offset: Annotated[str | None, Header()] = None,
) -> Response:
    """`PATCH` or `DELETE` for clients that can only send `POST`."""
    match x_http_method_override.upper():
        case "PATCH":
            return await send(request, user, server, key, upload_offset)
        case "DELETE":
            return await terminate(user, server, key)
        case _:
            raise HTTPException(405, "X-HTTP-Method-Override: must be PATCH or DELETE")


async def _pending(server: Services, user: str, key: str) -> PendingUpload:
    """The unfinished upload of that key. Raises `HTTPException` 404 and 422."""
    clip_key(user, key)
    upload = await run_in_threadpool(find_upload, server.settings.upload_dir, user, key)
    if upload is None:
        raise HTTPException(404, "there is no such upload")
    return upload


def _state(offset: int, length: int | None, headers: dict[str, str]) -> Response:
    """204 with the offset. `Cache-Control` is for the answer of HEAD."""
    if length is not None:
        headers = {**headers, "Upload-Length": str(length), "Cache-Control": "no-store"}
    return Response(status_code=204, headers={"Upload-Offset": str(offset), **headers})


def _expiry(upload: PendingUpload) -> dict[str, str]:
    return {"Upload-Expires": formatdate(upload.touched_s + KEEP_UPLOAD_S, usegmt=True)}


def _count(name: str, value: str | None) -> int:
    """A header's whole number. Raises `RequestRefused` 400."""
    if value is None or not _COUNT.fullmatch(value):
        raise RequestRefused(400, f"{name}: must be a number of bytes")
    return int(value)


def _metadata(header: str) -> dict[str, str]:
    """`Upload-Metadata`: pairs of a name and a base64 value. Raises `RequestRefused` 400."""
    found: dict[str, str] = {}
    for pair in filter(None, map(str.strip, header.split(","))):
        name, _, value = pair.partition(" ")
        try:
            found[name] = b64decode(value, validate=True).decode()
        except (Base64Error, UnicodeDecodeError):
            raise RequestRefused(400, f"Upload-Metadata: {name} is not base64 of UTF-8") from None
    return found


def _key_of(metadata: dict[str, str]) -> str:
    """The clip's key. Raises `RequestRefused` 400 where nothing names it."""
    file_name = metadata.get("filename") or metadata.get("name") or ""
    named = metadata.get("key") or file_name.replace("\\", "/").rpartition("/")[2]
    if not named:
        raise RequestRefused(400, "Upload-Metadata: must name the clip by `key` or `filename`")
    if len(named) > 200 or "/" in named:
        raise RequestRefused(422, "key: must have at most 200 characters, and no slash")
    return named
