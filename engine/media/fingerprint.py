"""Identifies a file's content by its size and a sample of its bytes."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from hashlib import blake2b

from engine.location import SourceLocation
from engine.media.container import read_at, size_bytes
from engine.storage.objects import ObjectReader

_EDGE_BYTES, _BLOCK_BYTES, _BLOCKS = 1 << 20, 1 << 16, 16
_SMALL_BYTES = 2 * _EDGE_BYTES + _BLOCKS * _BLOCK_BYTES
_READS_AT_ONCE = 8


def fingerprint(location: SourceLocation, store: ObjectReader | None = None) -> str:
    """Hex digest of a file's size and a sample of its bytes; its name and age do not matter."""
    size = size_bytes(location)
    if size <= _SMALL_BYTES:
        data = read_at(location, store, 0, size)
        return fingerprint_of(size, lambda start, length: data[start : start + length])
    samples = _samples(size)
    with ThreadPoolExecutor(_READS_AT_ONCE) as pool:  # each read from a store is slow
        found = dict(
            zip(
                samples,
                pool.map(lambda each: read_at(location, store, *each), samples),
                strict=True,
            )
        )
    return fingerprint_of(size, lambda start, length: found[start, length])


def fingerprint_of(size: int, read: Callable[[int, int], bytes]) -> str:
    """Hex digest of `size` bytes that `read(start, length)` gives.

    Covers the size, the first and last MiB and 16 evenly spread blocks of 64 KiB.
    """
    digest = blake2b(str(size).encode(), digest_size=16)
    for start, length in _samples(size):
        digest.update(read(start, length))
    return digest.hexdigest()


def _samples(size: int) -> list[tuple[int, int]]:
    """Start and length of each stretch of bytes that a fingerprint covers."""
    edges = [(0, _EDGE_BYTES), (max(0, size - _EDGE_BYTES), _EDGE_BYTES)]
    return edges + [(size * block // _BLOCKS, _BLOCK_BYTES) for block in range(_BLOCKS)]
