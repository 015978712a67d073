"""A clip of an edit: one source file, the part that is shown, its crop, rotation and speeds.

The constructors take what people write (`0.1`, lists, words) and check it. They raise `EditError`,
which names fields as the document spells them.
"""

from __future__ import annotations

import os
from collections.abc import Iterable
from dataclasses import dataclass
from enum import StrEnum
from fractions import Fraction
from itertools import pairwise

from engine.errors import EditError
from engine.geometry import Fit, Rect, Size
from engine.timeline import validation
from engine.timeline.validation import Number, set_fields

SOURCE_SIDES_PX = (1, 10**6)
"""The shortest and the longest side of a source frame."""

MAX_ROTATION_DEG = 20
"""A picture is turned by at most this, either way: more needs another crop, not a correction."""


class Ease(StrEnum):
    """How a crop moves from one keyframe to the next."""

    LINEAR = "linear"
    SMOOTH = "smooth"
    """Without a kink: slow at rest points, never past the two rectangles it joins."""
    SPLINE = "spline"
    """Along a uniform Catmull-Rom curve through the keyframes, which may swing past them."""
    CUT = "cut"
    """It holds, and jumps at the next keyframe."""


SMALLEST_SHARE = 0.125
"""A spline swings to no less than this share of the smaller of the two crops that it joins."""

APP_EASE = Ease.SPLINE
"""How the app's editor moves a crop: the ease of an edit that comes from it and names none."""


@dataclass(frozen=True, slots=True, init=False)
class CropKeyframe:
    """A crop rectangle at a source time; `ease` governs the stretch that starts here."""

    time_s: Fraction
    rect: Rect
    """In pixels of the upright, displayed frame."""
    ease: Ease | None
    """None: the edit's."""

    def __init__(self, time_s: Number, rect: Rect, ease: Ease | str | None = None) -> None:
        set_fields(
            self,
            time_s=validation.seconds(time_s, "time"),
            rect=validation.rect(rect),
            ease=None if ease is None else validation.choice(Ease, ease, "ease"),
        )


@dataclass(frozen=True, slots=True, init=False)
class SpeedSegment:
    """A stretch of source time `[start_s, stop_s)` played at one speed."""

    start_s: Fraction
    stop_s: Fraction | None
    """None: where the source ends."""
    speed: Fraction

    def __init__(self, start_s: Number, stop_s: Number | None, speed: Number = 1) -> None:
        set_fields(
            self,
            start_s=validation.seconds(start_s, "start"),
            stop_s=_optional_seconds(stop_s, "end"),
            speed=validation.speed(speed, "speed"),
        )
        if self.stop_s is not None:
            _check_order(self.start_s, self.stop_s, "end")


@dataclass(frozen=True, slots=True, init=False)
class Clip:
    """One source file, and which part of it is shown how.

    All times are seconds of source presentation time, counted from `source_start_s`.
    """

    file_name: str
    source_start_s: Fraction | None
    """Where the clip's source begins in the file. None: where the file starts."""
    source_stop_s: Fraction | None
    """Where the clip's source ends in the file. None: where the file ends."""
    rotation_deg: Fraction
    """The upright frame is turned by so much about its centre, counter-clockwise, before the crop.
    It is black where the turned frame does not reach."""
    crop_keyframes: tuple[CropKeyframe, ...]
    """In order of time, no two at the same time."""
    trim_start_s: Fraction | None
    """None: where the source starts."""
    trim_stop_s: Fraction | None
    """None: where the source ends."""
    speed_segments: tuple[SpeedSegment, ...]
    """In order of time, not overlapping."""
    title: str | None
    duration_s: Fraction | None
    """The source's length as the user knows it."""
    source_size: Size | None
    """The upright frame's size as the user knows it."""
    fit: Fit | None
    """None: the edit's."""

    def __init__(
        self,
        file_name: str | os.PathLike[str],
        crop_keyframes: Iterable[CropKeyframe] = (),
        trim_start_s: Number | None = None,
        trim_stop_s: Number | None = None,
        speed_segments: Iterable[SpeedSegment] = (),
        title: str | None = None,
        duration_s: Number | None = None,
        source_size: Size | None = None,
        fit: Fit | str | None = None,
        rotation_deg: Number = 0,
        source_start_s: Number | None = None,
        source_stop_s: Number | None = None,
    ) -> None:
        size = source_size and validation.size(source_size, "source", SOURCE_SIDES_PX)
        set_fields(
            self,
            file_name=_file_name(file_name),
            crop_keyframes=_sorted_keyframes(crop_keyframes),
            trim_start_s=_optional_seconds(trim_start_s, "trimRange.start"),
            trim_stop_s=_optional_seconds(trim_stop_s, "trimRange.end"),
            speed_segments=_sorted_segments(speed_segments),
            title=None if title is None else validation.text(title, "title").strip() or None,
            duration_s=_optional_seconds(duration_s, "duration"),
            source_size=size,
            fit=None if fit is None else validation.choice(Fit, fit, "fit"),
            rotation_deg=_rotation(rotation_deg),
            source_start_s=_optional_seconds(source_start_s, "sourceRange.start"),
            source_stop_s=_optional_seconds(source_stop_s, "sourceRange.end"),
        )
        for start_s, stop_s, where in (
            (self.trim_start_s, self.trim_stop_s, "trimRange.end"),
            (self.source_start_s, self.source_stop_s, "sourceRange.end"),
        ):
            if stop_s is not None:
                _check_order(start_s or Fraction(0), stop_s, where)


def _optional_seconds(value: object, where: str) -> Fraction | None:
    return None if value is None else validation.seconds(value, where)


def _rotation(value: object) -> Fraction:
    angle = validation.number(value, "rotation")
    if abs(angle) > MAX_ROTATION_DEG:
        limits = f"-{MAX_ROTATION_DEG} to {MAX_ROTATION_DEG} degrees"
        raise EditError("rotation", f"must be from {limits}, not {validation.shown(value)}")
    return angle


def _check_order(start_s: Fraction, stop_s: Fraction, where: str) -> None:
    if stop_s <= start_s:
        start, stop = validation.shown(start_s), validation.shown(stop_s)
        raise EditError(where, f"must be after its start at {start} s, not {stop}")


def _file_name(value: object) -> str:
    written = os.fspath(value) if isinstance(value, os.PathLike) else value
    name = validation.text(written, "fileName")
    if not name:
        raise EditError("fileName", "must not be empty")
    return name


def _sorted_keyframes(keyframes: Iterable[CropKeyframe]) -> tuple[CropKeyframe, ...]:
    """In order of time, equal ones once. Raises EditError for different ones at one time."""
    listed = list(keyframes)
    first_at: dict[Fraction, int] = {}
    for place, keyframe in enumerate(listed):
        first = first_at.setdefault(keyframe.time_s, place)
        if keyframe != listed[first]:
            reason = f"must be that of cropKeyframes[{first}], which has the same time"
            raise EditError(f"cropKeyframes[{place}]", reason)
    return tuple(listed[first_at[time_s]] for time_s in sorted(first_at))


def _sorted_segments(segments: Iterable[SpeedSegment]) -> tuple[SpeedSegment, ...]:
    """In order of time. Raises EditError where two overlap; they may touch."""
    by_time = sorted(enumerate(segments), key=lambda each: each[1].start_s)
    for (before, earlier), (place, later) in pairwise(by_time):
        if earlier.stop_s is None or later.start_s < earlier.stop_s:
            raise EditError(f"segments[{place}]", f"must not overlap segments[{before}]")
    return tuple(segment for _, segment in by_time)
