"""The sound track as the plan decides it: spans on the 48 kHz sample grid. No samples here."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from fractions import Fraction


class Ramp(StrEnum):
    """How a span's first or last samples rise or fall."""

    EQUAL_POWER = "equal_power"
    """sin / cos: two overlapping spans sum to constant power (dissolve)."""
    LINEAR = "linear"
    """Straight to or from silence (fade)."""


@dataclass(frozen=True, slots=True)
class TempoPiece:
    """A stretch of source time `[start_s, stop_s)` played at one speed.

    It fills exactly `sample_count` output samples. `sample_count` is within a few samples of
    `(stop_s - start_s) / speed * 48000`; what is missing is silence, what is over is dropped.
    Times are source presentation time (0 = the first video frame shown).
    """

    start_s: Fraction
    stop_s: Fraction
    speed: Fraction
    sample_count: int


@dataclass(frozen=True, slots=True)
class SoundSpan:
    """One clip's sound: its pieces follow each other from output sample `start_sample` on.

    Neighbouring spans overlap where their clips dissolve: there the track is their sum. The first
    `rise_samples` and the last `fall_samples` of the span are ramped.
    """

    clip: int
    """Index into the plan's clips, and so into the sources it is given."""
    start_sample: int
    pieces: tuple[TempoPiece, ...]
    rise_samples: int
    rise_ramp: Ramp
    fall_samples: int
    fall_ramp: Ramp

    @property
    def sample_count(self) -> int:
        return sum(piece.sample_count for piece in self.pieces)
