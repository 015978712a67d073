"""Deciding: a two-hour reel of 200 clips, planned and cut into chunks; keyframes against numpy."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from engine import Clip, Edit, Plan, Rect, Size, SpeedSegment, Transition, build_plan
from engine.chunks import cut_into_chunks
from engine.edit import CropKeyframe
from engine.keyframes import crop_rects
from engine.source import SourceInfo
from tests.sources import FULL_HD, a_source

LIMIT_S = 1.0
CLIPS, FRAMES = 200, 216_000
CROP = Size(600, 1066)


def keyframes(count: int, duration_s: float) -> list[CropKeyframe]:
    """A crop that wanders, every other stretch of it smoothly."""
    times_s = np.linspace(0, duration_s, count)
    across = 660 + 600 * np.sin(times_s)
    return [
        CropKeyframe(time_s, Rect(x, 7, CROP.width, CROP.height), ("linear", "smooth")[key % 2])
        for key, (time_s, x) in enumerate(zip(times_s.tolist(), across.tolist(), strict=True))
    ]


def two_hours() -> tuple[Edit, list[SourceInfo]]:
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


@pytest.mark.benchmark(group="deciding")
def test_plan_of_two_hours(benchmark: Any) -> None:
    edit, sources = two_hours()
    plan = benchmark.pedantic(build_plan, args=(edit, sources), rounds=7, warmup_rounds=1)
    benchmark.extra_info["case"] = f"plan of {CLIPS} clips, {plan.frame_count} frames"
    assert plan.frame_count == FRAMES
    assert benchmark.stats.stats.median < LIMIT_S


@pytest.mark.benchmark(group="deciding")
def test_chunks_of_two_hours(benchmark: Any) -> None:
    plan: Plan = build_plan(*two_hours())

    def chunks() -> int:
        return len(cut_into_chunks(plan, stage_key=lambda _: "bicubic", encoder_key="libx264"))

    count = benchmark.pedantic(chunks, rounds=7, warmup_rounds=1)
    benchmark.extra_info["case"] = f"its {count} chunks, digests included"
    assert benchmark.stats.stats.median < LIMIT_S


def linear_keyframes() -> tuple[Sequence[CropKeyframe], NDArray[np.float64]]:
    wandering = keyframes(2000, FRAMES / 30)
    return [CropKeyframe(each.time_s, each.rect) for each in wandering], np.arange(FRAMES) / 30


@pytest.mark.benchmark(group="deciding")
def test_keyframe_kernel(benchmark: Any) -> None:
    moving, times_s = linear_keyframes()
    benchmark.extra_info["case"] = f"{len(moving)} linear keyframes at {FRAMES} times, kernel"
    benchmark.pedantic(
        crop_rects, args=(moving, times_s, FULL_HD, 9 / 16), rounds=15, warmup_rounds=1
    )


@pytest.mark.benchmark(group="deciding")
def test_numpy_interp(benchmark: Any) -> None:
    """The peer, of the same signature: no easing, no cuts, and no keeping inside the frame."""
    moving, times_s = linear_keyframes()

    def interpolated() -> NDArray[np.float64]:
        key_times_s = np.array([float(each.time_s) for each in moving])
        sides = np.array([[each.rect.x, each.rect.y, each.rect.width, each.rect.height]
                          for each in moving], np.float64)  # fmt: skip
        return np.stack([np.interp(times_s, key_times_s, side) for side in sides.T], axis=1)

    benchmark.extra_info["case"] = f"{len(moving)} linear keyframes at {FRAMES} times, numpy.interp"
    rects = benchmark.pedantic(interpolated, rounds=15, warmup_rounds=1)
    assert np.allclose(rects, crop_rects(moving, times_s, FULL_HD, 9 / 16))
