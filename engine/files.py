"""Atomic writes: a file gets its final name only when it is complete and synced to disk."""

from __future__ import annotations

import fcntl
import hashlib
import os
import re
import secrets
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from engine.destination import real_file
from engine.errors import OutputError

_NAME_BYTES = 200
"""How much of a file's name is in the name of its temporary file: names have 255 bytes at most."""


def file_url(path: Path) -> str:
    """The path as a URL for FFmpeg, which takes `final: 2-1.mp4` for a protocol otherwise."""
    return f"file:{path}"


def file_hash(path: Path) -> str:
    """SHA-256 of a file, in hex."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


@contextmanager
def whole_file(destination: Path) -> Iterator[Path]:
    """Gives a path beside `destination` to write to, and renames it when the block succeeds.

    When the block raises, the unfinished file is removed and `destination` stays as it was. The
    bytes are on disk before the name is: neither a crash nor a power cut leaves half a file under
    it. Each writer has a file of its own, so the last one that succeeds wins. See `temporary_file`.
    Links are followed; see `real_file`. Raises `OutputError` for an `OSError` in the block, such as
    a full disk, and where something else than a file is there.
    """
    try:
        real = real_file(destination)
        with temporary_file(real.parent, real.name) as unfinished:
            yield unfinished
            sync(unfinished)
            unfinished.replace(real)
            sync(real.parent)
    except OSError as error:
        raise OutputError(destination, error) from error


@contextmanager
def temporary_file(folder: Path, name: str) -> Iterator[Path]:
    """A new, empty file in `folder`, called `.NAME.TOKEN.partial`. It is removed when the block
    ends, unless it was renamed.

    What killed processes left of the same name is removed first. A living writer is told from a
    dead one by a lock on its file, so write into the file and do not put another in its place.
    Raises `OSError`.
    """
    stem = os.fsdecode(os.fsencode(name)[:_NAME_BYTES])
    remove_unfinished(folder, stem)
    path, descriptor = _new_locked_file(folder, stem)
    try:
        yield path
    finally:
        with suppress(OSError):  # another one removes it
            path.unlink(missing_ok=True)
        os.close(descriptor)


def sync(path: Path) -> None:
    """Writes a file's bytes, or a folder's names, from the system's buffers to disk."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _new_locked_file(folder: Path, stem: str) -> tuple[Path, int]:
    """A new file and the descriptor that holds its lock."""
    while True:
        path = folder / f".{stem}.{secrets.token_hex(4)}.partial"
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o666)
        with suppress(OSError):  # no locks in this file system: nothing is removed there either
            fcntl.flock(descriptor, fcntl.LOCK_EX)
        if path.exists():
            return path, descriptor
        os.close(descriptor)  # removed before it was locked, as if it were left over


def remove_unfinished(folder: Path, stem: str | None = None) -> None:
    """Removes temporary files whose lock nobody holds, as far as that is allowed.

    They are those of one name, or all that lie in the folder itself.
    """
    name = ".+" if stem is None else re.escape(stem)
    ours = re.compile(rf"\.{name}\.[0-9a-f]{{8}}\.partial")
    with suppress(OSError), os.scandir(folder) as found:  # a long film has thousands of chunks
        for each in found:
            if ours.fullmatch(each.name):
                path = folder / each.name
                with suppress(OSError):  # of a living writer, or of another user
                    descriptor = os.open(path, os.O_WRONLY | os.O_NOFOLLOW | os.O_NONBLOCK)
                    try:
                        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
                        path.unlink()
                    finally:
                        os.close(descriptor)
