"""Which chunks of an export do not join with the others.

A chunk's digest says what it shows and how it is encoded, but not by which version of an encoder,
driver or GPU. These may write other parameter sets for the same settings, and one film has one set.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from typing import TypeAlias

from engine.pipeline.chunk_store import ChunkRecord

StreamKind: TypeAlias = tuple[str, bytes]
"""Codec and parameter sets: chunks join where these are equal."""


def stream_kind(record: ChunkRecord) -> StreamKind:
    """What a chunk's stream must have in common with the others."""
    parameters = record.file.parameters
    return parameters.codec, parameters.parameter_sets


def commonest_kind(records: Iterable[ChunkRecord]) -> StreamKind | None:
    """The kind of most frames, of two the one that comes first; None for no record."""
    frames: Counter[StreamKind] = Counter()
    for record in records:
        frames[stream_kind(record)] += record.frame_count
    return max(frames, key=frames.__getitem__, default=None)


def odd_chunks(records: Mapping[str, ChunkRecord], kind: StreamKind | None) -> list[str]:
    """The digests of the chunks of another kind, in the order of `records`."""
    return [digest for digest, record in records.items() if stream_kind(record) != kind]
