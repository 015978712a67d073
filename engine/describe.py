"""Plans and sources as something to read: a table, JSON, or one line per frame."""

from __future__ import annotations

import csv
import json
from fractions import Fraction
from typing import Any, TextIO

import numpy as np
from rich.table import Table

from engine.plan import Plan, PlannedClip
from engine.source import SourceInfo
from engine.timing import FrameRange, frame_time_s

_CFR_JITTER_S = Fraction(1, 500)
"""Timestamps rounded to milliseconds make steps of a constant rate differ by up to this."""


def timeline_table(plan: Plan) -> Table:
    """One row per clip: where it plays, what it shows, at which speed, through which crop."""
    table = Table(title=_headline(plan), title_justify="left", title_style="bold")
    for heading in ("#", "title", "file", "plays", "frames", "source", "speed", "crop", "then"):
        table.add_column(heading, overflow="fold")
    for clip in plan.clips:
        table.add_row(
            str(clip.index),
            clip.title,
            clip.source.path.name,
            _span(clip.frames, plan),
            f"{clip.frames} {len(clip.frames)}",
            f"{_source_start(clip):.3f}-{_source_stop(clip):.3f} s",
            ", ".join(
                f"{float(piece.speed):g}x from {float(piece.start_s):g} s"
                for piece in clip.retiming.pieces
            ),
            _crop(clip),
            _then(plan, clip.index),
        )
    return table


def timeline_document(plan: Plan) -> dict[str, Any]:
    """The plan for programs: camelCase keys, seconds and frames. See `write_frames` for each
    frame."""
    return {
        "frames": plan.frame_count,
        "durationSeconds": float(plan.duration_s),
        "fps": str(plan.fps),
        "width": plan.size.width,
        "height": plan.size.height,
        "sourceFrames": plan.source_frame_count(),
        "samples": plan.sample_count,
        "clips": [_clip_document(plan, clip) for clip in plan.clips],
        "chapters": [
            {"title": each.title, "start": float(each.start_s), "end": float(each.stop_s)}
            for each in plan.chapters
        ],
        "warnings": list(plan.warnings),
    }


def write_frames(plan: Plan, out: TextIO) -> None:
    """The proof, as CSV: which source time through which rectangle, per layer of each frame."""
    table = csv.writer(out, lineterminator="\n")
    table.writerow(["frame", "clip", "source_s", "x", "y", "width", "height", "weight"])
    for frame in range(plan.frame_count):
        for layer in plan.layers(FrameRange(frame, frame + 1)):
            time_s = float(layer.clip.source.time_of(layer.pts[0]))
            rect = [f"{value:.3f}" for value in layer.rects[0]]
            table.writerow(
                [frame, layer.clip.index, f"{time_s:.6f}", *rect, f"{layer.weights[0]:.6f}"]
            )


def source_table(source: SourceInfo) -> Table:
    """What a source file was found to be, one fact per row."""
    table = Table(title=str(source.path), title_justify="left", title_style="bold")
    table.add_column("fact")
    table.add_column("value", overflow="fold")
    for fact, value in source_document(source).items():
        table.add_row(fact, str(value))
    return table


def source_document(source: SourceInfo) -> dict[str, Any]:
    """A source file for programs: camelCase keys."""
    steps = np.diff(source.frame_pts)
    constant = steps.size == 0 or int(steps.max() - steps.min()) * source.time_base < _CFR_JITTER_S
    sound = source.sound
    return {
        "file": str(source.path),
        "container": source.container,
        "codec": source.codec,
        "pixelFormat": source.pixel_format,
        "displaySize": str(source.display_size),
        "codedSize": str(source.coded_size),
        "rotationClockwise": source.rotation_deg,
        "durationSeconds": round(float(source.duration_s), 6),
        "frames": len(source.frame_pts),
        "framesPerSecond": round(len(source.frame_pts) / float(source.duration_s), 3),
        "constantFrameRate": constant,
        "keyFrames": len(source.keyframe_pts),
        "matrix": str(source.colour.matrix),
        "transfer": str(source.colour.transfer),
        "fullRange": source.colour.full_range,
        "colourAssumed": source.colour.assumed,
        "interlaced": source.interlaced,
        "sound": None
        if sound is None
        else f"{sound.codec}, {sound.sample_rate_hz} Hz, {sound.channels} channels",
        "soundStartSeconds": None if sound is None else round(float(sound.start_s), 6),
        "fingerprint": source.fingerprint,
    }


def dump_document(document: dict[str, Any]) -> str:
    """Readable JSON."""
    return json.dumps(document, indent=2, ensure_ascii=False)


def _headline(plan: Plan) -> str:
    sound = "sound" if plan.sound else "no sound"
    return (
        f"{plan.size}, {float(plan.fps):.5g} fps, {float(plan.duration_s):.3f} s: "
        f"{plan.frame_count} frames from {plan.source_frame_count()} source frames, {sound}"
    )


def _span(frames: FrameRange, plan: Plan) -> str:
    start_s, stop_s = (float(frame_time_s(at, plan.fps)) for at in (frames.start, frames.stop))
    return f"{start_s:.3f}-{stop_s:.3f} s"


def _source_start(clip: PlannedClip) -> float:
    return float(clip.retiming.pieces[0].start_s)


def _source_stop(clip: PlannedClip) -> float:
    return float(clip.retiming.pieces[-1].stop_s)


def _crop(clip: PlannedClip) -> str:
    first, last = (
        "{2:.0f}x{3:.0f} at {0:.0f},{1:.0f}".format(*rect) for rect in clip.rects[[0, -1]]
    )
    return first if first == last else f"{first} to {last}"


def _then(plan: Plan, index: int) -> str:
    if index >= len(plan.transitions):
        return ""
    transition = plan.transitions[index]
    if not transition.frame_count:
        return "cut"
    return f"{transition.type}, {transition.frame_count} frames"


def _clip_document(plan: Plan, clip: PlannedClip) -> dict[str, Any]:
    return {
        "clipIndex": clip.index,
        "fileName": str(clip.source.path),
        "title": clip.title,
        "startFrame": clip.frames.start,
        "stopFrame": clip.frames.stop,
        "start": float(frame_time_s(clip.frames.start, plan.fps)),
        "end": float(frame_time_s(clip.frames.stop, plan.fps)),
        "segments": [
            {
                "start": float(piece.start_s),
                "end": float(piece.stop_s),
                "speed": float(piece.speed),
            }
            for piece in clip.retiming.pieces
        ],
        "fit": str(clip.fit),
    }
