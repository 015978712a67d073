"""A store as the sources of one export, probe or cut are read from it: through a cache, counted.

A film in a store is opened once for each clip and for its sound, and each time its whole index is
read. Picture and sound lie side by side, and are read one after the other. With the blocks that
were read last in memory, all of this is downloaded once.
"""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Iterable
from concurrent.futures import Future
from itertools import takewhile
from typing import TypeAlias

from engine.storage.objects import ObjectReader

BLOCK_BYTES = 1 << 16
CACHE_BYTES = 64 << 20
"""The most that one cache keeps: two minutes of a film of 4 Mbit/s, or ten long indexes."""

_BlockName: TypeAlias = tuple[str, str, int]
"""The object's key and ETag, and the block's number. So a block never becomes stale."""


class CachedStore:
    """Reads objects by blocks, keeps those that were read last, and counts what it downloads.

    Threads may share it. What two of them need at the same time is downloaded once. Where it is
    pickled, the other process gets an empty cache and a count of its own.
    """

    def __init__(self, store: ObjectReader, blocks: _Blocks | None = None) -> None:
        self._store = store
        self._blocks = blocks or _Blocks()
        self._counting = threading.Lock()
        self._untold_bytes = 0

    def __reduce__(self) -> tuple[type[CachedStore], tuple[ObjectReader]]:
        return CachedStore, (self._store,)

    def counted_apart(self) -> CachedStore:
        """The same store and cache, with a count of its own."""
        return CachedStore(self._store, self._blocks)

    def taken_bytes(self) -> int:
        """How many bytes were downloaded since the last call."""
        with self._counting:
            taken, self._untold_bytes = self._untold_bytes, 0
        return taken

    def read(self, key: str, start: int, length: int, *, etag: str) -> bytes:
        """See `ObjectReader`. Taken from the cache where all of it is there; never kept."""
        there = self._blocks.kept(_names(key, etag, start, length))
        if there is not None:
            return _cut(there, start, length)
        return self._download(key, start, length, etag)

    def read_ahead(self, key: str, start: int, length: int, ahead: int, *, etag: str) -> bytes:
        """Bytes as `read` gives them, in whole blocks that are kept.

        Where some are missing, up to `ahead` bytes beyond them are downloaded by the same request.
        Raises StoreError.
        """
        names = _names(key, etag, start, length)
        following = _names(key, etag, start, length + ahead)[len(names) :]
        blocks, claimed = self._blocks.get(names, following)
        try:
            for run in _runs(claimed):
                data = self._download(key, run[0] * BLOCK_BYTES, len(run) * BLOCK_BYTES, etag)
                for place, number in enumerate(run):
                    part = data[place * BLOCK_BYTES : (place + 1) * BLOCK_BYTES]
                    claimed[key, etag, number].set_result(part)
        except BaseException as error:
            self._blocks.give_up(claimed, error)
            raise
        return _cut(b"".join(block.result() for block in blocks), start, length)

    def _download(self, key: str, start: int, length: int, etag: str) -> bytes:
        data = self._store.read(key, start, length, etag=etag)
        with self._counting:
            self._untold_bytes += len(data)
        return data


class _Blocks:
    """The blocks that were used last, and those that are being downloaded."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._blocks: OrderedDict[_BlockName, Future[bytes]] = OrderedDict()

    def kept(self, names: list[_BlockName]) -> bytes | None:
        """Their bytes, None where one of them is not there."""
        with self._lock:
            blocks = [self._blocks.get(name) for name in names]
        there = [block.result() for block in blocks if block is not None and block.done()]
        return b"".join(there) if len(there) == len(names) else None

    def get(
        self, names: list[_BlockName], following: list[_BlockName]
    ) -> tuple[list[Future[bytes]], dict[_BlockName, Future[bytes]]]:
        """The named blocks, and those that the caller must download now: nobody else does.

        Where the last of them must be, so must those `following`, up to the first that is there.
        """
        with self._lock:
            wanted: list[Future[bytes]] = []
            claimed: dict[_BlockName, Future[bytes]] = {}
            for name in names:
                if name not in self._blocks:
                    self._blocks[name] = claimed[name] = Future()
                self._blocks.move_to_end(name)
                wanted.append(self._blocks[name])
            if names[-1] in claimed:
                for name in takewhile(lambda name: name not in self._blocks, following):
                    self._blocks[name] = claimed[name] = Future()
            while len(self._blocks) > CACHE_BYTES // BLOCK_BYTES:
                self._blocks.popitem(last=False)
            return wanted, claimed

    def give_up(self, claimed: dict[_BlockName, Future[bytes]], error: BaseException) -> None:
        """Tells all who wait for these blocks. Who needs them next tries again."""
        with self._lock:
            for name, block in claimed.items():
                if not block.done():
                    block.set_exception(error)
                    if self._blocks.get(name) is block:
                        del self._blocks[name]


def cached(store: ObjectReader | None) -> CachedStore | None:
    """The store behind a cache; a store that has one already as it is."""
    return store if store is None or isinstance(store, CachedStore) else CachedStore(store)


def _names(key: str, etag: str, start: int, length: int) -> list[_BlockName]:
    """The blocks in which bytes `[start, start + length)` lie."""
    numbers = range(start // BLOCK_BYTES, -(-(start + length) // BLOCK_BYTES))
    return [(key, etag, number) for number in numbers]


def _runs(claimed: Iterable[_BlockName]) -> list[list[int]]:
    """The numbers of blocks, in runs that follow each other."""
    runs: list[list[int]] = []
    for _, _, number in claimed:
        if runs and runs[-1][-1] + 1 == number:
            runs[-1].append(number)
        else:
            runs.append([number])
    return runs


def _cut(blocks: bytes, start: int, length: int) -> bytes:
    offset = start % BLOCK_BYTES
    return blocks[offset : offset + length]
