"""Keeps finished chunks by digest beyond one export, so that unchanged ones are not rendered again.

A chunk's digest covers everything that decides its pixels, so a chunk with the same digest can be
used in any export. It is stored as two objects, its file and its record. The caller checks what
comes back, exactly as it checks what an earlier run left.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Protocol

from engine.errors import ObjectChangedError, ObjectMissingError
from engine.files import whole_file
from engine.records import MAX_RECORD_BYTES, document_in
from engine.storage import ObjectInfo, Store

MAX_BYTES = 10 * 10**9
"""Default size of a cache after a sweep."""
MAX_AGE = timedelta(days=30)
"""Default time that an unused chunk is kept."""


class ChunkCache(Protocol):
    """A second place for the chunks of exports. Every method may raise `StoreError`."""

    def fetch(self, digest: str, folder: Path) -> bool:
        """Puts `{digest}.mp4` and `{digest}.json` into the folder. False where it has none.

        The caller checks them, and forgets them here where they are damaged.
        """

    def offer(self, digest: str, folder: Path) -> None:
        """Keeps `{digest}.mp4` and `{digest}.json` of the folder, unless it has them already."""

    def forget(self, digest: str) -> None:
        """Deletes a chunk that turned out not to be whole."""


@dataclass(frozen=True, slots=True)
class Swept:
    """How many chunks, and bytes, a sweep kept and removed."""

    kept: int
    kept_bytes: int
    removed: int
    removed_bytes: int


@dataclass(frozen=True, slots=True)
class StoreCache:
    """A `ChunkCache` below a prefix of a store.

    A record is written again each time its chunk is used, so its time is that of the last use.
    """

    store: Store
    prefix: str = "cache"

    def fetch(self, digest: str, folder: Path) -> bool:
        """See `ChunkCache`."""
        file, record = self._keys(digest)
        info = self.store.stat(record)
        if info is None:
            return False
        try:
            data = self.store.get_bytes(record) if info.size_bytes <= MAX_RECORD_BYTES else b""
            if document_in(data) is not None:
                self.store.get_file(file, folder / f"{digest}.mp4")
                self.store.put_bytes(record, data)
        except (ObjectMissingError, ObjectChangedError):  # another export uses or drops it now
            return False
        with whole_file(folder / f"{digest}.json") as unfinished:
            unfinished.write_bytes(data)
        return True

    def offer(self, digest: str, folder: Path) -> None:
        """See `ChunkCache`."""
        file, record = self._keys(digest)
        if self.store.stat(record) is None or self.store.stat(file) is None:
            self.store.put_file(file, folder / f"{digest}.mp4")
            self.store.put_file(record, folder / f"{digest}.json")

    def forget(self, digest: str) -> None:
        """See `ChunkCache`."""
        for key in reversed(self._keys(digest)):
            self.store.delete(key)

    def sweep(
        self,
        *,
        max_bytes: int = MAX_BYTES,
        max_age: timedelta = MAX_AGE,
        now: datetime | None = None,
    ) -> Swept:
        """Deletes chunks not used for `max_age`, then the least recently used above `max_bytes`.

        A chunk that another export is fetching may be deleted too; that export then renders it.
        """
        newest_first = sorted(self._kept(), key=lambda kept: kept.used, reverse=True)
        oldest = (now or datetime.now(UTC)) - max_age
        kept_bytes = 0
        removed: list[_Kept] = []
        for kept in newest_first:
            if removed or kept.used < oldest or kept_bytes + kept.size_bytes > max_bytes:
                removed.append(kept)
                self.forget(kept.digest)
            else:
                kept_bytes += kept.size_bytes
        return Swept(
            kept=len(newest_first) - len(removed),
            kept_bytes=kept_bytes,
            removed=len(removed),
            removed_bytes=sum(each.size_bytes for each in removed),
        )

    def _keys(self, digest: str) -> tuple[str, str]:
        return f"{self.prefix}/{digest}.mp4", f"{self.prefix}/{digest}.json"

    def _kept(self) -> Iterator[_Kept]:
        found: dict[str, list[ObjectInfo]] = {}
        for info in self.store.list(self.prefix):
            if match := re.search(r"/([0-9a-f]{32})\.(mp4|json)$", info.key):
                found.setdefault(match[1], []).append(info)
        for digest, objects in found.items():
            yield _Kept(
                digest,
                sum(each.size_bytes for each in objects),
                max(each.modified for each in objects),
            )


@dataclass(frozen=True, slots=True)
class _Kept:
    digest: str
    size_bytes: int
    used: datetime
