"""Whole exports on the stand-in driver: the film is, sample for sample, what the engine made."""

from __future__ import annotations

from fractions import Fraction as F
from pathlib import Path

import av
import pytest
import xxhash

from engine.geometry import Rect, Size
from engine.gpu.streams import DeviceStreams
from engine.media.encoders import choose_encoder
from engine.media.frame_sink import HostFrameSink
from engine.pipeline.cache import StoreCache
from engine.pipeline.collection import ODD
from engine.pipeline.exporter import export, probe_sources
from engine.pipeline.report import Report
from engine.storage import LocalStore
from engine.timeline.edit import Clip, CropKeyframe, Edit, Transition
from engine.timeline.plan import Plan, build_plan
from engine.upscale.network_stage import NetworkStage
from engine.upscale.stage import PlainResampler, Stage
from tests.clips import numbered_clip
from tests.engine.gpu.test_resident import hashes, in_host_memory
from tests.engine.gpu.test_resident import on_device as in_tensors
from tests.engine.upscale.stages import PerClip
from tests.gpu_driver.conftest import Driver
from tests.gpu_driver.host_as_cuda import StandInCuda
from tests.gpu_driver.test_encoding import FPS, SIZE, written

PLAIN = PlainResampler("test")


def a_plan(folder: Path, *clips: Clip) -> Plan:
    dissolve = Transition("dissolve", 0.2)
    edit = Edit(clips, dissolve, FPS, SIZE, include_audio=False, key_interval_s=0.5)
    return build_plan(edit, probe_sources(edit, folder))


def exported(plan: Plan, film: Path, encoder: str, above: Stage = PLAIN) -> Report:
    chosen = choose_encoder(plan.size, plan.fps, name=encoder, key_interval_s=plan.key_interval_s)
    report = export(plan, film, encoder=chosen, upscaler=PerClip(above, PLAIN))
    assert not report.warnings
    return report


def assert_holds_what_was_hashed(film: Path, report: Report) -> None:
    """The frames that FFmpeg's CPU decoder finds in it are those that were given to NVENC."""
    with av.open(str(film)) as container:
        frames = [frame.to_ndarray() for frame in container.decode(video=0)]
    assert len(frames) == report.frames
    for chunk in report.chunks:
        shown = xxhash.xxh3_128()
        for frame in frames[chunk.start_frame : chunk.stop_frame]:
            shown.update(frame.data)
        assert shown.hexdigest() == chunk.frame_hash


def test_a_film_by_nvenc_holds_the_frames_of_one_by_libx264(tmp_path: Path, driver: Driver) -> None:
    for name, frames in (("a.mp4", 30), ("b.mp4", 40)):
        numbered_clip(tmp_path / name, frames, FPS)
    plan, film = a_plan(tmp_path, Clip("a.mp4"), Clip("b.mp4")), tmp_path / "film.mp4"
    by_x264 = exported(plan, film, "libx264")
    by_nvenc = exported(plan, film, "h264_nvenc")
    assert hashes(by_nvenc) == hashes(by_x264)
    assert len(driver.records("encoder")) == 1 + 3  # to choose it, and one for each chunk
    assert_holds_what_was_hashed(film, by_nvenc)


def test_chunks_that_another_driver_left_in_the_cache_are_rendered_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, frames in (("a.mp4", 30), ("b.mp4", 40), ("c.mp4", 20)):
        numbered_clip(tmp_path / name, frames, FPS)
    cache, films = StoreCache(LocalStore(tmp_path / "cache")), []
    for variant, last in (("0", "b.mp4"), ("3", "c.mp4")):
        monkeypatch.setenv("GPU_DRIVER_PARAMETER_SETS", variant)
        plan, film = a_plan(tmp_path, Clip("a.mp4"), Clip(last)), tmp_path / f"{variant}.mp4"
        encoder = choose_encoder(plan.size, plan.fps, name="h264_nvenc", key_interval_s=F(1, 2))
        films.append(export(plan, film, encoder=encoder, upscaler=PLAIN, cache=cache))
    of_a = films[0].chunks[0]
    assert films[1].chunks[0].digest == of_a.digest
    assert films[1].chunks[0].frame_hash == of_a.frame_hash
    assert films[1].warnings == (f"frames [0, {of_a.stop_frame}) are rendered again: {ODD}",)
    assert_holds_what_was_hashed(film, films[1])


def on_cuda(driver: Driver) -> NetworkStage:
    """The network computes on the CPU, and takes and leaves its pictures on the device."""
    made = in_tensors()
    made.frames_on = "cuda:0"
    made._streams = DeviceStreams(StandInCuda(driver.memory))
    return made


def test_frames_that_stay_on_the_device_are_those_of_host_memory(
    tmp_path: Path, driver: Driver
) -> None:
    """From NVDEC through the network and the blend to NVENC, each in its thread."""
    coded = choose_encoder(Size(162, 162), F(30), name="h264_nvenc")
    for name, frames in (("a.mp4", 9), ("b.mp4", 9)):
        written(tmp_path / name, range(frames), coded, HostFrameSink())
    pan = [CropKeyframe(0, Rect(10.3, 5, 81, 49)), CropKeyframe(0.3, Rect(60.8, 30.5, 81, 49))]
    plan, film = a_plan(tmp_path, Clip("a.mp4", pan), Clip("b.mp4", pan)), tmp_path / "film.mp4"
    copied = exported(plan, film, "h264_nvenc", in_host_memory())
    resident = exported(plan, film, "h264_nvenc", on_cuda(driver))
    assert hashes(resident) == hashes(copied)
    assert_holds_what_was_hashed(film, resident)
    decoded = "decoded by NVDEC, frames stay on cuda:0"
    encoded = "encoded on cuda:0, no copy"
    assert [chunk.route for chunk in resident.chunks] == [
        (f"clips[0]: {decoded}", encoded),
        (f"clips[0]: {decoded}", f"clips[1]: {decoded}", encoded),
        (f"clips[1]: {decoded}", encoded),
    ]
