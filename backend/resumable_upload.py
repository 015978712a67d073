"""Receives a file in pieces, so that an interrupted upload can continue where it stopped."""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import os
import re
import shutil
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, Self
from uuid import uuid4

from starlette.concurrency import run_in_threadpool
from starlette.requests import ClientDisconnect, Request

from backend.assignment import LOCK_FILE
from backend.body_limits import RequestRefused
from backend.settings import Settings
from backend.threads import run_to_end
from backend.uploads import BLOCK_BYTES, allow_upload, safe_name
from engine.errors import EngineError
from engine.files import whole_file

_CONTENT_RANGE = re.compile(r"bytes ([0-9]{1,15})-([0-9]{1,15})/([0-9]{1,15})")


@dataclass(frozen=True, slots=True)
class ContentRange:
    """The bytes of a file that a request carries: `[start, stop)` of `total`."""

    start: int
    stop: int
    total: int

    @classmethod
    def from_request(cls, content_range: str | None, request: Request) -> Self:
        """Parsed from the headers. Without `Content-Range` it is the whole file.

        Raises `RequestRefused` 400, 411 or 422.
        """
        if content_range is None:
            length = request.headers.get("content-length")
            if length is None:
                raise RequestRefused(411, "a clip needs Content-Length or Content-Range")
            if int(length) == 0:
                raise RequestRefused(422, "the clip is empty")
            return cls(0, int(length), int(length))
        found = _CONTENT_RANGE.fullmatch(content_range)
        if not found:
            raise RequestRefused(400, "Content-Range: must be like bytes 0-99/1000")
        first, last, total = map(int, found.groups())
        if not first <= last < total:
            raise RequestRefused(400, "Content-Range: is not a byte range of the file")
        return cls(first, last + 1, total)


def upload_path(upload_dir: Path, user_id: str, key: str) -> Path:
    """The file that holds the bytes received so far of an unfinished clip."""
    return upload_dir / hashlib.sha256(f"{user_id}/{key}".encode()).hexdigest()


@dataclass(frozen=True, slots=True)
class PendingUpload:
    """An unfinished upload whose length was announced. A small file beside its bytes records it."""

    path: Path
    """Where its bytes are kept; the file is there once some have come."""
    length: int
    offset: int
    """How many bytes have been received."""
    touched_s: float
    """When it was started or last continued, in seconds since 1970."""


def start_upload(upload_dir: Path, user_id: str, key: str, length: int) -> PendingUpload:
    """Announces an upload of `length` bytes. An unfinished one of the same key starts again.

    Raises `RequestRefused` 409 while another request is sending it.
    """
    path = upload_path(upload_dir, user_id, key)
    with _locked(path) as file:
        file.truncate(0)
        with whole_file(_length_path(path)) as unfinished:
            unfinished.write_text(str(length))
    upload = find_upload(upload_dir, user_id, key)
    assert upload is not None
    return upload


def find_upload(upload_dir: Path, user_id: str, key: str) -> PendingUpload | None:
    """The unfinished upload that was announced for the key, None where there is none.

    If a crash came between its last byte and the clip, its last byte is asked for again: only the
    request that completes a file makes it a clip. Raises `RequestRefused` 423 while it does.
    """
    path = upload_path(upload_dir, user_id, key)
    try:
        length = int(_length_path(path).read_text())
        touched_s = _length_path(path).stat().st_mtime
    except (OSError, ValueError):
        return None
    size = path.stat().st_size if path.exists() else 0
    if size >= length:
        with _locked(path, 423) as file:
            size = length - 1
            file.truncate(size)
    return PendingUpload(path, length, size, touched_s)


def discard_upload(upload_dir: Path, user_id: str, key: str) -> None:
    """Removes an unfinished upload, announced or not, if there is one.

    Raises `RequestRefused` 423 while another request is sending it.
    """
    path = upload_path(upload_dir, user_id, key)
    with _locked(path, 423) as file:
        file.truncate(0)  # so it goes with the lock
        _length_path(path).unlink(missing_ok=True)


def sweep_uploads(upload_dir: Path, keep_s: float) -> None:
    """Removes uploads that were not continued for `keep_s` seconds, but none that is being sent."""
    old = time.time() - keep_s
    for found in list(upload_dir.iterdir()):
        with contextlib.suppress(FileNotFoundError, RequestRefused):
            if found.is_dir() or found.stat().st_mtime >= old:
                continue
            if found.name.startswith("."):  # of a writer that was killed
                found.unlink()
                continue
            path = found.with_suffix("")
            with _locked(path) as file:
                bytes_are_old = file.seek(0, os.SEEK_END) == 0 or path.stat().st_mtime < old
                length = _length_path(path)
                if bytes_are_old and not (length.exists() and length.stat().st_mtime >= old):
                    file.truncate(0)  # so it goes with the lock
                    length.unlink(missing_ok=True)


def _length_path(path: Path) -> Path:
    return path.with_suffix(".length")


@contextmanager
def _locked(path: Path, status: int = 409) -> Iterator[BinaryIO]:
    """The file of an upload, for one request at a time. Raises `RequestRefused`, 409 by default.

    A file that stays empty is removed.
    """
    with path.open("ab") as file:
        running = RequestRefused(status, "another upload of this clip is running")
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise running from None
        if not _is_at(path, file):
            raise running  # it was removed or completed between opening and locking
        try:
            yield file
        finally:
            if file.seek(0, os.SEEK_END) == 0:
                path.unlink(missing_ok=True)


def _is_at(path: Path, file: BinaryIO) -> bool:
    """Whether the open file is the one that has this path now."""
    try:
        return os.path.samestat(path.stat(), os.fstat(file.fileno()))
    except FileNotFoundError:
        return False


@dataclass(frozen=True, slots=True)
class AppendResult:
    """How many bytes of a file have come. `whole` is the file once it is complete."""

    size_bytes: int
    whole: Path | None
    path: Path
    """Where it was while it came."""

    def put_back(self) -> None:
        """Makes a complete file an unfinished upload again, as a crash would; see `find_upload`."""
        assert self.whole is not None
        _put_back(self.whole, self.path)


def put_back_whole_files(upload_dir: Path) -> None:
    """Makes the complete files of a server that was killed unfinished uploads again.

    To be called before requests are served. A file whose upload was begun anew stays for the sweep,
    and so does one that a full disk keeps where it is.
    """
    for whole in list(upload_dir.glob("*.*/*")):
        path = upload_dir / whole.parent.name.partition(".")[0]
        if whole.name != LOCK_FILE and not path.exists():
            with contextlib.suppress(OSError, EngineError):
                _put_back(whole, path)
                shutil.rmtree(whole.parent)


def _put_back(whole: Path, path: Path) -> None:
    with whole_file(_length_path(path)) as unfinished:
        unfinished.write_text(str(whole.stat().st_size))
    whole.replace(path)


async def append(
    request: Request,
    path: Path,
    key: str,
    span: ContentRange,
    settings: Settings,
    *,
    may_restart: bool = True,
) -> AppendResult:
    """Appends the request's bytes to the file. However the request ends, it keeps what came.

    A range that begins at 0 starts again, if it `may_restart`. A complete file is moved into a new
    folder, whose name begins with the file's. Its own is made from `key`, since messages name it.

    Raises `RequestRefused` 409 if the bytes do not follow those already received or if another
    upload of this clip is running, and what `check_room` and `allow_upload` raise, and what reading
    a body raises. 507 if the disk is full.
    """
    check_room(span.total, settings)
    allow_upload(request, settings, path.parent)
    try:
        with _locked(path) as file:
            if may_restart and span.start == 0:
                file.truncate(0)
            with contextlib.suppress(FileNotFoundError):
                os.utime(_length_path(path))
            size = await _append(request, file, span)
            if size < span.total:
                return AppendResult(size, None, path)
            await run_in_threadpool(os.fsync, file.fileno())
            whole = path.with_name(f"{path.name}.{uuid4().hex}") / safe_name(key)
            whole.parent.mkdir()
            _length_path(path).unlink(missing_ok=True)
            return AppendResult(size, path.replace(whole), path)
    except OSError as error:
        raise RequestRefused(507, f"the upload cannot be stored: {error.strerror}") from error


def check_room(length: int, settings: Settings) -> None:
    """Checks a clip's announced length. Raises `RequestRefused` 413."""
    if length > settings.max_request_bytes:
        raise RequestRefused(
            413, f"the clip is {length} bytes, at most {settings.max_request_bytes}"
        )


async def _append(request: Request, file: BinaryIO, span: ContentRange) -> int:
    size = file.seek(0, os.SEEK_END)
    if span.start != size:
        raise RequestRefused(409, f"offset: {size} bytes have been received, continue from there")
    block = bytearray()
    try:
        async for piece in request.stream():
            if size + len(block) + len(piece) > span.stop:
                raise RequestRefused(400, "the body is longer than its Content-Range")
            block += piece
            if len(block) >= BLOCK_BYTES:
                size += await _write_block(file, block)
    except ClientDisconnect:
        pass
    finally:  # what came is kept, so that the upload can continue
        size += await _write_block(file, block)
    return size


async def _write_block(file: BinaryIO, block: bytearray) -> int:
    data = bytes(block)
    block.clear()
    await run_to_end(file.write, data)
    await run_to_end(file.flush)
    return len(data)
