"""A file under its final name is whole: written beside it, synced, renamed."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def whole_file(destination: Path) -> Iterator[Path]:
    """Gives a path beside `destination` to write to, and renames it when the block succeeds.

    When the block raises, the unfinished file is removed and `destination` is as it was. The bytes
    are on disk before the name is: neither a crash nor a power cut leaves half a file under it.
    """
    unfinished = destination.with_name(f".{destination.name}.partial")
    try:
        yield unfinished
        _sync(unfinished)
        unfinished.replace(destination)
        _sync(destination.parent)
    finally:
        unfinished.unlink(missing_ok=True)


def _sync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
