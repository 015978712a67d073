"""Whole exports whose frames stay on a device: the same frames as by way of host memory.

The device is the CPU: everything runs as on CUDA, but NVDEC, NVENC and streams.
"""

from __future__ import annotations

from fractions import Fraction as F
from pathlib import Path

import pytest
from av.video.reformatter import ColorRange, Colorspace

from engine.geometry import Rect, Size
from engine.media.encoders import choose_encoder
from engine.pipeline.exporter import export, probe_sources
from engine.pipeline.report import Report
from engine.timeline.edit import Clip, CropKeyframe, Edit, SpeedSegment, Transition
from engine.timeline.plan import Plan, build_plan
from engine.upscale.network_stage import NetworkStage
from engine.upscale.stage import PlainResampler, Stage
from tests.clips import numbered_clip
from tests.engine.media.test_video_reader import damaged_h264
from tests.engine.upscale.stages import PerClip
from tests.engine.upscale.test_stage import TINY, seeded, stage
from tests.media import needs_ffmpeg

NETWORK = seeded(TINY)
TARGET = Size(54, 96)


def on_device() -> NetworkStage:
    return stage(NETWORK, 3, on_device=True)


def in_host_memory() -> NetworkStage:
    """Frames in host memory, and rectangles by torch, as where CUDA has neither NVDEC nor NVENC."""
    made = on_device()
    made.frames_on = None
    return made


def a_reel(folder: Path, size: tuple[int, int] = (160, 96), target: Size = TARGET) -> Plan:
    """BT.709, full range in BT.601 and tilted, and a phone's clip; two dissolves, a fade, slow
    motion."""
    full = {"colorspace": Colorspace.ITU601, "color_range": ColorRange.JPEG}
    numbered_clip(folder / "a.mp4", 12, size=size)
    numbered_clip(folder / "b.mp4", 12, size=size, pix_fmt="yuvj420p", tags=full)
    numbered_clip(folder / "c.mov", 12, size=size, codec="mjpeg", pix_fmt="yuvj422p")
    pan = [CropKeyframe(0, Rect(10.3, 5, 40, 71)), CropKeyframe(1, Rect(90.8, 3.5, 40, 71))]
    wide = [CropKeyframe(0, Rect(0, 0, 150, 90))]
    edit = Edit(
        [
            Clip("a.mp4", pan, speed_segments=[SpeedSegment(F(1, 10), F(1, 5), F(1, 3))]),
            Clip("b.mp4", pan, rotation_deg=-7),
            Clip("c.mov", pan),
            Clip("a.mp4", wide),
        ],
        [Transition("dissolve", 0.1), Transition("fade", 0.1), Transition("dissolve", 0.1)],
        target_size=target,
        include_audio=False,
    )
    return build_plan(edit, probe_sources(edit, folder))


def exported(plan: Plan, folder: Path, above: Stage, below: Stage) -> Report:
    encoder = choose_encoder(plan.size, plan.fps, name="libx264")
    return export(plan, folder / "out.mp4", upscaler=PerClip(above, below), encoder=encoder)


def hashes(report: Report) -> list[str | None]:
    return [chunk.frame_hash for chunk in report.chunks]


@needs_ffmpeg
def test_frames_that_stay_there_are_those_that_are_copied(tmp_path: Path) -> None:
    plan = a_reel(tmp_path)
    there, plain = on_device(), PlainResampler("test")
    resident = exported(plan, tmp_path, there, plain)
    copied = exported(plan, tmp_path, in_host_memory(), plain)
    assert hashes(resident) == hashes(copied)
    assert not resident.warnings and not copied.warnings
    assert all(chunk.route == () for chunk in copied.chunks)
    encoded = "encoded on cpu, no copy"
    stays = "decoded by the CPU, frames stay on cpu"
    other = "decoded on the CPU (yuvj422p source), one upload per frame"
    routes = [chunk.route for chunk in resident.chunks]
    assert routes[0] == (f"clips[0]: {stays}", encoded)
    assert routes[1] == (f"clips[0]: {stays}", f"clips[1]: {stays}", encoded)
    assert (f"clips[2]: {other}", encoded) in routes  # a dissolve with a plain clip, too
    assert routes[-1] == ()  # the last clip is not enlarged by a network


@needs_ffmpeg
def test_damage_on_the_way_leaves_the_clip_to_the_cpu(tmp_path: Path) -> None:
    damaged_h264(tmp_path / "a.mp4")
    edit = Edit(
        [Clip("a.mp4", [CropKeyframe(0, Rect(10, 5, 27, 48))], trim_start_s=1, trim_stop_s=1.5)],
        target_size=TARGET,
        include_audio=False,
    )
    plan = build_plan(edit, probe_sources(edit, tmp_path))
    resident, copied = (
        exported(plan, tmp_path, each, each) for each in (on_device(), in_host_memory())
    )
    assert hashes(resident) == hashes(copied)
    left, *others = resident.warnings
    _, _, stopped = left.partition("a.mp4: ")
    stopped, _, then = stopped.partition("; ")
    assert stopped.startswith("decoding by the CPU stopped: ")
    assert then == "decoded on the CPU from here on"
    assert others == list(copied.warnings)
    assert resident.chunks[0].route[0] == (
        f"clips[0]: decoded on the CPU ({stopped}), one upload per frame"
    )


@needs_ffmpeg
def test_what_a_check_refuses_is_copied_and_the_report_says_why(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    numbered_clip(tmp_path / "a.mp4", 4)
    edit = Edit([Clip("a.mp4")], target_size=TARGET, include_audio=False)
    plan, there = build_plan(edit, probe_sources(edit, tmp_path)), on_device()
    monkeypatch.setattr("engine.gpu.checks._same", lambda *_: False)
    monkeypatch.setattr("engine.gpu.checks.encoding_refusal", lambda *_: "it refuses")
    report = exported(plan, tmp_path, there, there)
    assert report.chunks[0].route == (
        "clips[0]: decoded on the CPU (its first frame is not that of the CPU), one upload per "
        "frame",
        "encoded from host memory (it refuses), one download per frame",
    )
