"""A stored object as a seekable file; only the blocks that are read are downloaded."""

from __future__ import annotations

import os

from engine.errors import StoreError
from engine.storage.cached_store import CachedStore
from engine.storage.objects import StoredObject

LEAST_AHEAD_BYTES = 1 << 16
MOST_AHEAD_BYTES = 4 << 20
"""Moving so much takes longer than the request for it."""

_AHEAD_SHARE = 4
"""A quarter of what was read in one go is read ahead: no more than that is ever read in vain."""

GOING_ON_BYTES = 1 << 20
"""A read that begins so near the end of the last one goes on with it."""


class RangedReader:
    """Reads one version of an object. One thread at a time may use it. It needs no closing.

    The longer it reads in one go, the further it reads ahead. After the store has failed once,
    every read fails. So a demuxer that takes an error for the end of the file gets the error again.
    """

    def __init__(self, source: StoredObject) -> None:
        self.name = source.location.name
        """FFmpeg guesses the format by it and by the bytes."""
        self.size_bytes = source.location.size_bytes
        self._location = source.location
        store = source.store
        self._store = store if isinstance(store, CachedStore) else CachedStore(store)
        self._at = 0
        self._went_to = 0
        """Where the last read ended."""
        self._run_start = 0
        """Where it began to read in one go."""
        self._failure: StoreError | None = None

    def read(self, size: int = -1) -> bytes:
        """The next `size` bytes, fewer only at the end; all remaining ones where negative."""
        data = self.read_at(self._at, size if size >= 0 else self.size_bytes)
        self._at += len(data)
        return data

    def read_at(self, start: int, length: int) -> bytes:
        """Bytes `[start, start + length)`, fewer at the end; the position stays."""
        length = min(length, self.size_bytes - start)
        if length <= 0:
            return b""
        if self._failure:
            raise self._failure
        if abs(start - self._went_to) > GOING_ON_BYTES:
            self._run_start = start
        share = (start - self._run_start) // _AHEAD_SHARE
        ahead = min(max(share, LEAST_AHEAD_BYTES), MOST_AHEAD_BYTES)
        ahead = min(ahead, self.size_bytes - start - length)
        at = self._location
        try:
            data = self._store.read_ahead(at.key, start, length, ahead, etag=at.etag)
        except StoreError as error:
            self._failure = error
            raise
        self._went_to = start + length
        return data

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        """Sets the position, which may lie past the end. Raises ValueError before the beginning."""
        base = {os.SEEK_SET: 0, os.SEEK_CUR: self._at, os.SEEK_END: self.size_bytes}[whence]
        if base + offset < 0:
            raise ValueError(f"{self._location}: there is no byte {base + offset}")
        self._at = base + offset
        return self._at

    def tell(self) -> int:
        """The position of the next byte."""
        return self._at
