"""Finished files end to end: what is copied, what is encoded again, and that nothing else changes.

The clips are the engine's own exports of painted footage; ffmpeg and the packets are the witnesses.
"""

from __future__ import annotations

from fractions import Fraction
from itertools import pairwise
from pathlib import Path

import av
import numpy as np
import pytest

from engine import Clip, Edit, Encoder, Size, Transition, build_plan, choose_encoder, export
from engine.errors import ChunkError
from engine.media.gops import copy_gops, gop_table
from engine.pipeline.concatenate import concatenate
from engine.pipeline.exporter import probe_sources
from engine.timing import FrameRange
from tests.clips import numbered_clip, read_number
from tests.media import needs_ffmpeg
from tests.witness import complaints, ffprobe, luma_frames, samples

SIZE = Size(96, 96)


def encoder_of(size: Size = SIZE, **options: str) -> Encoder:
    return choose_encoder(size, Fraction(30), name="libx264", options={"bf": "2", **options})


def exported(path: Path, frames: int, *, gop: int = 20, encoder: Encoder | None = None) -> Path:
    """Painted footage exported by the engine, in clips that make a GOP border every `gop`."""
    source = numbered_clip(path.with_suffix(".mov"), frames, size=(96, 96), sound="bursts")
    starts = range(0, frames, gop)
    clips = [
        Clip(source, trim_start_s=start / 30, trim_stop_s=min(start + gop, frames) / 30)
        for start in starts
    ]
    edit = Edit(clips, target_size=encoder.size if encoder else SIZE)
    plan = build_plan(edit, probe_sources(edit))
    export(plan, path, encoder=encoder or encoder_of())
    return path


def packets(path: Path) -> list[bytes]:
    with av.open(str(path)) as container:
        return [bytes(p) for p in container.demux(container.streams.video[0]) if p.size]


@pytest.fixture(scope="module")
def two(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    folder = tmp_path_factory.mktemp("clips")
    return exported(folder / "a.mp4", 50), exported(folder / "b.mp4", 30)


def test_the_gops_of_an_export(two: tuple[Path, Path], tmp_path: Path) -> None:
    table = gop_table(two[0])
    assert table.gops == (FrameRange(0, 20), FrameRange(20, 40), FrameRange(40, 50))
    assert (table.parameters.size, table.parameters.fps) == (SIZE, Fraction(30))
    wanted = {FrameRange(20, 40): tmp_path / "gop.mp4"}
    assert list(copy_gops(two[0], wanted)) == [FrameRange(20, 40)]
    assert packets(tmp_path / "gop.mp4") == packets(two[0])[20:40]
    with pytest.raises(ChunkError, match="not at a constant rate"):
        gop_table(numbered_clip(tmp_path / "vfr.mp4", 6, pts=[0, 0.1, 0.15, 0.3, 0.33, 0.5]))


@needs_ffmpeg
def test_cuts_copy_every_packet(two: tuple[Path, Path], tmp_path: Path) -> None:
    report = concatenate(two, tmp_path / "c.mp4", titles=["first", None], encoder=encoder_of())
    assert packets(tmp_path / "c.mp4") == [*packets(two[0]), *packets(two[1])]
    assert set(report.stage_s) == {"copy", "sound", "join"}
    chapters = [each["tags"]["title"] for each in ffprobe(tmp_path / "c.mp4")["chapters"]]
    assert chapters == ["first", "b"]
    assert not complaints(tmp_path / "c.mp4")


@needs_ffmpeg
def test_a_dissolve_encodes_only_the_gops_it_touches(
    two: tuple[Path, Path], tmp_path: Path
) -> None:
    out = tmp_path / "c.mp4"
    report = concatenate(two, out, transitions=Transition("dissolve", 0.2), encoder=encoder_of())
    shown = luma_frames(out)
    assert len(shown) == 50 + 30 - 6
    numbers = [read_number(frame) for frame in shown]
    assert numbers[:44] == list(range(44))
    assert numbers[50:] == list(range(6, 30))
    copied = [
        (each.start_frame, each.stop_frame) for each in report.chunks if each.frame_hash is None
    ]
    assert copied == [(0, 20), (20, 40), (64, 74)]
    assert packets(out)[:40] == packets(two[0])[:40]
    assert packets(out)[-10:] == packets(two[1])[-10:]
    assert not complaints(out)
    dts = [p.dts for p in _demuxed(out)]
    assert all(a < b for a, b in pairwise(dts))  # type: ignore[operator]
    assert abs(len(samples(out)) - 74 * 1600) <= 1024


def _demuxed(path: Path) -> list[av.Packet[av.VideoStream]]:
    with av.open(str(path)) as container:
        return [p for p in container.demux(container.streams.video[0]) if p.size]


@needs_ffmpeg
def test_a_fade_leaves_the_rest_as_it_was(two: tuple[Path, Path], tmp_path: Path) -> None:
    out = tmp_path / "c.mp4"
    concatenate(two, out, transitions=Transition("fade", 0.1), encoder=encoder_of())
    shown = luma_frames(out)
    assert len(shown) == 80
    assert np.max(shown[50]) < 150 < np.max(shown[46])
    assert packets(out)[:40] == packets(two[0])[:40]


def test_what_does_not_fit_is_encoded_again_and_told(
    two: tuple[Path, Path], tmp_path: Path
) -> None:
    other = exported(tmp_path / "small.mp4", 20, encoder=encoder_of(Size(64, 64)))
    foreign = numbered_clip(tmp_path / "foreign.mov", 10, size=(96, 96), codec="mpeg4")
    report = concatenate(
        [two[1], other, foreign], tmp_path / "c.mp4", encoder=encoder_of(), include_audio=False
    )
    told = " | ".join(report.warnings)
    assert "clips[1]" in told and "64x64" in told and "clips[2]" in told and "mpeg4" in told
    assert packets(tmp_path / "c.mp4")[:30] == packets(two[1])
    assert report.frames == 60


def test_clips_of_another_encoder_are_copied_at_cuts_only(
    two: tuple[Path, Path], tmp_path: Path
) -> None:
    cut = concatenate(two, tmp_path / "cut.mp4", encoder=encoder_of(bf="0", refs="1"))
    assert not cut.warnings
    assert packets(tmp_path / "cut.mp4") == [*packets(two[0]), *packets(two[1])]
    dissolved = concatenate(
        two,
        tmp_path / "dissolved.mp4",
        transitions=Transition("dissolve", 0.2),
        encoder=encoder_of(bf="0", refs="1"),
    )
    assert len(dissolved.warnings) == 2 and "libx264 writes" in dissolved.warnings[0]


@needs_ffmpeg
def test_the_first_clip_that_an_export_can_be_like_gives_size_and_rate(
    two: tuple[Path, Path], tmp_path: Path
) -> None:
    odd = numbered_clip(tmp_path / "odd.mov", 6, size=(161, 97), codec="mpeg4")
    fast = numbered_clip(tmp_path / "fast.mp4", 6, fps=300)
    out = tmp_path / "c.mp4"
    report = concatenate(
        [odd, fast, two[1]],
        out,
        encoder=lambda size, fps: choose_encoder(size, fps, name="libx264", options={"bf": "2"}),
    )
    shown = luma_frames(out)
    assert shown.shape[1:] == (96, 96) and len(shown) == report.frames == 6 + 1 + 30
    assert [read_number(luma) for luma in shown[7:]] == list(range(30))


def test_a_clip_in_the_user_s_folder_is_copied_too(
    two: tuple[Path, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HOME", str(two[0].parent))
    report = concatenate([f"~/{two[0].name}"], tmp_path / "c.mp4", encoder=encoder_of())
    assert not report.warnings
    assert packets(tmp_path / "c.mp4") == packets(two[0])
