"""A stored object as a seekable file; only the blocks that are read are downloaded."""

from __future__ import annotations

import os
from collections import OrderedDict

from engine.errors import StoreError
from engine.storage.objects import StoredObject

BLOCK_BYTES = 2 << 20
"""Moving a block takes about as long as the request for it."""
BLOCKS = 8
"""How many of the most recently used blocks are kept."""


class RangedReader:
    """Reads one version of an object. One thread at a time may use it. It needs no closing.

    After the store has failed once, every read of a new block fails. So a demuxer that takes an
    error for the end of the file gets the error again.
    """

    def __init__(self, source: StoredObject) -> None:
        self.name = source.location.name
        """FFmpeg guesses the format by it and by the bytes."""
        self.size_bytes = source.location.size_bytes
        self._source = source
        self._at = 0
        self._blocks: OrderedDict[int, bytes] = OrderedDict()
        self._failure: StoreError | None = None

    def read(self, size: int = -1) -> bytes:
        """The next `size` bytes, fewer only at the end; all remaining ones where negative."""
        data = self.read_at(self._at, size if size >= 0 else self.size_bytes)
        self._at += len(data)
        return data

    def read_at(self, start: int, length: int) -> bytes:
        """Bytes `[start, start + length)`, fewer at the end; the position stays."""
        stop = min(start + length, self.size_bytes)
        first, last = start // BLOCK_BYTES, (stop - 1) // BLOCK_BYTES
        data = b"".join(self._block(number) for number in range(first, last + 1))
        return data[start - first * BLOCK_BYTES : stop - first * BLOCK_BYTES]

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        """Sets the position, which may lie past the end. Raises ValueError before the beginning."""
        base = {os.SEEK_SET: 0, os.SEEK_CUR: self._at, os.SEEK_END: self.size_bytes}[whence]
        if base + offset < 0:
            raise ValueError(f"{self._source.location}: there is no byte {base + offset}")
        self._at = base + offset
        return self._at

    def tell(self) -> int:
        """The position of the next byte."""
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
