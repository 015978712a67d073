"""The objects of the edit document: their keys, and what each means.

The app writes some things in more than one way; the objects here read them all. The constructors
in `clip.py`, `transition.py` and `edit.py` check the values. An error from one of them gets its
place in the document put in front. Null means the same as an absent key. A key of type `Any` is
checked by the constructor that it goes to.
"""

from __future__ import annotations

from fractions import Fraction
from functools import cached_property
from itertools import pairwise
from typing import Annotated, Any, NotRequired, Self, TypedDict, cast

from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Discriminator,
    Field,
    Tag,
    model_validator,
)
from pydantic.alias_generators import to_camel
from pydantic_core import PydanticCustomError

from engine.errors import EditError
from engine.geometry import Rect, Size
from engine.timeline import validation
from engine.timeline.clip import Clip, CropKeyframe, SpeedSegment
from engine.timeline.transition import Transition

ASPECT_RATIOS = {
    "9:16": Size(1080, 1920),
    "16:9": Size(1920, 1080),
    "1:1": Size(1080, 1080),
    "4:5": Size(1080, 1350),
}
"""The target size that each `globalAspectRatio` stands for."""

KEYFRAME_FPS = 30
"""The `frame` of a keyframe counts so many a second, whatever the source's rate."""


class EditArguments(TypedDict):
    """Arguments of `Edit`, without those that the document leaves to their defaults."""

    clips: list[Clip]
    transitions: Transition | list[Transition]
    target_size: Size
    warnings: list[str]
    target_fps: NotRequired[Any]
    fit: NotRequired[Any]
    include_audio: NotRequired[Any]
    ease: NotRequired[Any]
    key_interval_s: NotRequired[Any]


class DocumentObject(BaseModel):
    """One object of the document; `value` is its meaning, None where it has none by itself."""

    model_config = ConfigDict(alias_generator=to_camel, extra="forbid", frozen=True)

    @cached_property
    def value(self) -> object:
        """What the object means, checked. Raises EditError."""
        return None

    @model_validator(mode="after")
    def _check_value(self) -> Self:
        try:
            _ = self.value
        except EditError as error:
            context = {"where": error.where, "reason": error.reason}
            raise PydanticCustomError("value", "{reason}", context) from None
        return self


class _Keyframe(DocumentObject):
    time: Any = None
    frame: Any = None
    x: Any
    y: Any
    width: Any
    height: Any
    ease: Any = None

    @cached_property
    def value(self) -> CropKeyframe:
        rect = Rect(self.x, self.y, self.width, self.height)
        return CropKeyframe(self._time_s(), rect, **_given(ease=self.ease))

    def _time_s(self) -> Any:
        """The time as it is written, or that of the frame."""
        if self.frame is None:
            if self.time is None:
                raise EditError("time", "is missing")
            return self.time
        number = validation.whole_number(self.frame, "frame")
        if number < 0:
            raise EditError("frame", f"must not be negative, and is {number}")
        time_s = Fraction(number, KEYFRAME_FPS)
        if self.time is None:
            return time_s
        if abs(validation.seconds(self.time, "time") - time_s) > Fraction(1, KEYFRAME_FPS):
            at = f"{validation.shown(time_s)} s, at {KEYFRAME_FPS} frames a second"
            raise EditError("frame", f"is at {at}, and time says another one")
        return self.time


class _Range(DocumentObject):
    start: Any = None
    end: Any = None


def _pair_as_object(written: object) -> object:
    """A range that is written as `[start, end]`, as an object."""
    if isinstance(written, list | tuple) and len(written) == 2:
        return {"start": written[0], "end": written[1]}
    return written


_AnyRange = Annotated[_Range, BeforeValidator(_pair_as_object)]


class _Segment(DocumentObject):
    start: Any
    end: Any = None
    speed: Any = None

    @cached_property
    def value(self) -> SpeedSegment:
        return SpeedSegment(self.start, self.end, **_given(speed=self.speed))


class _Segments(DocumentObject):
    """Trim and speeds.

    The trim is a range, or two keys of the form in which the app stores them. Speeds are a list of
    segments, or are given by the index of the stretch between two `boundaries`.
    """

    trim_range: _AnyRange | None = None
    trim_start: Any = Field(None, alias="trim_start")
    trim_end: Any = Field(None, alias="trim_end")
    segments: list[_Segment] | None = None
    boundaries: list[Any] | None = None
    segment_speeds: dict[str, Any] | None = None

    @cached_property
    def value(self) -> list[SpeedSegment]:
        if self.segment_speeds and self.segments:
            raise EditError("segmentSpeeds", "must not stand beside a list of segments")
        if self.segments is None or self.segment_speeds:
            return self._by_index()
        for index, time in enumerate(self.boundaries or ()):
            validation.number(time, f"boundaries[{index}]")  # they only repeat the segments' ends
        return [segment.value for segment in self.segments]

    def trim(self) -> _Range | None:
        """The trim range in here, if there is one."""
        stored = _given(trim_start=self.trim_start, trim_end=self.trim_end)
        if not stored:
            return self.trim_range
        if self.trim_range is not None:
            raise EditError(next(iter(stored)), "must not stand beside trimRange")
        return _Range(start=self.trim_start, end=self.trim_end)

    def _by_index(self) -> list[SpeedSegment]:
        stretches = self._stretches()
        segments = []
        for index, speed in (self.segment_speeds or {}).items():
            where = validation.path(["segmentSpeeds", index])
            if index not in stretches:
                reason = f"must be one of the {len(stretches)} stretches, counted from 0"
                raise EditError(where, reason)
            if speed is not None:
                segments.append(SpeedSegment(*stretches[index], validation.speed(speed, where)))
        return segments

    def _stretches(self) -> dict[str, tuple[Fraction, Fraction | None]]:
        """By index, the ends of each stretch. The last of all may last to the end of the source.

        A list that begins at 0 names every border. One that does not names only the splits between.
        """
        times = [
            validation.seconds(time, f"boundaries[{index}]")
            for index, time in enumerate(self.boundaries or ())
        ]
        for index, (before, time) in enumerate(pairwise(times), start=1):
            if time <= before:
                raise EditError(f"boundaries[{index}]", "must be after the one before it")
        if not times or times[0] != 0:
            ends: list[Fraction | None] = [*times, None]
            times = [Fraction(0), *times]
        else:
            ends = [*times[1:]]
        return {str(index): each for index, each in enumerate(zip(times, ends, strict=False))}


class ClipObject(DocumentObject):
    """One clip. `segmentsData` and `segments` are two names of one thing."""

    file_name: Any
    clip_index: Any = None
    source_range: _AnyRange | None = None
    crop_keyframes: list[_Keyframe] | None = None
    rotation: Any = None
    segments_data: _Segments | None = None
    segments: _Segments | None = None
    trim_range: _AnyRange | None = None
    title: Any = None
    clip_name: Any = None
    fit: Any = None
    duration: Any = None
    source_width: Any = None
    source_height: Any = None
    working_clip_id: Any = None
    """The app's own; not used here."""

    @cached_property
    def value(self) -> Clip:
        """The clip. Raises EditError."""
        if self.segments_data is None:
            return self._clip("segments", self.segments)
        if self.segments is not None or self.trim_range is not None:
            raise EditError("segmentsData", "must not stand beside segments or trimRange")
        return self._clip("segmentsData", self.segments_data)

    @cached_property
    def warnings(self) -> list[str]:
        """What is left out of the clip, and why."""
        left_out = [
            place
            for place, keyframe in enumerate(self._keyframes)
            if keyframe != self._keyframes[self._last_at[keyframe.time_s]]
        ]
        if not left_out:
            return []
        time_s = self._keyframes[left_out[0]].time_s
        others = f" (and {len(left_out) - 1} more)" if len(left_out) > 1 else ""
        return [
            f"cropKeyframes[{left_out[0]}]{others}: cropKeyframes[{self._last_at[time_s]}] is at "
            f"the same time, {validation.shown(time_s)} s; the later one counts"
        ]

    def _clip(self, key: str, speeds: _Segments | None) -> Clip:
        trim_range = self._trim(key, speeds)
        source_range = self.source_range or _Range()
        try:
            return Clip(
                self.file_name,
                crop_keyframes=[self._keyframes[place] for place in self._last_at.values()],
                trim_start_s=trim_range.start if trim_range else None,
                trim_stop_s=trim_range.end if trim_range else None,
                speed_segments=speeds.value if speeds else (),
                title=self.clip_name if self.title is None else self.title,
                duration_s=self.duration,
                source_size=_both_sides("source", self.source_width, self.source_height),
                fit=self.fit,
                source_start_s=source_range.start,
                source_stop_s=source_range.end,
                **_given(rotation_deg=self.rotation),
            )
        except EditError as error:
            raise EditError(self._place_of(error.where, key, speeds), error.reason) from None

    def _trim(self, key: str, speeds: _Segments | None) -> _Range | None:
        """The trim range, which stands on the clip or inside of its segments."""
        try:
            inside = speeds.trim() if speeds else None
        except EditError as error:
            raise EditError(f"{key}.{error.where}", error.reason) from None
        if inside is None or self.trim_range is None or inside == self.trim_range:
            return self.trim_range or inside
        raise EditError("trimRange", f"must not differ from {key}.trimRange")

    def _place_of(self, where: str, key: str, speeds: _Segments | None) -> str:
        """Where in the document a field of the clip was written."""
        if where == "title" and self.title is None:
            return "clipName"
        if where.startswith("segments["):
            return f"{key}.{where}"
        if not where.startswith("trimRange") or speeds is None or self.trim_range is not None:
            return where
        stored = {"trimRange.start": "trim_start", "trimRange.end": "trim_end"}
        return f"{key}.{where if speeds.trim_range else stored[where]}"

    @cached_property
    def _keyframes(self) -> list[CropKeyframe]:
        return [keyframe.value for keyframe in self.crop_keyframes or ()]

    @cached_property
    def _last_at(self) -> dict[Fraction, int]:
        """The place of the last keyframe at each time."""
        return {keyframe.time_s: place for place, keyframe in enumerate(self._keyframes)}


class _Transition(DocumentObject):
    type: Any = None
    duration: Any = None

    @cached_property
    def value(self) -> Transition:
        return Transition(**_given(type=self.type, duration_s=self.duration))


def _one_or_many(transition: object) -> str:
    return "many" if isinstance(transition, list) else "one"


_Transitions = Annotated[
    Annotated[_Transition, Tag("one")] | Annotated[list[_Transition | None], Tag("many")],
    Discriminator(_one_or_many),
]


class EditObject(DocumentObject):
    """The whole document."""

    clips: list[ClipObject]
    transition: _Transitions | None = None
    target_fps: Any = None
    target_width: Any = None
    target_height: Any = None
    global_aspect_ratio: Any = None
    fit: Any = None
    include_audio: Any = None
    ease: Any = None
    key_interval: Any = None

    @cached_property
    def value(self) -> EditArguments:
        """The arguments of the edit. Raises EditError."""
        warnings = [
            f"clips[{place}].{warning}"
            for place, clip in enumerate(self.clips)
            for warning in clip.warnings
        ]
        arguments = {
            "clips": self._in_play_order(),
            "transitions": self._transitions(),
            "target_size": self._target_size(),
            "warnings": warnings,
            **_given(
                target_fps=self.target_fps,
                fit=self.fit,
                include_audio=self.include_audio,
                ease=self.ease,
                key_interval_s=self.key_interval,
            ),
        }
        return cast(EditArguments, arguments)

    def _in_play_order(self) -> list[Clip]:
        if all(clip.clip_index is None for clip in self.clips):
            return [clip.value for clip in self.clips]
        places: dict[int, int] = {}
        for place, clip in enumerate(self.clips):
            where = f"clips[{place}].clipIndex"
            if clip.clip_index is None:
                raise EditError(where, "is missing, and other clips have one")
            index = validation.whole_number(clip.clip_index, where)
            if index in places:
                raise EditError(where, f"must not be {index}, which clips[{places[index]}] has")
            places[index] = place
        return [self.clips[places[index]].value for index in sorted(places)]

    def _transitions(self) -> Transition | list[Transition]:
        if isinstance(self.transition, list):
            return [each.value if each else Transition() for each in self.transition]
        return self.transition.value if self.transition else Transition()

    def _target_size(self) -> Size:
        ratio = "9:16" if self.global_aspect_ratio is None else self.global_aspect_ratio
        if not isinstance(ratio, str) or ratio not in ASPECT_RATIOS:
            known = validation.listed(list(ASPECT_RATIOS))
            raise EditError("globalAspectRatio", f"must be {known}, not {validation.shown(ratio)}")
        written = _both_sides("target", self.target_width, self.target_height)
        return written or ASPECT_RATIOS[ratio]


def _given(**arguments: Any) -> dict[str, Any]:
    """The arguments that the document gives; the others keep their constructor's defaults."""
    return {name: value for name, value in arguments.items() if value is not None}


def _both_sides(whose: str, width: Any, height: Any) -> Size | None:
    """A size as written, None where neither side is given."""
    if width is None and height is None:
        return None
    for side, extent in (("Width", width), ("Height", height)):
        if extent is None:
            raise EditError(f"{whose}{side}", "is missing, and the other side is given")
    return Size(width, height)
