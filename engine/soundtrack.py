"""The sound track as the plan decides it: spans on the 48 kHz sample grid. Knows no samples."""

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

    It fills exactly `sample_count` output samples, a number within a few samples of
    `(stop_s - start_s) / speed * 48000`. Missing samples are silent, and samples beyond the count
    are dropped. Times are source presentation time (0 = the first video frame shown).
    """

    start_s: Fraction
    stop_s: Fraction
    speed: Fraction
    sample_count: int


@dataclass(frozen=True, slots=True)
class SoundSpan:
    """One clip's sound: its pieces follow each other from output sample `start_sample` on.

    Neighbouring spans overlap where their clips dissolve, and the track is their sum there. The
    first `rise_samples` and the last `fall_samples` of the span are ramped.
    """

    clip: int
    """Index into the plan's clips and into its sources."""
    start_sample: int
    pieces: tuple[TempoPiece, ...]
    rise_samples: int
    rise_ramp: Ramp
    fall_samples: int
    fall_ramp: Ramp

    @property
    def sample_count(self) -> int:
        """The span's length in output samples."""
        return sum(piece.sample_count for piece in self.pieces)
