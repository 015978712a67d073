"""The edit document: the app's JSON, read into the arguments of an `Edit` and written back.

The pydantic models say which keys stand where, and nothing else. The constructors in `clip.py`,
`transition.py` and `edit.py` check the values; an error from one of them gets its place in the
document put in front. Null means the same as an absent key. A key of type `Any` is checked by the
constructor that it goes to.
"""

from __future__ import annotations

import difflib
import json
from collections.abc import Mapping, Sequence
from fractions import Fraction
from functools import cached_property
from itertools import pairwise
from typing import Annotated, Any, Literal, NotRequired, Self, TypedDict, get_args

from pydantic import BaseModel, ConfigDict, Discriminator, Tag, ValidationError, model_validator
from pydantic.alias_generators import to_camel
from pydantic_core import ErrorDetails, PydanticCustomError

from engine.errors import EditError
from engine.geometry import Fit, Rect, Size
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


MAX_WARNINGS = 20
"""So many unknown keys are named, and the others are counted."""


class EditArguments(TypedDict):
    """Arguments of `Edit`, without those that the document leaves to their defaults."""

    clips: list[Clip]
    transitions: Transition | list[Transition]
    target_size: Size
    target_fps: NotRequired[Any]
    fit: NotRequired[Any]
    include_audio: NotRequired[Any]
    warnings: NotRequired[list[str]]


def read_document(
    document: Mapping[str, Any] | str | bytes, unknown: Literal["error", "warn"]
) -> EditArguments:
    """The arguments of the edit that a document describes; see `Edit.parse`.

    Raises EditError. `target_fps`, `fit` and `include_audio` are as written: `Edit` checks them.
    """
    content = _from_json(document) if isinstance(document, str | bytes) else document
    if not isinstance(content, Mapping):
        raise EditError("", f"an edit is a JSON object, not {validation.shown(content)}")
    try:
        return _Edit.model_validate(content).value
    except ValidationError as error:
        details = error.errors(include_url=False)
    unknown_keys = [each for each in details if _is_unknown_key(each)]
    if unknown == "error" or not unknown_keys:
        raise _first_error(details)
    try:
        arguments = _Edit.model_validate(content, extra="ignore").value
    except ValidationError as error:
        raise _first_error(error.errors(include_url=False)) from None
    warnings = [str(_edit_error(each)) for each in unknown_keys[:MAX_WARNINGS]]
    if more := len(unknown_keys) - len(warnings):
        warnings.append(f"{more} more unknown keys")
    return {**arguments, "warnings": warnings}


def write_document(
    *,
    clips: Sequence[Clip],
    transitions: Sequence[Transition],
    target_fps: Fraction,
    target_size: Size,
    fit: Fit,
    include_audio: bool,
) -> dict[str, Any]:
    """The document of an edit with these fields; see `Edit.to_document`."""
    document: dict[str, Any] = {
        "clips": [_written_clip(clip) for clip in clips],
        "targetFps": _written_rate(target_fps),
        "targetWidth": target_size.width,
        "targetHeight": target_size.height,
        "fit": fit.value,
        "includeAudio": include_audio,
    }
    if transitions:
        joins = [
            {"type": each.type.value, "duration": _written_number(each.duration_s)}
            for each in transitions
        ]
        document["transition"] = joins if len(set(transitions)) > 1 else joins[0]
    return document


class _Object(BaseModel):
    """One object of the document; `value` is its meaning, None where it has none by itself."""

    model_config = ConfigDict(alias_generator=to_camel, extra="forbid", frozen=True)

    @cached_property
    def value(self) -> object:
        return None

    @model_validator(mode="after")
    def _check_value(self) -> Self:
        try:
            _ = self.value
        except EditError as error:
            context = {"where": error.where, "reason": error.reason}
            raise PydanticCustomError("value", "{reason}", context) from None
        return self


class _Keyframe(_Object):
    time: Any
    x: Any
    y: Any
    width: Any
    height: Any
    ease: Any = None

    @cached_property
    def value(self) -> CropKeyframe:
        rect = Rect(self.x, self.y, self.width, self.height)
        return CropKeyframe(self.time, rect, **_given(ease=self.ease))


class _TrimRange(_Object):
    start: Any = None
    end: Any = None


class _Segment(_Object):
    start: Any
    end: Any
    speed: Any = None

    @cached_property
    def value(self) -> SpeedSegment:
        return SpeedSegment(self.start, self.end, **_given(speed=self.speed))


class _SegmentsData(_Object):
    """Trim and speeds in the app's first spelling; `boundaries` only repeats the segments' ends."""

    trim_range: _TrimRange | None = None
    segments: list[_Segment] | None = None
    boundaries: list[Any] | None = None

    @cached_property
    def value(self) -> list[SpeedSegment]:
        for index, time in enumerate(self.boundaries or ()):
            validation.number(time, f"boundaries[{index}]")
        return [segment.value for segment in self.segments or ()]


class _Segments(_Object):
    """Speeds in the app's second spelling: by index of the stretch between two boundaries."""

    boundaries: list[Any] | None = None
    segment_speeds: dict[str, Any] | None = None

    @cached_property
    def value(self) -> list[SpeedSegment]:
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

    def _stretches(self) -> dict[str, tuple[Fraction, Fraction]]:
        times = [
            validation.seconds(time, f"boundaries[{index}]")
            for index, time in enumerate(self.boundaries or ())
        ]
        for index, (before, time) in enumerate(pairwise(times), start=1):
            if time <= before:
                raise EditError(f"boundaries[{index}]", "must be after the one before it")
        return {str(index): ends for index, ends in enumerate(pairwise(times))}


class _Clip(_Object):
    file_name: Any
    clip_index: Any = None
    crop_keyframes: list[_Keyframe] | None = None
    segments_data: _SegmentsData | None = None
    segments: _Segments | None = None
    trim_range: _TrimRange | None = None
    title: Any = None
    fit: Any = None
    duration: Any = None
    source_width: Any = None
    source_height: Any = None
    working_clip_id: Any = None
    """The app's own; not used here."""

    @cached_property
    def value(self) -> Clip:
        if self.segments_data is None:
            return self._clip(self.segments, self.trim_range)
        if self.segments is not None or self.trim_range is not None:
            raise EditError("segmentsData", "must not stand beside segments or trimRange")
        try:
            return self._clip(self.segments_data, self.segments_data.trim_range)
        except EditError as error:
            inside = error.where.startswith(("segments[", "trimRange"))
            raise EditError("segmentsData." * inside + error.where, error.reason) from None

    def _clip(
        self, speeds: _SegmentsData | _Segments | None, trim_range: _TrimRange | None
    ) -> Clip:
        return Clip(
            self.file_name,
            crop_keyframes=[keyframe.value for keyframe in self.crop_keyframes or ()],
            trim_start_s=trim_range.start if trim_range else None,
            trim_stop_s=trim_range.end if trim_range else None,
            speed_segments=speeds.value if speeds else (),
            title=self.title,
            duration_s=self.duration,
            source_size=_both_sides("source", self.source_width, self.source_height),
            fit=self.fit,
        )


class _Transition(_Object):
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


class _Edit(_Object):
    clips: list[_Clip]
    transition: _Transitions | None = None
    target_fps: Any = None
    target_width: Any = None
    target_height: Any = None
    global_aspect_ratio: Any = None
    fit: Any = None
    include_audio: Any = None

    @cached_property
    def value(self) -> EditArguments:
        arguments: EditArguments = {
            "clips": self._in_play_order(),
            "transitions": self._transitions(),
            "target_size": self._target_size(),
        }
        if self.target_fps is not None:
            arguments["target_fps"] = self.target_fps
        if self.fit is not None:
            arguments["fit"] = self.fit
        if self.include_audio is not None:
            arguments["include_audio"] = self.include_audio
        return arguments

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


def _written_clip(clip: Clip) -> dict[str, Any]:
    trim_range = {
        "start": _written_number(clip.trim_start_s),
        "end": _written_number(clip.trim_stop_s),
    }
    segments = [
        {
            "start": _written_number(each.start_s),
            "end": _written_number(each.stop_s),
            "speed": _written_number(each.speed),
        }
        for each in clip.speed_segments
    ]
    size = clip.source_size
    return _non_empty(
        fileName=clip.file_name,
        cropKeyframes=[_written_keyframe(each) for each in clip.crop_keyframes],
        segmentsData=_non_empty(trimRange=_non_empty(**trim_range), segments=segments),
        title=clip.title,
        fit=clip.fit and clip.fit.value,
        duration=_written_number(clip.duration_s),
        sourceWidth=size and size.width,
        sourceHeight=size and size.height,
    )


def _written_keyframe(keyframe: CropKeyframe) -> dict[str, Any]:
    rect = keyframe.rect
    sides = {"x": rect.x, "y": rect.y, "width": rect.width, "height": rect.height}
    return {"time": _written_number(keyframe.time_s), **sides, "ease": keyframe.ease.value}


def _non_empty(**keys: Any) -> dict[str, Any]:
    """An object without the keys whose value is None or empty."""
    return {key: value for key, value in keys.items() if value not in (None, [], {})}


def _written_rate(fps: Fraction) -> int | str:
    return fps.numerator if fps.denominator == 1 else str(fps)


def _written_number(value: Fraction | None) -> int | float | None:
    """A JSON number that reads back as the same exact value."""
    if value is None:
        return None
    return value.numerator if value.denominator == 1 else float(value)


def _from_json(text: str | bytes) -> object:
    try:
        return json.loads(text, object_pairs_hook=validation.unique_keys)
    except validation.RepeatedKeyError as error:
        raise EditError("", str(error)) from None
    except json.JSONDecodeError as error:
        where = f"line {error.lineno}, column {error.colno}"
        raise EditError(where, f"not JSON: {error.msg.lower()}") from None
    except UnicodeDecodeError as error:
        raise EditError(f"byte {error.start}", "not JSON: not Unicode text") from None
    except ValueError:  # from int(), which refuses thousands of digits
        raise EditError("", "a number in it has too many digits") from None
    except RecursionError:
        raise EditError("", "it is nested too deeply") from None


def _first_error(details: Sequence[ErrorDetails]) -> EditError:
    """The first problem, and how many more there are; unknown keys first, as they cause others."""
    first = _edit_error(min(details, key=lambda each: not _is_unknown_key(each)))
    more = len(details) - 1
    if not more:
        return first
    count = "1 more problem" if more == 1 else f"{more} more problems"
    return EditError(first.where, f"{first.reason} (and {count})")


def _is_unknown_key(details: ErrorDetails) -> bool:
    return details["type"] == "extra_forbidden"


def _edit_error(details: ErrorDetails) -> EditError:
    """One of pydantic's errors in our words, with its place in the document's spelling."""
    steps = details["loc"]
    if steps[:1] == ("transition",):
        steps = steps[:1] + steps[2:]  # not the tag "one" or "many"
    where = validation.path(steps)
    match details["type"]:
        case "value":
            inner = details["ctx"]["where"]
            separator = "." if where and inner and not inner.startswith("[") else ""
            return EditError(f"{where}{separator}{inner}", details["ctx"]["reason"])
        case "extra_forbidden":
            close = difflib.get_close_matches(str(steps[-1]), _known_keys(steps[:-1]), n=1)
            hint = f"; did you mean {close[0]}?" if close else ""
            return EditError(where, f"unknown key{hint}")
        case "missing":
            return EditError(where, "is missing")
        case "list_type":
            return EditError(where, f"must be a list, not {validation.shown(details['input'])}")
        case "invalid_key" | "string_type" | "string_unicode":  # not from JSON
            return EditError(where, "keys must be text")
        case _:
            return EditError(where, f"must be an object, not {validation.shown(details['input'])}")


def _known_keys(steps: Sequence[int | str]) -> list[str]:
    """The keys of the object at a place in the document."""
    model: type[_Object] = _Edit
    for step in steps:
        for key in model.model_fields.values():
            if key.alias == step:
                model = _model_in(key.annotation) or model
    return [str(key.alias) for key in model.model_fields.values()]


def _model_in(annotation: Any) -> type[_Object] | None:
    """The model in an annotation such as `list[_Clip] | None`."""
    if isinstance(annotation, type) and issubclass(annotation, _Object):
        return annotation
    return next(filter(None, map(_model_in, get_args(annotation))), None)
