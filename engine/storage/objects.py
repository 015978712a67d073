"""What a store does, and what lies in it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import BinaryIO, Protocol

from engine.errors import StoreError
from engine.location import ObjectLocation, SourceLocation

OnBytes = Callable[[int], None]
"""Is told how many bytes were moved so far, in the caller's thread; what it raises stops the
transfer."""


@dataclass(frozen=True, slots=True)
class ObjectInfo:
    """What a store says of an object."""

    key: str
    size_bytes: int
    etag: str
    """Changes whenever the content does. Opaque: of no meaning between stores."""
    modified: datetime
    """Aware, UTC."""


class Store(Protocol):
    """Bytes by key. Keys are what `keys.checked_key` lets pass; `prefix` is a folder of keys.

    An object appears under its key whole or not at all, and replaces the one before it at once.
    Every method may raise StoreError in one line without secrets; reading raises
    ObjectMissingError where nothing lies, and ObjectChangedError where `etag` is given and another
    object than that lies there.
    """

    def put_file(self, key: str, path: Path, *, on_bytes: OnBytes | None = None) -> None:
        """Streams a file up; memory does not grow with its length."""

    def put_bytes(
        self, key: str, data: bytes, *, only_new: bool = False, if_match: str | None = None
    ) -> str:
        """Stores `data` and gives its ETag.

        With `only_new` nothing may lie there, with `if_match` nothing but the object with that
        ETag, else ObjectChangedError: of several who try at once, one succeeds. (Where an answer
        got lost, finding one's own bytes there counts as success: name the writer in them.)
        """

    def get_file(
        self, key: str, path: Path, *, etag: str | None = None, on_bytes: OnBytes | None = None
    ) -> None:
        """Streams an object down, all of it one version; `path` is a whole file or untouched."""

    def get_bytes(self, key: str, *, etag: str | None = None) -> bytes:
        """A small object, in memory."""

    def read(self, key: str, start: int, length: int, *, etag: str) -> bytes:
        """Bytes `[start, start + length)`, less what lies past the end, of that very object."""

    def stat(self, key: str) -> ObjectInfo | None:
        """None where nothing lies under the key."""

    def list(self, prefix: str = "") -> Iterator[ObjectInfo]:
        """The objects below a folder, or all, by key in the order of its bytes."""

    def delete(self, key: str) -> None:
        """Deletes an object; where there is none, nothing is wrong."""

    def delete_prefix(self, prefix: str) -> None:
        """Deletes all objects below a folder, and uploads into it that were never finished."""

    def url(self, key: str, expires_s: int, *, file_name: str | None = None) -> str:
        """A signed address that anyone may read the object at for `expires_s` seconds.

        A browser that opens it with `file_name` saves it under that name. A secret: never log it.
        """

    def source(self, key: str) -> SourceLocation:
        """The object as the file of a clip (`SourceInfo.location`).

        In a bucket it is pinned to what it is now; in a folder it is its file.
        """


@dataclass(frozen=True, slots=True)
class StoredObject:
    """One version of one object, opened: read where it lies."""

    store: Store
    location: ObjectLocation

    def read(self, start: int, length: int) -> bytes:
        """Bytes `[start, start + length)`, less what lies past the end.

        Raises ObjectChangedError once the store holds another version.
        """
        at = self.location
        length = min(length, at.size_bytes - start)
        return self.store.read(at.key, start, length, etag=at.etag) if length > 0 else b""


@contextmanager
def opened_for_upload(key: str, path: Path) -> Iterator[BinaryIO]:
    """The file that is to lie under `key`. Raises StoreError that names it where it cannot be."""
    try:
        file = path.open("rb")
    except OSError as error:
        reason = (error.strerror or str(error)).lower()
        raise StoreError(key, f"{path} cannot be read: {reason}") from error
    with file:
        yield file
