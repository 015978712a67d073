"""A stored object as a seekable file, of which only the blocks that are looked at are moved."""

from __future__ import annotations

import os
from collections import OrderedDict

from engine.errors import StoreError
from engine.storage.objects import StoredObject

BLOCK_BYTES = 2 << 20
"""Takes about as long to move as to ask for."""
BLOCKS = 8
"""How many of the blocks used last are kept."""


class RangedReader:
    """Reads one version of an object. One thread at a time may use it; nothing has to be closed.

    Once the store has failed it stays failed, so that a demuxer that takes an error for the file's
    end is told again.
    """

    def __init__(self, source: StoredObject) -> None:
        self.name = source.location.name
        """What FFmpeg guesses a format by, beside the bytes."""
        self.size_bytes = source.location.size_bytes
        self._source = source
        self._at = 0
        self._blocks: OrderedDict[int, bytes] = OrderedDict()
        self._failure: StoreError | None = None

    def read(self, size: int = -1) -> bytes:
        """The next `size` bytes, fewer at the end only; all that are left where negative."""
        data = self.read_at(self._at, size if size >= 0 else self.size_bytes)
        self._at += len(data)
        return data

    def read_at(self, start: int, length: int) -> bytes:
        """Bytes `[start, start + length)`, less what lies past the end; does not move."""
        stop = min(start + length, self.size_bytes)
        first, last = start // BLOCK_BYTES, (stop - 1) // BLOCK_BYTES
        data = b"".join(self._block(number) for number in range(first, last + 1))
        return data[start - first * BLOCK_BYTES : stop - first * BLOCK_BYTES]

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        """Go to a place, which may lie past the end. Raises ValueError before the beginning."""
        base = {os.SEEK_SET: 0, os.SEEK_CUR: self._at, os.SEEK_END: self.size_bytes}[whence]
        if base + offset < 0:
            raise ValueError(f"{self._source.location}: there is no byte {base + offset}")
        self._at = base + offset
        return self._at

    def tell(self) -> int:
        """The place of the next byte."""
        return self._at

    def _block(self, number: int) -> bytes:
        if number in self._blocks:
            self._blocks.move_to_end(number)
            return self._blocks[number]
        if self._failure:
            raise self._failure
        try:
            block = self._source.read(number * BLOCK_BYTES, BLOCK_BYTES)
        except StoreError as error:
            self._failure = error
            raise
        self._blocks[number] = block
        if len(self._blocks) > BLOCKS:
            self._blocks.popitem(last=False)
        return block
