"""How much room a join takes on the disk where the chunks and the sound of a film lie."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

SPARE = 1.05
"""A film takes at most this times the size of its chunks and its sound."""


@dataclass(frozen=True, slots=True)
class JoinRoom:
    """Bytes that must be free before the join begins. The film has a copy of the sound."""

    beside_chunks: int
    """Where the film is written beside its chunks."""
    in_their_place: int
    """Where each chunk is deleted as soon as it is not read again. The sound stays till the end."""


def join_room(chunks: Sequence[Path], sound: Path | None) -> JoinRoom:
    """The room for the join of these files. A chunk that is shown twice is there twice."""
    copied = sound.stat().st_size if sound is not None else 0
    last_place = {chunk: place for place, chunk in enumerate(chunks)}
    deleted = in_their_place = 0
    for place, chunk in enumerate(chunks):
        size = chunk.stat().st_size
        copied += size
        if last_place[chunk] == place:
            deleted += size
        in_their_place = max(in_their_place, math.ceil(SPARE * copied) - deleted)
    return JoinRoom(math.ceil(SPARE * copied), in_their_place)
