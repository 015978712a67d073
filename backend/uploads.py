"""Receives multipart bodies and streams them to disk. Holds half a megabyte of each in memory.

Checks the number and size of parts, and the free disk space. `body_limits.py` checks the size and
speed of the whole body. Knows no job and no video.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, BinaryIO

from python_multipart.exceptions import FormParserError
from python_multipart.multipart import MultipartParser, parse_options_header
from starlette.requests import ClientDisconnect, Request

from backend.body_limits import RequestRefused, allow_body
from backend.settings import Settings
from backend.threads import run_to_end

if TYPE_CHECKING:
    from python_multipart.multipart import MultipartCallbacks

BLOCK_BYTES = 1 << 19
"""Bytes collected before a thread parses and writes them."""

MAX_FIELDS = 64
_NAME_CHARS = 100


@dataclass(frozen=True, slots=True)
class ReceivedFile:
    """A file part. `path` is relative to the form's folder, `name` is the sender's name for it."""

    path: Path
    name: str
    size_bytes: int


@dataclass(slots=True)
class Form:
    """A received form: text fields and files, by field name."""

    fields: dict[str, str] = field(default_factory=dict)
    files: dict[str, ReceivedFile] = field(default_factory=dict)


def allow_upload(request: Request, settings: Settings, folder: Path) -> None:
    """Allows the request's body to be as long as an upload may be, and as the disk has room for.

    Raises `RequestRefused` 411, 413, 507 because of the length that the request says it has.
    """
    declared = request.headers.get("content-length")
    if declared is None and "chunked" not in request.headers.get("transfer-encoding", ""):
        raise RequestRefused(411, "the request has neither Content-Length nor chunked encoding")
    allow_body(request, settings.max_request_bytes)
    if shutil.disk_usage(folder).free - int(declared or 0) < settings.min_free_bytes:
        raise RequestRefused(507, "there is not enough disk space for this upload")


async def receive_form(
    request: Request,
    folder: Path,
    settings: Settings,
    *,
    max_files: int,
    on_bytes: Callable[[Form, float], None] | None = None,
) -> Form:
    """Reads a multipart request into `folder`. Files are written to `<field>/<name>` and synced.

    `on_bytes` is called from time to time with the form so far and the share of the declared length
    (0 to 1). Raises `RequestRefused`: 400 or 415 for a broken body, 408, 413 or 507 for a limit.
    """
    kind, options = parse_options_header(request.headers.get("content-type", ""))
    boundary = options.get(b"boundary")
    if kind != b"multipart/form-data" or not boundary:
        raise RequestRefused(415, "the body must be multipart/form-data with a boundary")
    allow_upload(request, settings, folder)
    length = int(request.headers.get("content-length", 0))
    writer = _FormWriter(folder, settings, max_files)
    received = 0
    try:
        parser = MultipartParser(boundary, writer.callbacks())
        block = bytearray()
        async for piece in request.stream():
            block += piece
            received += len(piece)
            if len(block) >= BLOCK_BYTES:
                await run_to_end(parser.write, bytes(block))
                block.clear()
                if on_bytes is not None:
                    on_bytes(writer.form, received / length if length else 0)
        await run_to_end(parser.write, bytes(block))
        if not writer.ended:
            raise RequestRefused(400, "the multipart body ends before its last boundary")
    except FormParserError as error:
        raise RequestRefused(400, f"the multipart body is broken: {error}") from error
    except ClientDisconnect:
        raise RequestRefused(400, "the sender disconnected") from None
    except OSError as error:
        raise RequestRefused(507, f"the upload cannot be stored: {error.strerror}") from error
    finally:
        writer.close()
    return writer.form


def safe_name(name: str) -> str:
    """The last part of a sender's file name, made safe as a file name here."""
    last = PurePosixPath(name.replace("\\", "/")).name
    seen = (each for each in last if each.isprintable() and each not in ':*?"<>|')
    kept = "".join(seen).strip(". ")
    stem, _, suffix = kept.rpartition(".")
    short = f"{stem[:_NAME_CHARS]}.{suffix[:8]}" if stem else kept[:_NAME_CHARS]
    return short.encode("utf-8", "ignore").decode() if short.strip(".") else "video"


class _FormWriter:
    """Handles the parser's events and writes the parts. Runs in a thread, one block at a time."""

    def __init__(self, folder: Path, settings: Settings, max_files: int) -> None:
        self.form = Form()
        self.ended = False
        self._folder = folder
        self._settings = settings
        self._max_files = max_files
        self._header = (bytearray(), bytearray())
        self._disposition = b""
        self._name = ""
        self._text: bytearray | None = None
        self._file: BinaryIO | None = None
        self._received: ReceivedFile | None = None

    def callbacks(self) -> MultipartCallbacks:
        """The handlers for `MultipartParser`."""
        return {
            "on_part_begin": self._begin,
            "on_header_field": lambda data, start, end: self._add_header(0, data[start:end]),
            "on_header_value": lambda data, start, end: self._add_header(1, data[start:end]),
            "on_header_end": self._end_header,
            "on_headers_finished": self._open,
            "on_part_data": lambda data, start, end: self._add_data(data[start:end]),
            "on_part_end": self._end_part,
            "on_end": self._end,
        }

    def close(self) -> None:
        """Closes the file that was being written, if any."""
        if self._file is not None:
            self._file.close()

    def _begin(self) -> None:
        self._disposition = b""

    def _add_header(self, side: int, data: bytes) -> None:
        self._header[side].extend(data)

    def _end_header(self) -> None:
        name, value = (bytes(side) for side in self._header)
        if name.lower() == b"content-disposition":
            self._disposition = value
        for side in self._header:
            side.clear()

    def _open(self) -> None:
        _, options = parse_options_header(self._disposition)
        self._name = options.get(b"name", b"").decode("utf-8", "replace")
        if not self._name.isidentifier() or len(self._name) > _NAME_CHARS:
            raise RequestRefused(400, "a part of the form has no usable name")
        if self._name in self.form.fields or self._name in self.form.files:
            raise RequestRefused(400, f"{self._name}: is there twice")
        if b"filename" in options:
            self._open_file(options[b"filename"].decode("utf-8", "replace"))
        else:
            if len(self.form.fields) >= MAX_FIELDS:
                raise RequestRefused(413, f"the form has more than {MAX_FIELDS} fields")
            self._text = bytearray()

    def _open_file(self, name: str) -> None:
        if len(self.form.files) >= self._max_files:
            raise RequestRefused(413, f"the form has more than {self._max_files} files")
        path = Path(self._name) / safe_name(name)
        (self._folder / path).parent.mkdir()
        self._file = (self._folder / path).open("xb")
        self._received = ReceivedFile(path, name, 0)

    def _add_data(self, data: bytes) -> None:
        if self._file is not None:
            self._file.write(data)
        elif self._text is not None:
            self._text += data
            if len(self._text) > self._settings.max_field_bytes:
                limit = self._settings.max_field_bytes
                raise RequestRefused(413, f"{self._name}: is more than {limit} bytes")

    def _end_part(self) -> None:
        if self._file is not None and self._received is not None:
            size = self._file.tell()
            self._file.flush()
            os.fsync(self._file.fileno())
            self._file.close()
            self.form.files[self._name] = ReceivedFile(
                self._received.path, self._received.name, size
            )
        elif self._text is not None:
            try:
                self.form.fields[self._name] = self._text.decode()
            except UnicodeDecodeError:
                raise RequestRefused(400, f"{self._name}: is not UTF-8") from None
        self._file = self._text = self._received = None

    def _end(self) -> None:
        self.ended = True
