"""A store in a folder: for development, tests and a server with a disk of its own.

Safe for several threads and processes of one machine. Files are written to the folder `.incoming`,
synced and renamed. A lock is held during the rename only. What a killed writer leaves is removed by
the next one.
"""

from __future__ import annotations

import fcntl
import os
import shutil
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import BinaryIO

from engine.errors import ObjectChangedError, ObjectMissingError, StoreError
from engine.files import sync, temporary_file, whole_file
from engine.location import SourceLocation
from engine.storage.keys import checked_key, folder_prefix
from engine.storage.media_types import content_disposition
from engine.storage.objects import ObjectInfo, OnBytes, opened_for_upload

INCOMING = ".incoming"
"""The folder of unfinished files and the lock. No key begins with a dot."""
LOCK = "lock"

BLOCK_BYTES = 1 << 20

_Check = Callable[[ObjectInfo | None], None]
"""Gets the object that is about to be replaced; raises to refuse."""
_Publish = Callable[[_Check], str]
"""Puts the written file under its key if the check passes; gives its ETag."""


@dataclass(frozen=True, slots=True)
class LocalStore:
    """Objects as files below `folder`, which is created when it is first needed.

    `sign(key, expires_s, file_name)` makes the address for `url`. Without it `url` raises
    StoreError, because a folder has no server.
    """

    folder: Path
    sign: Callable[[str, int, str | None], str] | None = None

    def path(self, key: str) -> Path:
        """The object's file, whether it exists or not. Raises StoreError for an invalid key."""
        return self.folder / checked_key(key)

    def put_file(self, key: str, path: Path, *, on_bytes: OnBytes | None = None) -> None:
        """See `Store`."""
        with (
            opened_for_upload(key, path) as file,
            _store_errors(key),
            self._incoming_file(key) as (unfinished, publish),
        ):
            with unfinished.open("wb") as copy:
                _copy(file, copy, on_bytes)
            publish(lambda _: None)

    def put_bytes(
        self, key: str, data: bytes, *, only_new: bool = False, if_match: str | None = None
    ) -> str:
        """See `Store`."""

        def check(there: ObjectInfo | None) -> None:
            if only_new and there:
                raise ObjectChangedError(key, "already exists")
            if if_match is not None and (there is None or there.etag != if_match):
                raise ObjectChangedError(key, "is not the version to replace")

        with _store_errors(key), self._incoming_file(key) as (unfinished, publish):
            unfinished.write_bytes(data)
            return publish(check)

    def get_file(
        self, key: str, path: Path, *, etag: str | None = None, on_bytes: OnBytes | None = None
    ) -> None:
        """See `Store`."""
        with (
            self._open(key, etag) as file,
            whole_file(path) as partial,
            partial.open("wb") as copy,
        ):
            _copy(file, copy, on_bytes)

    def get_bytes(self, key: str, *, etag: str | None = None) -> bytes:
        """See `Store`."""
        with self._open(key, etag) as file:
            return file.read()

    def read(self, key: str, start: int, length: int, *, etag: str) -> bytes:
        """See `Store`."""
        with self._open(key, etag) as file:
            file.seek(start)
            return file.read(length)

    def stat(self, key: str) -> ObjectInfo | None:
        """See `Store`."""
        path = self.path(key)
        with _store_errors(key):
            return _info(key, path.stat()) if path.is_file() else None

    def list(self, prefix: str = "") -> Iterator[ObjectInfo]:
        """See `Store`."""
        top = self.folder / folder_prefix(prefix) if prefix else self.folder
        with _store_errors(prefix or str(self.folder)):
            keys = [
                path.relative_to(self.folder).as_posix()
                for path in top.rglob("*")
                if path.is_file() and INCOMING not in path.relative_to(self.folder).parts
            ]
        for key in sorted(keys, key=str.encode):
            info = self.stat(key)
            if info:  # else it was deleted in the meantime
                yield info

    def delete(self, key: str) -> None:
        """See `Store`."""
        path = self.path(key)
        with _store_errors(key), self._locked():
            if path.is_file():
                path.unlink()
                self._remove_empty_folders(path.parent)

    def delete_prefix(self, prefix: str) -> None:
        """See `Store`."""
        top = self.folder / folder_prefix(prefix)
        with _store_errors(prefix), self._locked():
            if top.is_dir():
                shutil.rmtree(top)
                self._remove_empty_folders(top.parent)

    def discard_uploads(self, key: str) -> None:
        """See `Store`. Unfinished files have no key: `discard_unfinished` removes them."""
        checked_key(key)

    def url(self, key: str, expires_s: int, *, file_name: str | None = None) -> str:
        """See `Store`."""
        if self.sign is None:
            raise StoreError(checked_key(key), "has no address: it is in a folder without server")
        content_disposition(checked_key(key), file_name)  # refuses what no browser may be told
        return self.sign(key, expires_s, file_name)

    def source(self, key: str) -> SourceLocation:
        """See `Store`."""
        if self.stat(key) is None:
            raise _missing(key)
        return self.path(key)

    def discard_unfinished(self) -> None:
        """Removes the unfinished files of dead writers. No other writer may be at work."""
        with self._locked() as incoming:
            for path in incoming.iterdir():
                if path.name != LOCK:
                    path.unlink()

    @contextmanager
    def _locked(self) -> Iterator[Path]:
        """Locks out all others that publish or delete; gives the folder of unfinished files."""
        incoming = self.folder / INCOMING
        incoming.mkdir(parents=True, exist_ok=True)
        with (incoming / LOCK).open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            yield incoming

    @contextmanager
    def _incoming_file(self, key: str) -> Iterator[tuple[Path, _Publish]]:
        """A file to write to, and the function that then puts it under `key`."""
        path = self.path(key)
        incoming = self.folder / INCOMING
        incoming.mkdir(parents=True, exist_ok=True)

        def publish(check: _Check) -> str:
            now = time.time_ns()  # file systems' clocks are too coarse for ETags that must differ
            os.utime(unfinished, ns=(now, now))
            sync(unfinished)
            with self._locked():
                check(self.stat(key))
                path.parent.mkdir(parents=True, exist_ok=True)
                unfinished.replace(path)
                sync(path.parent)
                return _etag(path.stat())

        with temporary_file(incoming, "object") as unfinished:
            yield unfinished, publish

    @contextmanager
    def _open(self, key: str, etag: str | None) -> Iterator[BinaryIO]:
        """The object's file. An open file stays the same object, even after a replacement."""
        path = self.path(key)
        if self.stat(key) is None:
            raise _missing(key)
        with _store_errors(key), path.open("rb") as file:
            if etag is not None and _etag(os.fstat(file.fileno())) != etag:
                raise ObjectChangedError(key, "has changed")
            yield file

    def _remove_empty_folders(self, folder: Path) -> None:
        """Removes `folder` and its parents as far as they are empty."""
        while folder != self.folder and not any(folder.iterdir()):
            folder.rmdir()
            folder = folder.parent


@contextmanager
def _store_errors(name: str) -> Iterator[None]:
    """Turns an `OSError` into a `StoreError` that names the object."""
    try:
        yield
    except FileNotFoundError as error:
        raise ObjectMissingError(name, "does not exist") from error
    except OSError as error:
        raise StoreError(name, (error.strerror or str(error)).lower()) from error


def _missing(key: str) -> ObjectMissingError:
    return ObjectMissingError(key, "does not exist")


def _copy(source: BinaryIO, target: BinaryIO, on_bytes: OnBytes | None) -> None:
    while block := source.read(BLOCK_BYTES):
        target.write(block)
        if on_bytes is not None:
            on_bytes(target.tell())


def _info(key: str, stat: os.stat_result) -> ObjectInfo:
    modified = datetime.fromtimestamp(stat.st_mtime, UTC)
    return ObjectInfo(key, stat.st_size, _etag(stat), modified)


def _etag(stat: os.stat_result) -> str:
    """Changes with every publication: each is a new file with a time of its own."""
    return f"{stat.st_ino:x}-{stat.st_mtime_ns:x}-{stat.st_size:x}"
