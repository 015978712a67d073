"""What a browser is told of an object: its media type, and whether to show or to save it.

The suffix of the key alone decides. Users store what they like, and a browser runs the scripts in
HTML, SVG and XML as those of the server that sent them. So a short list of films, sound and
pictures is shown. Everything else is bytes to save.
"""

from __future__ import annotations

from pathlib import PurePosixPath
from urllib.parse import quote

from engine.errors import StoreError
from engine.storage.keys import checked_key

SHOWN = {
    ".3g2": "video/3gpp2",
    ".3gp": "video/3gpp",
    ".avi": "video/x-msvideo",
    ".m2ts": "video/mp2t",
    ".m4v": "video/x-m4v",
    ".mkv": "video/x-matroska",
    ".mov": "video/quicktime",
    ".mp4": "video/mp4",
    ".mpeg": "video/mpeg",
    ".mpg": "video/mpeg",
    ".mts": "video/mp2t",
    ".ogg": "video/ogg",
    ".ogv": "video/ogg",
    ".ts": "video/mp2t",
    ".webm": "video/webm",
    ".aac": "audio/aac",
    ".flac": "audio/flac",
    ".m4a": "audio/mp4",
    ".mp3": "audio/mpeg",
    ".opus": "audio/ogg",
    ".wav": "audio/wav",
    ".gif": "image/gif",
    ".jpeg": "image/jpeg",
    ".jpg": "image/jpeg",
    ".png": "image/png",
    ".webp": "image/webp",
}
"""Media types, by suffix, of what a browser may show. None of these can hold a script."""

BYTES = "application/octet-stream"


def is_shown(key: str) -> bool:
    """Whether a browser may show the object. It saves any other."""
    return _suffix(key) in SHOWN


def media_type(key: str) -> str:
    """The object's media type (`Content-Type`)."""
    return SHOWN.get(_suffix(key), BYTES)


def content_disposition(key: str, file_name: str | None = None) -> str:
    """Whether a browser shows the object or saves it. With `file_name` it saves it under that name.

    Raises StoreError for a name that is no plain name, or has another suffix than the key: what is
    saved under it would be opened as something else.
    """
    if file_name is None:
        return "inline" if is_shown(key) else "attachment"
    if "/" in file_name or _suffix(file_name) != _suffix(key):
        raise StoreError(key, f"cannot be saved as {file_name!a}: the name must end like the key")
    return f"attachment; filename*=UTF-8''{quote(checked_key(file_name), safe='')}"


def _suffix(name: str) -> str:
    return PurePosixPath(name).suffix.lower()
