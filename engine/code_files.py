"""Machine code kept in files: whole and made for just this purpose, or made again.

A folder that cannot be written, a full disk or a torn file costs the time to make it, and no more.
"""

from __future__ import annotations

import fcntl
import hashlib
import os
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import IO

from engine.user_cache import user_cache

_DIGEST_BYTES = hashlib.sha256().digest_size


def code_files(source: Path, name: str) -> Iterator[Path]:
    """Where code of that name may lie that was made from the file `source`, the best place first.

    As Python's own lies beside its source, else in the user's cache. `NUMBA_CACHE_DIR` names the
    only folder where it is set.
    """
    if named := os.environ.get("NUMBA_CACHE_DIR"):
        yield Path(named, name)
        return
    yield source.parent / "__pycache__" / name
    if (cache := user_cache()) is not None:
        yield cache / "kernels" / name


def read_code(files: Iterable[Path], key: str) -> bytes | None:
    """The code in the first of these files that has it. `key` is all that the code depends on."""
    for path in files:
        with suppress(OSError):
            if (code := _verified(path.read_bytes(), key)) is not None:
                return code
    return None


def make_code(files: Iterable[Path], key: str, make: Callable[[], bytes | None]) -> bytes | None:
    """What `make` gives, kept in the first of these files that can be written.

    While one process makes it, others wait, and then read it.
    """
    with _first_locked(files) as file:
        code = _verified(file.read(), key) if file else None
        if code is None and (code := make()) is not None and file:
            with suppress(OSError):  # the disk is full
                file.truncate(0)
                file.write(_digest(code, key) + code)
        return code


@contextmanager
def _first_locked(files: Iterable[Path]) -> Iterator[IO[bytes] | None]:
    """The first of these files that can be opened, at its start. None where none can be."""
    with ExitStack() as stack:
        yield next(filter(None, (_opened(path, stack) for path in files)), None)


def _opened(path: Path, stack: ExitStack) -> IO[bytes] | None:
    with suppress(OSError):
        path.parent.mkdir(parents=True, exist_ok=True)
        file = stack.enter_context(path.open("a+b", buffering=0))
        with suppress(OSError):  # a file system without locks
            fcntl.flock(file, fcntl.LOCK_EX)
        file.seek(0)
        return file
    return None


def _verified(content: bytes, key: str) -> bytes | None:
    """The code in a file's content. None where it is not whole, or was made for another key."""
    digest, code = content[:_DIGEST_BYTES], content[_DIGEST_BYTES:]
    return code if digest == _digest(code, key) else None


def _digest(code: bytes, key: str) -> bytes:
    return hashlib.sha256(b"\0".join((key.encode(), code))).digest()
