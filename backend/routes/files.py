"""Serves files of a local store by signed URL. A bucket serves its files itself."""

from __future__ import annotations

from pathlib import Path as FilePath

from fastapi import APIRouter, HTTPException
from fastapi.responses import FileResponse

from backend.api_document import errors
from backend.security_headers import MEDIA, NOTHING
from backend.services import Server
from engine.errors import ObjectMissingError, StoreError
from engine.storage.media_types import content_disposition, is_shown, media_type

router = APIRouter(tags=["files"])


@router.get(
    "/api/files/{key:path}",
    response_class=FileResponse,
    responses={
        200: {"content": {"*/*": {}}},
        206: {"description": "A part of the file.", "content": {"*/*": {}}},
        **errors(403, 404, 503),
        416: {"description": "The file has no such range."},
    },
)
def fetch(
    server: Server, key: str, expires: int = 0, signature: str = "", name: str = ""
) -> FileResponse:
    """The file, or byte ranges of it. 403 if the URL is not signed here or has expired.

    Whoever has the URL may use it on any page. A browser shows films, sound and pictures, and saves
    everything else.
    """
    if not server.url_signer.is_valid(key, expires, name, signature):
        raise HTTPException(403, "this URL has expired or is not valid")
    try:
        path = server.store.source(key)
        disposition = content_disposition(key, name or None)
    except ObjectMissingError:
        raise HTTPException(404, "the file was removed") from None
    except StoreError as error:
        raise HTTPException(404, str(error)) from error
    if not isinstance(path, FilePath):
        raise HTTPException(404, "the files of this server are in a bucket")
    headers = {
        "Content-Disposition": disposition,
        "Content-Security-Policy": MEDIA if is_shown(key) else NOTHING,
        "Cross-Origin-Resource-Policy": "cross-origin",
    }
    return FileResponse(path, media_type=media_type(key), headers=headers)
