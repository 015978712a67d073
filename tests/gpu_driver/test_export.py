"""A whole export with NVENC's own code: the film is, sample for sample, what the engine made."""

from __future__ import annotations

from fractions import Fraction as F
from pathlib import Path

import av
import xxhash

from engine.geometry import Size
from engine.media.encoders import choose_encoder
from engine.pipeline.exporter import export, probe_sources
from engine.pipeline.report import Report
from engine.timeline.edit import Clip, Edit, Transition
from engine.timeline.plan import Plan, build_plan
from tests.clips import numbered_clip
from tests.gpu_driver.conftest import Driver

SIZE, FPS = Size(162, 98), F(30000, 1001)


def a_plan(folder: Path, *names: str) -> Plan:
    edit = Edit(
        [Clip(name) for name in names],
        Transition("dissolve", 0.2),
        FPS,
        SIZE,
        include_audio=False,
        key_interval_s=0.5,
    )
    return build_plan(edit, probe_sources(edit, folder))


def exported(plan: Plan, folder: Path, name: str) -> Report:
    encoder = choose_encoder(plan.size, plan.fps, name=name, key_interval_s=plan.key_interval_s)
    return export(plan, folder / f"{name}.mp4", encoder=encoder)


def test_the_film_holds_the_frames_whose_hashes_are_reported(
    tmp_path: Path, driver: Driver
) -> None:
    for name, seed in (("a.mp4", 30), ("b.mp4", 40)):
        numbered_clip(tmp_path / name, seed, FPS)
    plan = a_plan(tmp_path, "a.mp4", "b.mp4")
    by_nvenc, by_x264 = (exported(plan, tmp_path, name) for name in ("h264_nvenc", "libx264"))
    assert by_nvenc.encoder == "h264_nvenc" and not by_nvenc.warnings
    hashes = [chunk.frame_hash for chunk in by_nvenc.chunks]
    assert len(hashes) == 3 and hashes == [chunk.frame_hash for chunk in by_x264.chunks]
    with av.open(str(tmp_path / "h264_nvenc.mp4")) as film:
        frames = [frame.to_ndarray() for frame in film.decode(video=0)]
    assert len(frames) == by_nvenc.frames
    for chunk in by_nvenc.chunks:
        shown = xxhash.xxh3_128()
        for frame in frames[chunk.start_frame : chunk.stop_frame]:
            shown.update(frame.data)
        assert shown.hexdigest() == chunk.frame_hash
    opened = driver.records("encoder")
    assert len(opened) == 1 + 3 and {each["fps"] for each in opened} == {"30000/1001"}
