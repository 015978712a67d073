"""What is said about the damaged and missing frames of a source, and how much of it is borne."""

from __future__ import annotations

from collections.abc import Callable
from fractions import Fraction

from engine.errors import DecodeError
from engine.source import SourceInfo

HOLD_LIMIT_S = Fraction(1, 2)
"""The picture before a gap is held for up to this long."""


class DamageReport:
    """Tells of the damage that a reader meets: a warning where it is repaired, else an error.

    Frames are named by their index in `SourceInfo.frame_pts`.
    """

    def __init__(
        self, source: SourceInfo, *, strict: bool, on_warning: Callable[[str], None]
    ) -> None:
        """`strict`: all damage is an error."""
        self._source = source
        self._strict = strict
        self._warn = on_warning
        self._concealed: range | None = None  # a stretch of damaged frames, not reported yet

    def missing(self, gap: range) -> None:
        """Warns of missing frames. Raises `DecodeError` where strict."""
        if self._strict:
            length_s = float(self._length_s(gap))
            raise self.error(gap.start, f"{length_s:.3f} s of the picture are missing")
        if self._length_s(gap) <= HOLD_LIMIT_S:
            self._warn(f"{self._span(gap)}: missing, the picture before it is held")

    def check_hold(self, gap: range) -> None:
        """Raises `DecodeError` where a gap is too long to hold the picture before it."""
        if self._length_s(gap) <= HOLD_LIMIT_S:
            return
        at_end = gap.stop == len(self._source.frame_pts)
        what = "the file ends before its index says" if at_end else "the picture is missing"
        start_s, stop_s = float(self._time_s(gap.start)), float(self._time_s(gap.stop))
        works = f"ends at {start_s:.3f} s" + ("" if at_end else f" or starts at {stop_s:.3f} s")
        length_s = float(self._length_s(gap))
        raise self.error(
            gap.start,
            f"{what} ({length_s:.3f} s, too long to hold); a trim that {works} would work",
        )

    def concealed(self, index: int) -> None:
        """Notes a picture in which the decoder concealed errors. Raises `DecodeError` where strict.

        A stretch of them is one warning, given at its end.
        """
        if self._strict:
            raise self.error(index, "the picture is damaged")
        if self._concealed and self._concealed.stop != index:
            self.end_stretch()
        self._concealed = range(self._concealed.start if self._concealed else index, index + 1)

    def end_stretch(self) -> None:
        """Warns of the concealed pictures that were noted, if any."""
        if self._concealed:
            self._warn(f"{self._span(self._concealed)}: damaged, shown as the decoder repaired it")
            self._concealed = None

    def error(self, index: int, reason: str) -> DecodeError:
        """The error that a frame cannot be had."""
        return DecodeError(self._source.location, self._time_s(index), reason)

    def _time_s(self, index: int) -> Fraction:
        pts = self._source.frame_pts
        return self._source.time_of(pts[index] if index < len(pts) else self._source.end_pts)

    def _length_s(self, gap: range) -> Fraction:
        return self._time_s(gap.stop) - self._time_s(gap.start)

    def _span(self, gap: range) -> str:
        start_s, stop_s = float(self._time_s(gap.start)), float(self._time_s(gap.stop))
        return f"{self._source.location}: {start_s:.3f} to {stop_s:.3f} s"
