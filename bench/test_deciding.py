"""Guards of what decides: a two-hour reel of 200 clips planned and cut into chunks; keyframes."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from bench.guard import Guard
from engine import Clip, Edit, Rect, Size, SpeedSegment, Transition, build_plan
from engine.source import SourceInfo
from engine.timeline.chunks import MAX_CHUNK_FRAMES, cut_into_chunks
from engine.timeline.edit import CropKeyframe
from engine.timeline.keyframes import crop_rects
from tests.sources import FULL_HD, a_source

CLIPS, FRAMES = 200, 216_000
CROP = Size(600, 1066)


def test_plan_of_two_hours(guard: Guard) -> None:
    """numpy's share of it: which frame of its file each output frame shows, and through where."""
    edit, sources = two_hours()
    key_times_s, sides = np.linspace(0, 38, 20), np.ones((4, 20))

    def lookups() -> None:
        for source in sources:
            ticks = np.arange(FRAMES // CLIPS) * 3000
            source.frame_pts[np.searchsorted(source.frame_pts, ticks, side="right") - 1]
            for side in sides:
                np.interp(ticks / 90_000, key_times_s, side)

    assert build_plan(edit, sources).frame_count == FRAMES
    guard("plan", lambda: build_plan(edit, sources), lookups, peer="numpy's lookups", rounds=7)


def test_chunks_of_two_hours(guard: Guard) -> None:
    plan = build_plan(*two_hours())
    per_frame = np.zeros(MAX_CHUNK_FRAMES * (8 + 4 * 8 + 8), np.uint8)

    def digests() -> None:
        for _ in range(FRAMES // MAX_CHUNK_FRAMES):
            hashlib.blake2b(per_frame.data, digest_size=16).hexdigest()

    guard(
        "chunks and digests",
        lambda: cut_into_chunks(plan, stage_key=lambda _: "bicubic", encoder_key="libx264"),
        digests,
        peer="blake2b of as many bytes",
        rounds=7,
    )


def test_keyframes(guard: Guard) -> None:
    """`numpy.interp` has no easing and no cuts, and does not keep the crop inside the frame."""
    moving = [CropKeyframe(each.time_s, each.rect) for each in keyframes(2000, FRAMES / 30)]
    times_s = np.arange(FRAMES) / 30

    def ours() -> NDArray[np.float64]:
        return crop_rects(moving, times_s, FULL_HD, 9 / 16)

    def interpolated() -> NDArray[np.float64]:
        key_times_s = np.array([float(each.time_s) for each in moving])
        sides = np.array([[each.rect.x, each.rect.y, each.rect.width, each.rect.height]
                          for each in moving], np.float64)  # fmt: skip
        return np.stack([np.interp(times_s, key_times_s, side) for side in sides.T], axis=1)

    assert np.allclose(interpolated(), ours())
    guard("keyframes", ours, interpolated, peer="numpy.interp")


def keyframes(count: int, duration_s: float) -> list[CropKeyframe]:
    """A crop that wanders, every other stretch of it smoothly."""
    times_s = np.linspace(0, duration_s, count)
    across = 660 + 600 * np.sin(times_s)
    return [
        CropKeyframe(time_s, Rect(x, 7, CROP.width, CROP.height), ("linear", "smooth")[key % 2])
        for key, (time_s, x) in enumerate(zip(times_s.tolist(), across.tolist(), strict=True))
    ]


def two_hours() -> tuple[Edit, Sequence[SourceInfo]]:
    """36.5 s of each clip, the first 15 frames shorter, 15 frames of each dissolving."""
    clips = [
        Clip(
            f"{index}.mp4",
            crop_keyframes=keyframes(20, 38),
            trim_start_s=2.5 if index == 0 else 2,
            trim_stop_s=36.5,
            speed_segments=[SpeedSegment(8, 12, 0.5), SpeedSegment(20, 24, 2)],
        )
        for index in range(CLIPS)
    ]
    sources = [a_source(clip.file_name, frames=1200) for clip in clips]
    return Edit(clips, Transition("dissolve", 0.5)), sources
