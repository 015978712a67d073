"""Decides the whole export: which source frame, through which rectangle, with which weight.

Arithmetic only: `Edit` and `SourceInfo` in, arrays out. Opens no file and sees no pixel.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction
from itertools import pairwise
from pathlib import PurePath

import numpy as np
from numpy.typing import NDArray

from engine.errors import EditError
from engine.geometry import Fit, Size
from engine.soundtrack import Ramp, SoundSpan, TempoPiece
from engine.source import SourceInfo
from engine.timeline.clip import Clip
from engine.timeline.edit import Edit
from engine.timeline.keyframes import crop_rects
from engine.timeline.retime import Retiming, retiming
from engine.timeline.transition import Transition, TransitionType
from engine.timing import SAMPLE_RATE_HZ, FrameRange, first_sample, frame_time_s, round_half_up

CROP_TOLERANCE_PX = 0.5
"""A crop that reaches less far outside of its frame was rounded by the program that wrote it."""

CUT_RAMP_SAMPLES = 96
"""2 ms: at a cut the sound falls and rises within it, since a step would be heard as a click."""


@dataclass(frozen=True, slots=True, eq=False)
class PlannedClip:
    """One clip on the output's frame grid. The arrays have one row per output frame of `frames`."""

    index: int
    """Place in play order, which is also its place in `Plan.clips`."""
    source: SourceInfo
    title: str
    frames: FrameRange
    """The output frames that show it; neighbours overlap where they dissolve."""
    pts: NDArray[np.int64]
    """Shape (n,): timestamp of the source frame shown, an element of `source.frame_pts`."""
    rects: NDArray[np.float64]
    """Shape (n, 4): x, y, width, height of the crop, in display pixels of the source."""
    weights: NDArray[np.float64]
    """Shape (n,): share of this clip in the frame, 0 to 1. The rest of all layers is black."""
    fit: Fit
    rotation_deg: float
    """The upright frame is turned by so much, counter-clockwise, before `rects` are taken of it."""
    retiming: Retiming
    scale: float
    """How much the smallest crop is enlarged to fit into the target: output px per source px."""


@dataclass(frozen=True, slots=True, eq=False)
class Layer:
    """One clip's part in a range of output frames: slices of its arrays, one row per frame."""

    clip: PlannedClip
    pts: NDArray[np.int64]
    rects: NDArray[np.float64]
    weights: NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Chapter:
    """A chapter from `start_s` to `stop_s` of the export."""

    title: str
    start_s: Fraction
    stop_s: Fraction


@dataclass(frozen=True, slots=True, eq=False)
class Plan:
    """An export, decided. Everything after this only carries it out."""

    clips: tuple[PlannedClip, ...]
    transitions: tuple[PlannedTransition, ...]
    fps: Fraction
    size: Size
    frame_count: int
    sound: tuple[SoundSpan, ...]
    """Empty when the export has no sound track."""
    sample_count: int
    """Length of the sound track in 48 kHz samples; 0 when there is none."""
    chapters: tuple[Chapter, ...]
    borders: tuple[int, ...]
    """Output frames at which a clip or a transition starts or ends, ascending, from 0 to the end
    of the export."""
    key_interval_s: Fraction | None
    """From one key frame to the next, in seconds. None: the edit does not say."""
    warnings: tuple[str, ...]
    """What the edit's document was read without, and what the plan had to change, one line each."""
    copied: frozenset[FrameRange] = frozenset()
    """Output frames whose packets are copied from a source, each from one border to another."""

    @property
    def duration_s(self) -> Fraction:
        """The export's length, in seconds."""
        return frame_time_s(self.frame_count, self.fps)

    def layers(self, frames: FrameRange) -> tuple[Layer, ...]:
        """The one or two layers of `frames`, in play order. `frames` must not cross a border."""
        found = []
        for clip in self.clips:
            if clip.frames.start <= frames.start and frames.stop <= clip.frames.stop:
                rows = slice(frames.start - clip.frames.start, frames.stop - clip.frames.start)
                found.append(Layer(clip, clip.pts[rows], clip.rects[rows], clip.weights[rows]))
        return tuple(found)

    def source_frame_count(self) -> int:
        """Source frames that the export shows, each counted once: those to crop and to upscale."""
        return sum(len(set(clip.pts.tolist())) for clip in self.clips)


@dataclass(frozen=True, slots=True)
class PlannedTransition:
    """The join after clip `after`: its type and its length on the frame grid.

    A dissolve has `frame_count` frames that both clips share. A fade has `frame_count` frames on
    either side of the join. A cut has 0.
    """

    after: int
    type: TransitionType
    frame_count: int


def build_plan(edit: Edit, sources: Sequence[SourceInfo]) -> Plan:
    """Decides an export.

    `sources[i]` describes the file of `edit.clips[i]`. Raises `EditError` for a range or a trim
    that starts past the end of its file, ValueError for another number of sources than of clips.
    """
    if len(sources) != len(edit.clips):
        raise ValueError(f"{len(edit.clips)} clips need as many sources, not {len(sources)}")
    warnings = list(edit.warnings)
    retimings = [
        _clip_retiming(index, clip, source, warnings)
        for index, (clip, source) in enumerate(zip(edit.clips, sources, strict=True))
    ]
    counts = [each.frame_count(edit.target_fps) for each in retimings]
    transitions = _planned_transitions(edit.transitions, counts, edit.target_fps, warnings)
    ranges = _clip_ranges(counts, transitions)
    clips = tuple(
        _planned_clip(index, edit, source, frames, each, transitions, warnings)
        for index, (source, frames, each) in enumerate(zip(sources, ranges, retimings, strict=True))
    )
    frame_count = ranges[-1].stop
    return Plan(
        clips=clips,
        transitions=transitions,
        fps=edit.target_fps,
        size=edit.target_size,
        frame_count=frame_count,
        sound=_sound_spans(clips, transitions, edit.target_fps) if edit.include_audio else (),
        sample_count=first_sample(frame_count, edit.target_fps) if edit.include_audio else 0,
        chapters=_chapters(clips, edit.target_fps, frame_count),
        borders=_borders(ranges, transitions),
        key_interval_s=edit.key_interval_s,
        warnings=tuple(warnings),
    )


def _clip_retiming(index: int, clip: Clip, source: SourceInfo, warnings: list[str]) -> Retiming:
    """The retiming of a clip, in times of the whole file."""
    where = f"clips[{index}]"
    first_s, last_s = _within(
        (clip.source_start_s, clip.source_stop_s),
        source.duration_s,
        f"{where}.sourceRange",
        f"the end of {clip.file_name}",
        warnings,
    )
    length_s = last_s - first_s
    whole = clip.source_start_s is None and clip.source_stop_s is None
    whose = clip.file_name if whole else "its sourceRange"
    start_s, stop_s = _within(
        (clip.trim_start_s, clip.trim_stop_s),
        length_s,
        f"{where}.trimRange",
        f"the end of {whose}",
        warnings,
    )
    warnings.extend(f"{where}: {source.location}: {each}" for each in source.repairs)
    warnings.extend(f"{where}: {source.location}: {each}" for each in source.notes)
    warnings.extend(_mismatches(where, clip, source, length_s))
    segments = [
        (part.start_s, length_s if part.stop_s is None else part.stop_s, part.speed)
        for part in clip.speed_segments
    ]
    past_it = [a for a, _, speed in segments if a >= length_s and speed != 1]
    if past_it:
        others = f" (and {len(past_it) - 1} more)" if len(past_it) > 1 else ""
        warnings.append(
            f"{where}.segments: the speed segment at {float(past_it[0]):g} s{others} "
            f"starts past the end of {whose} ({float(length_s):.3f} s)"
        )
    return retiming(
        first_s + start_s, first_s + stop_s, [(first_s + a, first_s + b, v) for a, b, v in segments]
    )


def _within(
    wanted: tuple[Fraction | None, Fraction | None],
    length_s: Fraction,
    where: str,
    end: str,
    warnings: list[str],
) -> tuple[Fraction, Fraction]:
    """A range of what lasts `length_s`; `end` names its end. Raises EditError where it is past."""
    start_s, stop_s = wanted[0] or Fraction(0), length_s if wanted[1] is None else wanted[1]
    if start_s >= length_s:
        raise EditError(
            f"{where}.start", f"{float(start_s):g} s is past {end} ({float(length_s):.3f} s)"
        )
    if stop_s > length_s:
        warnings.append(
            f"{where}.end: {float(stop_s):g} s is past {end}; clamped to {float(length_s):.3f} s"
        )
    return start_s, min(stop_s, length_s)


def _mismatches(where: str, clip: Clip, source: SourceInfo, length_s: Fraction) -> list[str]:
    """Warnings where the document says something else about a file than the file itself.

    `length_s` is how long the part of the file lasts that the clip's times are counted in.
    """
    found = []
    if clip.source_size is not None and clip.source_size != source.display_size:
        found.append(
            f"{where}.sourceWidth: the edit says {clip.source_size}, "
            f"{clip.file_name} is {source.display_size}; the crop is taken as written"
        )
    if clip.duration_s is not None and abs(clip.duration_s - length_s) > Fraction(1, 4):
        found.append(
            f"{where}.duration: the edit says {float(clip.duration_s):.3f} s, "
            f"{clip.file_name} lasts {float(length_s):.3f} s"
        )
    return found + _crops_outside(where, clip, source.display_size)


def _crops_outside(where: str, clip: Clip, frame: Size) -> list[str]:
    """A warning where crops reach outside of the frame; `crop_rects` brings them inside."""
    outside = [
        keyframe
        for keyframe in clip.crop_keyframes
        if min(keyframe.rect.x, keyframe.rect.y) < -CROP_TOLERANCE_PX
        or keyframe.rect.x + keyframe.rect.width > frame.width + CROP_TOLERANCE_PX
        or keyframe.rect.y + keyframe.rect.height > frame.height + CROP_TOLERANCE_PX
    ]
    if not outside:
        return []
    rect, time_s = outside[0].rect, float(outside[0].time_s)
    larger = rect.width > frame.width or rect.height > frame.height
    others = f" (and {len(outside) - 1} more)" if len(outside) > 1 else ""
    return [
        f"{where}.cropKeyframes: the crop at {time_s:g} s{others}, {rect.width:g}x{rect.height:g} "
        f"at {rect.x:g}, {rect.y:g}, reaches outside of the {frame} frame; it is "
        f"{'shrunk' if larger else 'moved'} into it"
    ]


def _planned_transitions(
    transitions: Sequence[Transition], counts: Sequence[int], fps: Fraction, warnings: list[str]
) -> tuple[PlannedTransition, ...]:
    """Transitions on the frame grid, shortened where their clips are too short for them.

    A clip between two transitions gives each what the other leaves, or half to each where both
    want more. So a join depends only on its two clips and on the joins on their other sides.
    """
    wanted = [
        0 if each.type is TransitionType.CUT else round_half_up(each.duration_s * fps)
        for each in transitions
    ]
    planned = []
    for join, (transition, frames) in enumerate(zip(transitions, wanted, strict=True)):
        before = wanted[join - 1] if join > 0 else 0
        after = wanted[join + 1] if join + 1 < len(wanted) else 0
        left, right = counts[join], counts[join + 1]
        fitting = min(frames, max(left - before, left // 2), max(right - after, right // 2))
        if fitting < frames:
            warnings.append(
                f"transition {join + 1}: {frames} frames of {transition.type} do not fit between "
                f"clips[{join}] and clips[{join + 1}]; shortened to {fitting}"
            )
        planned.append(PlannedTransition(join, transition.type, fitting))
    return tuple(planned)


def _clip_ranges(
    counts: Sequence[int], transitions: Sequence[PlannedTransition]
) -> list[FrameRange]:
    """The output frames of each clip. Clips follow each other, and overlap where they dissolve."""
    ranges = [FrameRange(0, counts[0])]
    for transition, count in zip(transitions, counts[1:], strict=True):
        shared = transition.frame_count if transition.type is TransitionType.DISSOLVE else 0
        start = ranges[-1].stop - shared
        ranges.append(FrameRange(start, start + count))
    return ranges


def _planned_clip(
    index: int,
    edit: Edit,
    source: SourceInfo,
    frames: FrameRange,
    retimed: Retiming,
    transitions: Sequence[PlannedTransition],
    warnings: list[str],
) -> PlannedClip:
    clip = edit.clips[index]
    rects = crop_rects(
        clip.crop_keyframes,
        retimed.source_times_s(edit.target_fps) - float(clip.source_start_s or 0),
        source.display_size,
        edit.target_size.aspect,
        edit.ease,
        on_warning=lambda warning: warnings.append(f"clips[{index}].cropKeyframes: {warning}"),
    )
    return PlannedClip(
        index=index,
        source=source,
        title=clip.title or PurePath(clip.file_name).stem,
        frames=frames,
        pts=_source_pts(source, retimed.source_ticks(edit.target_fps, source.time_base)),
        rects=rects,
        weights=_weights(index, len(frames), transitions),
        fit=clip.fit or edit.fit,
        rotation_deg=float(clip.rotation_deg),
        retiming=retimed,
        scale=_largest_scale(rects, edit.target_size),
    )


def _largest_scale(rects: NDArray[np.float64], target: Size) -> float:
    scales = np.minimum(target.width / rects[:, 2], target.height / rects[:, 3])
    return float(scales.max())


def _source_pts(source: SourceInfo, ticks: NDArray[np.int64]) -> NDArray[np.int64]:
    """The last source frame that starts at or before each tick, counted from the first frame."""
    indices = np.searchsorted(source.frame_pts - source.frame_pts[0], ticks, side="right") - 1
    return source.frame_pts[np.maximum(indices, 0)]


def _weights(
    index: int, count: int, transitions: Sequence[PlannedTransition]
) -> NDArray[np.float64]:
    """1 outside transitions; frame i of n of one shows (i + 1) / (n + 1) of the next clip."""
    weights = np.ones(count)
    if index > 0 and (n := transitions[index - 1].frame_count):
        weights[:n] *= np.arange(1, n + 1) / (n + 1)
    if index < len(transitions) and (n := transitions[index].frame_count):
        weights[count - n :] *= 1 - np.arange(1, n + 1) / (n + 1)
    return weights


def _borders(
    ranges: Sequence[FrameRange], transitions: Sequence[PlannedTransition]
) -> tuple[int, ...]:
    borders = {frame for each in ranges for frame in (each.start, each.stop)}
    for transition in transitions:
        if transition.type is TransitionType.FADE:
            meeting = ranges[transition.after].stop
            borders |= {meeting - transition.frame_count, meeting + transition.frame_count}
    return tuple(sorted(borders))


def _chapters(clips: Sequence[PlannedClip], fps: Fraction, frame_count: int) -> tuple[Chapter, ...]:
    starts = [clip.frames.start for clip in clips] + [frame_count]
    return tuple(
        Chapter(clip.title, frame_time_s(start, fps), frame_time_s(stop, fps))
        for clip, (start, stop) in zip(clips, pairwise(starts), strict=True)
    )


def _sound_spans(
    clips: Sequence[PlannedClip], transitions: Sequence[PlannedTransition], fps: Fraction
) -> tuple[SoundSpan, ...]:
    return tuple(_sound_span(clip, transitions, fps) for clip in clips)


def _sound_span(
    clip: PlannedClip, transitions: Sequence[PlannedTransition], fps: Fraction
) -> SoundSpan:
    start, stop = clip.frames.start, clip.frames.stop
    start_sample, stop_sample = first_sample(start, fps), first_sample(stop, fps)
    total = stop_sample - start_sample
    pieces = clip.retiming.pieces
    offsets = [min(total, round_half_up(piece.at_s * SAMPLE_RATE_HZ)) for piece in pieces]
    before = transitions[clip.index - 1] if clip.index > 0 else None
    after = transitions[clip.index] if clip.index < len(transitions) else None
    rise = first_sample(start + before.frame_count, fps) - start_sample if before else 0
    fall = stop_sample - first_sample(stop - after.frame_count, fps) if after else 0
    declick = min(CUT_RAMP_SAMPLES, (total - rise - fall) // 2)
    return SoundSpan(
        clip=clip.index,
        start_sample=start_sample,
        pieces=tuple(
            TempoPiece(piece.start_s, piece.stop_s, piece.speed, until - offset)
            for piece, (offset, until) in zip(pieces, pairwise([*offsets, total]), strict=True)
        ),
        rise_samples=rise or (declick if before else 0),
        rise_ramp=_ramp(before),
        fall_samples=fall or (declick if after else 0),
        fall_ramp=_ramp(after),
    )


def _ramp(transition: PlannedTransition | None) -> Ramp:
    dissolves = transition is not None and transition.type is TransitionType.DISSOLVE
    return Ramp.EQUAL_POWER if dissolves else Ramp.LINEAR
