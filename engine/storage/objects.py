"""The protocols of stores, and descriptions of the objects in a store."""

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
"""Called in the caller's thread with the number of bytes moved so far. An exception stops the
transfer."""


@dataclass(frozen=True, slots=True)
class ObjectInfo:
    """A store's description of an object."""

    key: str
    size_bytes: int
    etag: str
    """Opaque. Changes whenever the content does; ETags of different stores are not comparable."""
    modified: datetime
    """Aware, UTC."""


class ObjectReader(Protocol):
    """Gives bytes of objects: a store, or a cache before one (`CachedStore`)."""

    def read(self, key: str, start: int, length: int, *, etag: str) -> bytes:
        """Bytes `[start, start + length)` of that version, fewer at its end. Raises StoreError."""


class Store(ObjectReader, Protocol):
    """Bytes by key. Keys must pass `keys.checked_key`; `prefix` is a folder of keys.

    An object appears under its key whole or not at all, and replaces the previous one at once.
    Every method may raise StoreError, with one line of text without secrets. Reading raises
    ObjectMissingError where there is no object, and ObjectChangedError where `etag` is given and
    the object has another one.
    """

    def put_file(self, key: str, path: Path, *, on_bytes: OnBytes | None = None) -> None:
        """Uploads a file; memory does not grow with its length."""

    def put_bytes(
        self, key: str, data: bytes, *, only_new: bool = False, if_match: str | None = None
    ) -> str:
        """Stores `data` and gives its ETag.

        With `only_new` there must be no object yet, with `if_match` there must be the object with
        that ETag, else ObjectChangedError: of several writers at once, one succeeds. (When the
        answer to a request is lost, finding the same bytes there counts as success. So the bytes
        must name their writer.)
        """

    def get_file(
        self, key: str, path: Path, *, etag: str | None = None, on_bytes: OnBytes | None = None
    ) -> None:
        """Downloads one version of an object; `path` becomes the whole file or stays untouched."""

    def get_bytes(self, key: str, *, etag: str | None = None) -> bytes:
        """A whole object in memory; for small ones."""

    def stat(self, key: str) -> ObjectInfo | None:
        """The object's description, None where there is none."""

    def list(self, prefix: str = "") -> Iterator[ObjectInfo]:
        """The objects below a folder, or all, in the order of their keys' bytes."""

    def delete(self, key: str) -> None:
        """Deletes an object. That there is none is not an error."""

    def delete_prefix(self, prefix: str) -> None:
        """Deletes all objects below a folder, and unfinished uploads into it."""

    def discard_uploads(self, key: str) -> None:
        """Deletes unfinished uploads to this key, which processes left when they died.

        No upload to the key may be running that is wanted.
        """

    def url(self, key: str, expires_s: int, *, file_name: str | None = None) -> str:
        """A signed address at which anyone may read the object for `expires_s` seconds.

        A browser that opens it shows films, sound and pictures, and saves everything else
        (`media_types`). With `file_name` it saves the object under that name, which must end like
        the key. Never log the address: it is a secret.
        """

    def source(self, key: str) -> SourceLocation:
        """The object's location as the file of a clip (`SourceInfo.location`).

        In a bucket it is pinned to its present version. In a folder it is the path of its file.
        """


@dataclass(frozen=True, slots=True)
class StoredObject:
    """One version of one object, with the store to read it from."""

    store: ObjectReader
    location: ObjectLocation

    def read(self, start: int, length: int) -> bytes:
        """Bytes `[start, start + length)`, fewer at the end.

        Raises ObjectChangedError once the store has another version.
        """
        at = self.location
        length = min(length, at.size_bytes - start)
        return self.store.read(at.key, start, length, etag=at.etag) if length > 0 else b""


@contextmanager
def opened_for_upload(key: str, path: Path) -> Iterator[BinaryIO]:
    """The open file to upload to `key`. Raises StoreError that names it where it cannot be read."""
    try:
        file = path.open("rb")
    except OSError as error:
        reason = (error.strerror or str(error)).lower()
        raise StoreError(key, f"{path} cannot be read: {reason}") from error
    with file:
        yield file
