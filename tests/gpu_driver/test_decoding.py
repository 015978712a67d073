"""FFmpeg's NVDEC code on the stand-in driver: the CPU's samples, wherever a reader goes."""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest

from engine.cli.doctor_findings import Finding, findings
from engine.geometry import Size
from engine.gpu.checks import decoding_refusal
from engine.gpu.frames import DeviceFrame
from engine.media.encoders import choose_encoder
from engine.media.frame_sink import HostFrameSink
from engine.media.probe import probe
from engine.source import SourceInfo
from tests.clips import numbered_clip
from tests.engine.gpu.test_frames import host_planes, on_device, planes_of
from tests.gpu_driver.conftest import Driver
from tests.gpu_driver.test_encoding import FPS, SIZE, an_encoder, written

TALL = Size(162, 1080)
"""1088 lines are coded."""


def a_clip(folder: Path, frames: int, size: Size = SIZE) -> SourceInfo:
    """Of the stand-in's encoder, with B-frames: its decoder knows no other."""
    path = folder / f"{size}.mp4"
    encoder = an_encoder() if size == SIZE else choose_encoder(size, FPS, name="h264_nvenc")
    written(path, range(frames), encoder, HostFrameSink())
    return probe(path)


def assert_same_frames(info: SourceInfo, wanted: Sequence[int]) -> None:
    """Read from the device, all held until the last has come, they are those of the CPU."""
    of_cpu = host_planes(info, [])
    with on_device(info, "cuda:0", pytest.fail) as reader:
        frames = list(reader.surfaces(info.frame_pts[list(wanted)]))
        assert reader.device == "cuda:0"
    for number, frame in zip(wanted, frames, strict=True):
        assert isinstance(frame, DeviceFrame) and frame.pts == info.frame_pts[number]
        for made, plane in zip(planes_of(frame), of_cpu[number], strict=True):
            np.testing.assert_array_equal(made, plane)


def test_all_frames_held_with_reordering_and_jumps(tmp_path: Path, driver: Driver) -> None:
    info = a_clip(tmp_path, 60)
    assert_same_frames(info, range(60))
    assert_same_frames(info, [50, 3, 30, 31, 29, 59, 0])
    assert not driver.records("grey")


def test_lines_that_are_only_coded_are_not_shown(tmp_path: Path, driver: Driver) -> None:
    assert_same_frames(a_clip(tmp_path, 4, TALL), range(4))
    assert {decoder["height"] for decoder in driver.records("decoder")} == {"1088"}


def test_two_threads_read_at_once(tmp_path: Path) -> None:
    info = a_clip(tmp_path, 40)
    ways: list[Sequence[int]] = [range(40), [39, 5, 6, 20, 0]]
    with ThreadPoolExecutor(2) as threads:
        for done in [threads.submit(assert_same_frames, info, wanted) for wanted in ways]:
            done.result(60)


def test_the_check_takes_what_is_right_and_refuses_what_is_not(tmp_path: Path) -> None:
    assert decoding_refusal(a_clip(tmp_path, 3), "cuda:0", strict=False) is None
    other = probe(numbered_clip(tmp_path / "x264.mp4", 3))  # comes out grey
    refusal = decoding_refusal(other, "cuda:0", strict=False)
    assert refusal == "its first frame is not that of the CPU"


def test_the_doctor_sees_both(tmp_path: Path) -> None:
    found: dict[str, Finding] = {}
    for finding in findings(tmp_path):
        found[finding.what] = finding
        if finding.what == "NVDEC":
            break  # after it torch is asked, whose CUDA build needs a whole driver
    assert found["h264_nvenc"].works and found["hevc_nvenc"].works
    assert found["--encoder auto"].detail == "h264_nvenc (h264_nvenc opens)"
    assert found["NVDEC"].works
