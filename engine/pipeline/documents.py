"""A plan, an estimate and a source as JSON documents, for programs.

The keys are camelCase. The command line prints these documents, and the backend sends them.
"""

from __future__ import annotations

from fractions import Fraction
from typing import Any

import numpy as np

from engine.pipeline.estimate import ASSUMPTIONS, Estimate
from engine.source import SourceInfo
from engine.timeline.plan import Plan, PlannedClip
from engine.timing import frame_time_s

_CFR_JITTER_S = Fraction(1, 500)
"""Timestamps rounded to milliseconds make steps of a constant rate differ by up to this."""


def timeline_document(plan: Plan) -> dict[str, Any]:
    """The size, clips, chapters and warnings of a plan, in frames and seconds."""
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


def estimate_document(estimate: Estimate) -> dict[str, Any]:
    """What an export will take, here and on Modal: frames, seconds, US dollars."""
    modal = estimate.modal
    return {
        "frames": estimate.frames,
        "sourceFrames": estimate.source_frames,
        "upscaledFrames": estimate.upscaled_frames,
        "chunkFrames": list(estimate.chunk_frames),
        "here": {
            "seconds": estimate.here_s and round(estimate.here_s, 1),
            "from": estimate.here_from,
        },
        "modal": {
            "containers": modal.containers,
            "seconds": round(modal.wall_s),
            "usd": round(modal.cost_usd, 4),
            "why": estimate.modal_why,
            "assumptions": list(ASSUMPTIONS),
        },
    }


def source_document(source: SourceInfo) -> dict[str, Any]:
    """What a source file was found to be: streams, sizes, rates, colour, sound."""
    steps = np.diff(source.frame_pts)
    constant = steps.size == 0 or int(steps.max() - steps.min()) * source.time_base < _CFR_JITTER_S
    sound = source.sound
    return {
        "file": str(source.location),
        "container": source.container,
        "codec": source.codec,
        "pixelFormat": source.pixel_format,
        "displaySize": str(source.display_size),
        "codedSize": str(source.coded_size),
        "rotationClockwise": source.rotation_deg,
        "mirrored": source.mirrored,
        "durationSeconds": round(float(source.duration_s), 6),
        "frames": len(source.frame_pts),
        "framesPerSecond": round(len(source.frame_pts) / float(source.duration_s), 3),
        "constantFrameRate": constant,
        "keyFrames": len(source.keyframe_pts),
        "matrix": str(source.colour.matrix),
        "transfer": str(source.colour.transfer),
        "primaries": str(source.colour.gamut),
        "fullRange": source.colour.full_range,
        "chromaSiting": str(source.chroma_siting),
        "colourAssumed": source.colour.assumed,
        "interlaced": source.interlaced,
        "sound": None
        if sound is None
        else f"{sound.codec}, {sound.sample_rate_hz} Hz, {sound.channels} channels",
        "soundStartSeconds": None if sound is None else round(float(sound.start_s), 6),
        "repairs": list(source.repairs),
        "notes": list(source.notes),
        "fingerprint": source.fingerprint,
    }


def _clip_document(plan: Plan, clip: PlannedClip) -> dict[str, Any]:
    return {
        "clipIndex": clip.index,
        "fileName": str(clip.source.location),
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
