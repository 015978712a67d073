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
from engine.errors import Cancelled, ChunkError
from engine.media.gops import copy_gops, gop_table
from engine.pipeline.concatenate import concatenate
from engine.pipeline.exporter import Listener, probe_sources
from engine.timing import FrameRange
from tests.clips import numbered_clip, read_number
from tests.media import needs_ffmpeg
from tests.witness import (
    check_key_frames_are_beginnings,
    complaints,
    ffprobe,
    key_frames,
    luma_frames,
    run,
    samples,
)

SIZE = Size(96, 96)


def encoder_of(
    size: Size = SIZE, *, key_interval_s: Fraction | None = None, **options: str
) -> Encoder:
    return choose_encoder(
        size,
        Fraction(30),
        name="libx264",
        options={"bf": "2", **options},
        key_interval_s=key_interval_s,
    )


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


@pytest.fixture(scope="module")
def often(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """Films of 50 and 30 frames in chunks of 20, with a key frame every 8 and every 12."""
    folder = tmp_path_factory.mktemp("often")
    return (
        exported(folder / "a.mp4", 50, encoder=encoder_of(key_interval_s=Fraction(8, 30))),
        exported(folder / "b.mp4", 30, encoder=encoder_of(key_interval_s=Fraction(12, 30))),
    )


@needs_ffmpeg
def test_films_of_any_intervals_are_copied(
    two: tuple[Path, Path], often: tuple[Path, Path], tmp_path: Path
) -> None:
    """`two` have one GOP per chunk, and what joins them would write a key frame every second."""
    out, films = tmp_path / "c.mp4", [*often, two[1]]
    encoder = encoder_of(key_interval_s=Fraction(1))
    report = concatenate(films, out, encoder=encoder, include_audio=False)
    assert not report.warnings and all(each.frame_hash is None for each in report.chunks)
    assert packets(out) == [packet for film in films for packet in packets(film)]
    assert not complaints(out)
    shown = luma_frames(out)
    assert [read_number(frame) for frame in shown] == [*range(50), *range(30), *range(30)]
    # 0, 8 and 16 of each chunk of a; 0 and 12 of those of b; the chunks alone of the last
    keys = [0, 8, 16, 20, 28, 36, 40, 48, 50, 62, 70, 80, 100]
    assert key_frames(out) == keys
    check_key_frames_are_beginnings(out, keys)


@needs_ffmpeg
def test_a_dissolve_spares_the_gops_it_does_not_touch(
    often: tuple[Path, Path], tmp_path: Path
) -> None:
    """Six frames: the last GOP of a, of 2 frames, the one before it, and the first of b."""
    out = tmp_path / "c.mp4"
    encoder = encoder_of(key_interval_s=Fraction(3, 30))
    joins = Transition("dissolve", 0.2)
    report = concatenate(often, out, transitions=joins, encoder=encoder, include_audio=False)
    copied = {
        frame
        for each in report.chunks
        if each.frame_hash is None
        for frame in range(each.start_frame, each.stop_frame)
    }
    assert copied == {*range(40), *range(44 + 12, 74)}
    assert packets(out)[:40] == packets(often[0])[:40]
    assert packets(out)[-18:] == packets(often[1])[-18:]
    numbers = [read_number(frame) for frame in luma_frames(out)]
    assert numbers[:44] == list(range(44)) and numbers[50:] == list(range(6, 30))
    assert not complaints(out)
    # those of a; every 3 frames of what is rendered: 40-44, the dissolve, 50-56; those of b
    assert key_frames(out) == [0, 8, 16, 20, 28, 36, 40, 43, 44, 47, 50, 53, 56, 64]


def test_copies_are_found_again_by_a_run_that_goes_on(
    often: tuple[Path, Path], tmp_path: Path
) -> None:
    out, parts = tmp_path / "c.mp4", tmp_path / "c.mp4.parts"

    def stop_in_the_middle() -> bool:
        return len(list(parts.glob("*.json"))) > 2

    with pytest.raises(Cancelled):
        concatenate(
            often,
            out,
            encoder=encoder_of(),
            include_audio=False,
            listener=Listener(should_stop=stop_in_the_middle),
        )
    finished = len(list(parts.glob("*.json")))
    report = concatenate(often, out, encoder=encoder_of(), include_audio=False)
    assert 0 < finished == sum(each.resumed for each in report.chunks) < len(report.chunks)
    assert packets(out) == [*packets(often[0]), *packets(often[1])]


@needs_ffmpeg
def test_short_gops_are_copied_together(tmp_path: Path) -> None:
    """A film of key frames only: 15 frames, half a second, are enough for a file."""
    clip = numbered_clip(tmp_path / "a.mp4", 40, size=(96, 96), gop=1)
    out = tmp_path / "c.mp4"
    report = concatenate([clip, clip], out, include_audio=False)
    assert [(each.start_frame, each.stop_frame) for each in report.chunks] == [
        (0, 15), (15, 30), (30, 40), (40, 55), (55, 70), (70, 80),
    ]  # fmt: skip
    assert packets(out) == packets(clip) * 2
    assert key_frames(out) == list(range(80))


@needs_ffmpeg
def test_a_gop_longer_than_a_chunk_is_copied(tmp_path: Path) -> None:
    """250 frames are what libx264 writes for everybody else."""
    clip = numbered_clip(tmp_path / "a.mp4", 260, size=(96, 96), gop=250)
    out = tmp_path / "c.mp4"
    report = concatenate([clip, clip], out, include_audio=False)
    assert not report.warnings
    assert packets(out) == packets(clip) * 2
    assert key_frames(out) == [0, 250, 260, 510]


@needs_ffmpeg
@pytest.mark.parametrize("suffix", [".mp4", ".mkv"])
def test_a_film_whose_first_frame_is_not_at_0_is_copied(suffix: str, tmp_path: Path) -> None:
    times_s = [Fraction(number + 2, 30) for number in range(30)]
    no_edit_list = {"use_editlist": "0"} if suffix == ".mp4" else None
    clip = numbered_clip(
        tmp_path / f"a{suffix}", 30, size=(96, 96), pts=times_s, container_options=no_edit_list
    )
    out = tmp_path / "c.mp4"
    report = concatenate([clip, clip], out, include_audio=False)
    assert not report.warnings
    assert [read_number(frame) for frame in luma_frames(out)] == [*range(30), *range(30)]
    assert packets(out) == packets(clip) * 2


@needs_ffmpeg
def test_a_film_with_frames_that_are_never_shown_is_encoded_again(tmp_path: Path) -> None:
    """An edit list that begins at frame 15 of a GOP of 12."""
    whole = numbered_clip(tmp_path / "a.mp4", 40, size=(96, 96), options={"bf": "0"})
    clip, out = tmp_path / "b.mp4", tmp_path / "c.mp4"
    run("ffmpeg", "-v", "error", "-ss", "0.5", "-i", whole, "-c", "copy", clip)
    report = concatenate([clip, clip], out, encoder=encoder_of(), include_audio=False)
    assert "some of its frames are never shown" in report.warnings[0]
    assert [read_number(frame) for frame in luma_frames(out)] == [*range(15, 40)] * 2
