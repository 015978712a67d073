"""Atomic writes: a file gets its final name only when it is complete and synced to disk."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from engine.errors import OutputError


def file_url(path: Path) -> str:
    """The path as a URL for FFmpeg, which takes `final: 2-1.mp4` for a protocol otherwise."""
    return f"file:{path}"


@contextmanager
def whole_file(destination: Path) -> Iterator[Path]:
    """Gives a path beside `destination` to write to, and renames it when the block succeeds.

    When the block raises, the unfinished file is removed and `destination` stays as it was. The
    bytes are on disk before the name is: neither a crash nor a power cut leaves half a file under
    it. Raises `OutputError` for an `OSError` in the block, such as a full disk.
    """
    unfinished = destination.with_name(f".{destination.name}.partial")
    try:
        yield unfinished
        sync(unfinished)
        unfinished.replace(destination)
        sync(destination.parent)
    except OSError as error:
        raise OutputError(destination, error) from error
    finally:
        unfinished.unlink(missing_ok=True)


def sync(path: Path) -> None:
    """Writes a file's bytes, or a folder's names, from the system's buffers to disk."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
