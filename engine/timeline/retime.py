"""Retiming: which source time each output frame of a clip shows. Pure and exact arithmetic."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from fractions import Fraction

import numpy as np
from numpy.typing import NDArray

from engine.timing import TIMESTAMP_TOLERANCE_S, round_half_up

_EXACT_IN_INT64 = 2**62


@dataclass(frozen=True, slots=True)
class Piece:
    """A stretch of source time `[start_s, stop_s)` at one speed.

    Retimed it starts at `at_s`, counted from the start of its clip.
    """

    start_s: Fraction
    stop_s: Fraction
    speed: Fraction
    at_s: Fraction

    @property
    def retimed_s(self) -> Fraction:
        """Its length in the output, in seconds."""
        return (self.stop_s - self.start_s) / self.speed


@dataclass(frozen=True, slots=True)
class Retiming:
    """One clip's trim range cut into pieces of one speed each."""

    pieces: tuple[Piece, ...]

    @property
    def duration_s(self) -> Fraction:
        """The clip's length in the output, in seconds, not rounded to frames."""
        last = self.pieces[-1]
        return last.at_s + last.retimed_s

    def frame_count(self, fps: Fraction) -> int:
        """The clip's length in output frames: `duration_s` * fps, rounded half up, at least 1."""
        return max(1, round_half_up(self.duration_s * fps))

    def frames_of_pieces(self, fps: Fraction) -> list[range]:
        """The output frames of each piece; frame k is shown at k / fps. A piece may have none."""
        total = self.frame_count(fps)
        firsts = [min(total, math.ceil(piece.at_s * fps)) for piece in self.pieces]
        return [range(a, b) for a, b in zip(firsts, [*firsts[1:], total], strict=True)]

    def source_ticks(self, fps: Fraction, time_base: Fraction) -> NDArray[np.int64]:
        """For each output frame, the last tick at which the source frame shown may start.

        That is floor((s + 1 ms) / time_base) for the source time s of the output frame, exact.
        `time_base` is in seconds per tick. Shape (frames,).
        """
        lines = [
            _floor_line(
                (piece.start_s - piece.at_s * piece.speed + TIMESTAMP_TOLERANCE_S) / time_base,
                piece.speed / (fps * time_base),
                frames,
            )
            for piece, frames in zip(self.pieces, self.frames_of_pieces(fps), strict=True)
        ]
        return np.concatenate(lines)

    def source_times_s(self, fps: Fraction) -> NDArray[np.float64]:
        """For each output frame, the source time it shows, in seconds, shape (frames,).

        Floats are exact enough here: only the crop's rectangle is computed from them.
        """
        times = [
            float(piece.start_s)
            + (np.arange(frames.start, frames.stop) / float(fps) - float(piece.at_s))
            * float(piece.speed)
            for piece, frames in zip(self.pieces, self.frames_of_pieces(fps), strict=True)
        ]
        return np.concatenate(times)


def retiming(
    start_s: Fraction, stop_s: Fraction, segments: Iterable[tuple[Fraction, Fraction, Fraction]]
) -> Retiming:
    """Cuts the trim range `[start_s, stop_s)` by speed segments `(start_s, stop_s, speed)`.

    The segments must be in order of time and must not overlap. Source time that no segment covers
    plays at speed 1. What lies outside the trim range is dropped.
    """
    stretches: list[tuple[Fraction, Fraction, Fraction]] = []
    reached = start_s
    for segment_start, segment_stop, speed in segments:
        a, b = max(segment_start, reached), min(segment_stop, stop_s)
        if a >= b:
            continue
        if a > reached:
            stretches.append((reached, a, Fraction(1)))
        stretches.append((a, b, speed))
        reached = b
    if reached < stop_s:
        stretches.append((reached, stop_s, Fraction(1)))
    return Retiming(tuple(_laid_end_to_end(stretches)))


def _laid_end_to_end(
    stretches: Sequence[tuple[Fraction, Fraction, Fraction]],
) -> Iterable[Piece]:
    at_s = Fraction(0)
    for start_s, stop_s, speed in stretches:
        piece = Piece(start_s, stop_s, speed, at_s)
        yield piece
        at_s += piece.retimed_s


def _floor_line(offset: Fraction, slope: Fraction, ks: range) -> NDArray[np.int64]:
    """floor(offset + slope * k) for each k, exact; in int64 where that cannot overflow."""
    denominator = math.lcm(offset.denominator, slope.denominator)
    a, b = int(offset * denominator), int(slope * denominator)
    whole_a, rest_a = divmod(a, denominator)
    whole_b, rest_b = divmod(b, denominator)
    k = np.arange(ks.start, ks.stop, dtype=np.int64)
    if max(denominator, rest_a + rest_b * max(ks.stop, 1)) < _EXACT_IN_INT64:
        return whole_a + whole_b * k + (rest_a + rest_b * k) // denominator
    exact = [(a + b * i) // denominator for i in ks]
    return np.array(exact, dtype=np.int64)
