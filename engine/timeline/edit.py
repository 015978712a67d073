"""The edit: what a user asks for, as values with one spelling and exact times.

It is all the plan reads of a user's wishes. It knows no file: names are not resolved and nothing is
opened, so what only a file can tell (its length, its size) is the plan's to check. `document.py`
reads an edit from the app's JSON; in a script one can as well be written down directly:

    Edit(clips=[Clip("a.mp4", trim_start_s=2), Clip("b.mp4")], transitions=Transition("dissolve"))

Constructors take what people write (`0.1`, lists, words) and check it: they raise `EditError`,
which names fields as the document spells them.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from fractions import Fraction
from itertools import pairwise
from pathlib import Path
from typing import Any, Literal

from engine.errors import EditError
from engine.geometry import Fit, Rect, Size
from engine.timeline import validation

DEFAULT_FPS = 30
DEFAULT_SIZE = Size(1080, 1920)
DEFAULT_TRANSITION_S = Fraction(1, 2)
MAX_TRANSITION_S = 60
MAX_CLIPS = 500
"""More in one reel is a mistake of whatever wrote the edit, and better said at once."""

TARGET_SIDES_PX = (16, 7680)
"""The shortest and the longest side of an export."""

Number = float | Fraction


class Ease(StrEnum):
    """How a crop moves from one keyframe to the next."""

    LINEAR = "linear"
    SMOOTH = "smooth"
    """Without a kink: slow at rest points, never past the two rectangles it joins."""
    CUT = "cut"
    """Not at all, and then at once."""


class TransitionType(StrEnum):
    """How one clip gives way to the next."""

    CUT = "cut"
    DISSOLVE = "dissolve"
    FADE = "fade"


def _keep(value: object, **fields: object) -> None:
    """Set the fields of a frozen value, once, in its own constructor."""
    for name, content in fields.items():
        object.__setattr__(value, name, content)


@dataclass(frozen=True, slots=True, init=False)
class CropKeyframe:
    """A crop rectangle at a source time; `ease` governs the stretch that starts here."""

    time_s: Fraction
    rect: Rect
    """In pixels of the upright, displayed frame."""
    ease: Ease

    def __init__(self, time_s: Number, rect: Rect, ease: Ease | str = Ease.LINEAR) -> None:
        _keep(
            self,
            time_s=validation.seconds(time_s, "time"),
            rect=_rect(rect),
            ease=validation.choice(Ease, ease, "ease"),
        )


@dataclass(frozen=True, slots=True, init=False)
class SpeedSegment:
    """A stretch of source time `[start_s, stop_s)` played at one speed."""

    start_s: Fraction
    stop_s: Fraction
    speed: Fraction

    def __init__(self, start_s: Number, stop_s: Number, speed: Number = 1) -> None:
        _keep(
            self,
            start_s=validation.seconds(start_s, "start"),
            stop_s=validation.seconds(stop_s, "end"),
            speed=validation.speed(speed, "speed"),
        )
        _check_order(self.start_s, self.stop_s, "end")


@dataclass(frozen=True, slots=True, init=False)
class Clip:
    """One source file, and what of it is shown how."""

    file_name: str
    crop_keyframes: tuple[CropKeyframe, ...]
    """By time, all different."""
    trim_start_s: Fraction | None
    """None: where the file starts."""
    trim_stop_s: Fraction | None
    """None: where the file ends."""
    speed_segments: tuple[SpeedSegment, ...]
    """By time, not overlapping."""
    title: str | None
    duration_s: Fraction | None
    """How long the user believes the file to be."""
    source_size: Size | None
    """How large the user believes the upright frame to be."""
    fit: Fit | None
    """None: as the edit says."""

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
    ) -> None:
        size = source_size and _size(source_size, "source", (1, 10**6))
        _keep(
            self,
            file_name=_file_name(file_name),
            crop_keyframes=_distinct(crop_keyframes),
            trim_start_s=_seconds_or_none(trim_start_s, "trimRange.start"),
            trim_stop_s=_seconds_or_none(trim_stop_s, "trimRange.end"),
            speed_segments=_disjoint(speed_segments),
            title=None if title is None else validation.text(title, "title").strip() or None,
            duration_s=_seconds_or_none(duration_s, "duration"),
            source_size=size,
            fit=None if fit is None else validation.choice(Fit, fit, "fit"),
        )
        if self.trim_stop_s is not None:
            _check_order(self.trim_start_s or Fraction(0), self.trim_stop_s, "trimRange.end")


@dataclass(frozen=True, slots=True, init=False)
class Transition:
    """How two neighbouring clips are joined. A cut lasts 0 s, whatever is asked."""

    type: TransitionType
    duration_s: Fraction

    def __init__(
        self,
        type: TransitionType | str = TransitionType.CUT,  # noqa: A002 - the document's word
        duration_s: Number | None = None,
    ) -> None:
        kind = validation.choice(TransitionType, type, "type")
        lasts_s = DEFAULT_TRANSITION_S
        if duration_s is not None:
            lasts_s = validation.seconds(duration_s, "duration")
        if lasts_s > MAX_TRANSITION_S:
            shown = validation.shown(lasts_s)
            raise EditError("duration", f"must be at most {MAX_TRANSITION_S} s, not {shown}")
        _keep(self, type=kind, duration_s=Fraction(0) if kind is TransitionType.CUT else lasts_s)


@dataclass(frozen=True, slots=True, init=False)
class Edit:
    """The whole export as a user wants it."""

    clips: tuple[Clip, ...]
    """In the order they play."""
    transitions: tuple[Transition, ...]
    """One per join; the constructor also takes a single one, for every join."""
    target_fps: Fraction
    target_size: Size
    fit: Fit
    include_audio: bool
    warnings: tuple[str, ...] = field(compare=False)
    """What `parse` let pass, one line each."""

    def __init__(
        self,
        clips: Iterable[Clip],
        transitions: Transition | Sequence[Transition] = Transition(),
        target_fps: Number | str = DEFAULT_FPS,
        target_size: Size = DEFAULT_SIZE,
        fit: Fit | str = Fit.CONTAIN,
        include_audio: bool = True,
        warnings: Iterable[str] = (),
    ) -> None:
        played = tuple(clips)
        if not 1 <= len(played) <= MAX_CLIPS:
            raise EditError("clips", f"must be 1 to {MAX_CLIPS} clips, not {len(played)}")
        _keep(
            self,
            clips=played,
            transitions=_per_join(transitions, len(played) - 1),
            target_fps=validation.frame_rate(target_fps, "targetFps"),
            target_size=_even(_size(target_size, "target", TARGET_SIDES_PX)),
            fit=validation.choice(Fit, fit, "fit"),
            include_audio=validation.flag(include_audio, "includeAudio"),
            warnings=tuple(warnings),
        )

    @classmethod
    def load(
        cls, path: str | os.PathLike[str], *, unknown: Literal["error", "warn"] = "error"
    ) -> Edit:
        """The edit in a JSON file; see `parse`."""
        try:
            document = Path(path).read_bytes()
        except OSError as error:
            reason = (error.strerror or "I/O error").lower()
            raise EditError(os.fspath(path), f"cannot be read: {reason}") from error
        return cls.parse(document, unknown=unknown)

    @classmethod
    def parse(
        cls,
        document: Mapping[str, Any] | str | bytes,
        *,
        unknown: Literal["error", "warn"] = "error",
    ) -> Edit:
        """The edit that a JSON text, or the object read from one, describes.

        Raises EditError for the first thing wrong in it, saying how many more there are. A key that
        nobody knows is such a thing; with `unknown="warn"` it becomes an entry of `warnings`.
        """
        from engine.timeline.document import read_edit  # loads pydantic, which only readers need

        return read_edit(document, unknown)

    def to_document(self) -> dict[str, Any]:
        """The edit in the app's spelling, ready for JSON; `parse` of it gives an equal edit."""
        from engine.timeline.document import written_edit

        return written_edit(self)


def _seconds_or_none(value: object, where: str) -> Fraction | None:
    return None if value is None else validation.seconds(value, where)


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


def _rect(rect: Rect) -> Rect:
    kept = Rect(
        validation.pixels(rect.x, "x"),
        validation.pixels(rect.y, "y"),
        validation.pixels(rect.width, "width"),
        validation.pixels(rect.height, "height"),
    )
    for side, extent in (("width", kept.width), ("height", kept.height)):
        if extent <= 0:
            raise EditError(side, f"must be above 0, not {validation.shown(extent)}")
    return kept


def _size(size: Size, whose: str, limits: tuple[int, int]) -> Size:
    sides = []
    for side, written in (("Width", size.width), ("Height", size.height)):
        extent = validation.whole_number(written, f"{whose}{side}")
        if not limits[0] <= extent <= limits[1]:
            reason = f"must be from {limits[0]} to {limits[1]}, not {extent}"
            raise EditError(f"{whose}{side}", reason)
        sides.append(extent)
    return Size(*sides)


def _even(target: Size) -> Size:
    for where, extent in (("targetWidth", target.width), ("targetHeight", target.height)):
        if extent % 2:
            raise EditError(where, f"must be even, and {extent} is odd")
    return target


def _distinct(keyframes: Iterable[CropKeyframe]) -> tuple[CropKeyframe, ...]:
    """In order of time, each once."""
    listed = list(keyframes)
    places: dict[Fraction, int] = {}
    for place, keyframe in enumerate(listed):
        first = places.setdefault(keyframe.time_s, place)
        if keyframe != listed[first]:
            reason = f"must be that of cropKeyframes[{first}], which has the same time"
            raise EditError(f"cropKeyframes[{place}]", reason)
    return tuple(listed[places[time_s]] for time_s in sorted(places))


def _disjoint(segments: Iterable[SpeedSegment]) -> tuple[SpeedSegment, ...]:
    """In order of time; segments may touch."""
    by_time = sorted(enumerate(segments), key=lambda each: each[1].start_s)
    for (before, earlier), (place, later) in pairwise(by_time):
        if later.start_s < earlier.stop_s:
            raise EditError(f"segments[{place}]", f"must not overlap segments[{before}]")
    return tuple(segment for _, segment in by_time)


def _per_join(transitions: Transition | Sequence[Transition], joins: int) -> tuple[Transition, ...]:
    if isinstance(transitions, Transition):
        return (transitions,) * joins
    if len(transitions) != joins:
        reason = f"must be {joins}, one per join of {joins + 1} clips, not {len(transitions)}"
        raise EditError("transition", reason)
    return tuple(transitions)
