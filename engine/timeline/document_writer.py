"""Writes an edit as the app's JSON; `document.py` reads it."""

from __future__ import annotations

from collections.abc import Sequence
from fractions import Fraction
from typing import Any

from engine.geometry import Fit, Size
from engine.timeline.clip import Clip, CropKeyframe, Ease
from engine.timeline.transition import Transition


def write_document(
    *,
    clips: Sequence[Clip],
    transitions: Sequence[Transition],
    target_fps: Fraction,
    target_size: Size,
    fit: Fit,
    include_audio: bool,
    ease: Ease,
    key_interval_s: Fraction | None,
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
    if ease is not Ease.LINEAR:
        document["ease"] = ease.value
    return document | _non_empty(keyInterval=_written_number(key_interval_s))


def _written_clip(clip: Clip) -> dict[str, Any]:
    segments = [
        _non_empty(
            start=_written_number(each.start_s),
            end=_written_number(each.stop_s),
            speed=_written_number(each.speed),
        )
        for each in clip.speed_segments
    ]
    trim_range = _written_range(clip.trim_start_s, clip.trim_stop_s)
    size = clip.source_size
    return _non_empty(
        fileName=clip.file_name,
        sourceRange=_written_range(clip.source_start_s, clip.source_stop_s),
        cropKeyframes=[_written_keyframe(each) for each in clip.crop_keyframes],
        rotation=_written_number(clip.rotation_deg) or None,
        segmentsData=_non_empty(trimRange=trim_range, segments=segments),
        title=clip.title,
        fit=clip.fit and clip.fit.value,
        duration=_written_number(clip.duration_s),
        sourceWidth=size and size.width,
        sourceHeight=size and size.height,
    )


def _written_range(start_s: Fraction | None, stop_s: Fraction | None) -> dict[str, Any]:
    return _non_empty(start=_written_number(start_s), end=_written_number(stop_s))


def _written_keyframe(keyframe: CropKeyframe) -> dict[str, Any]:
    rect = keyframe.rect
    sides = {"x": rect.x, "y": rect.y, "width": rect.width, "height": rect.height}
    ease = keyframe.ease and keyframe.ease.value
    return {"time": _written_number(keyframe.time_s), **sides, **_non_empty(ease=ease)}


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
