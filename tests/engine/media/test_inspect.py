"""What is read back from a file, held against ffprobe; and files that fail each check."""

from __future__ import annotations

from dataclasses import replace
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
from av.video.reformatter import ColorPrimaries, ColorRange, Colorspace, ColorTrc

from engine.errors import JoinError, SourceError
from engine.geometry import Size
from engine.media.inspect import (
    FinishedFile,
    SoundTrack,
    check_film,
    check_presentation_times,
    inspect_file,
    read_proof,
)
from tests.clips import numbered_clip
from tests.media import needs_ffmpeg
from tests.witness import ffprobe, run, samples

FPS = Fraction(30000, 1001)
SIZE = Size(160, 96)
BT709 = {
    "colorspace": Colorspace.ITU709,
    "color_primaries": ColorPrimaries.BT709,
    "color_trc": ColorTrc.BT709,
    "color_range": ColorRange.MPEG,
}


@pytest.fixture(scope="module")
def film(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """40 frames with B-frames in GOPs of 12, tagged, with sound."""
    path = tmp_path_factory.mktemp("film") / "film.mp4"
    tags = {name: int(value) for name, value in BT709.items()}
    return numbered_clip(path, 40, FPS, sound="bursts", options={"bf": "2"}, tags=tags)


@needs_ffmpeg
def test_streams_and_packets_are_those_that_ffprobe_reads(film: Path) -> None:
    file = inspect_file(film)
    told = ffprobe(film, "-show_packets", "-select_streams", "v")
    (video,), (sound,) = file.videos, file.sounds
    assert video.pts.tolist() == [packet["pts"] for packet in told["packets"]]
    assert video.dts.tolist() == [packet["dts"] for packet in told["packets"]]
    assert video.is_keyframe.tolist() == ["K" in packet["flags"] for packet in told["packets"]]
    by_type = {stream["codec_type"]: stream for stream in ffprobe(film)["streams"]}
    stream = by_type["video"]
    assert video.time_base == Fraction(stream["time_base"])
    assert video.parameters.fps == Fraction(stream["avg_frame_rate"])
    assert str(video.parameters.size) == f"{stream['width']}x{stream['height']}"
    assert video.parameters.codec == "h264" == stream["codec_name"]
    assert video.parameters.pixel_format == stream["pix_fmt"]
    assert len(video.parameters.parameter_sets) == stream["extradata_size"]
    heard = by_type["audio"]
    assert sound.sample_rate_hz == int(heard["sample_rate"])
    assert sound.duration_s == heard["duration_ts"] * Fraction(heard["time_base"])
    assert sorted(video.frame_numbers(FPS)) == list(range(40))


def test_each_frame_takes_17_bytes(film: Path) -> None:
    (video,) = inspect_file(film).videos
    assert video.pts.nbytes + video.dts.nbytes + video.is_keyframe.nbytes == 40 * 17


@needs_ffmpeg
def test_a_proof_is_what_ffprobe_says(film: Path) -> None:
    proof = read_proof(film)
    told = ffprobe(film, "-count_packets")["streams"]
    video = next(stream for stream in told if stream["codec_type"] == "video")
    assert proof.frames == int(video["nb_read_packets"]) == 40
    assert (proof.size, proof.fps) == (SIZE, FPS)
    assert (proof.codec, proof.pixel_format) == (video["codec_name"], video["pix_fmt"])
    assert proof.colour == ("ITU709", "BT709", "BT709", "MPEG")
    assert {video[name] for name in ("color_space", "color_primaries", "color_transfer")} == {
        "bt709"
    }
    assert (proof.sample_rate_hz, video["color_range"]) == (48_000, "tv")
    assert proof.samples <= len(samples(film)) < proof.samples + 1024


@needs_ffmpeg
def test_a_file_without_sound_or_without_picture(film: Path, tmp_path: Path) -> None:
    silent, unseen = tmp_path / "silent.mp4", tmp_path / "unseen.m4a"
    run("ffmpeg", "-v", "error", "-i", film, "-an", "-c", "copy", silent)
    run("ffmpeg", "-v", "error", "-i", film, "-vn", "-c", "copy", unseen)
    proof = read_proof(silent)
    assert (proof.frames, proof.samples, proof.sample_rate_hz) == (40, 0, 0)
    assert inspect_file(unseen).videos == ()
    with pytest.raises(SourceError, match=r"unseen\.m4a: has no picture"):
        read_proof(unseen)


def checked(file: FinishedFile, *, sample_count: int = 64_064, frame_count: int = 40) -> None:
    check_film(
        file,
        Path("film.mp4"),
        frame_count=frame_count,
        sample_count=sample_count,
        fps=FPS,
        size=SIZE,
    )


def test_a_film_that_is_what_was_asked_for(film: Path) -> None:
    checked(inspect_file(film))


@pytest.mark.parametrize(
    ("fault", "harm"),
    [
        ("holds 40 frames where the plan has 40, each once", {"pts": lambda pts: pts[::-1] * 0}),
        ("its decoding times do not rise", {"dts": lambda dts: dts[::-1]}),
        ("its decoding times do not rise", {"dts": lambda dts: np.full_like(dts, 7)}),
    ],
)
def test_frames_shown_twice_or_decoded_out_of_order(
    fault: str, harm: dict[str, object], film: Path
) -> None:
    whole = inspect_file(film)
    ((name, change),) = harm.items()
    assert callable(change)
    harmed = replace(whole.videos[0], **{name: change(getattr(whole.videos[0], name))})
    with pytest.raises(JoinError, match=f"^film.mp4: {fault}; the file was not kept$"):
        checked(replace(whole, videos=(harmed,)))


def test_sound_of_another_length_or_more_tracks_than_one(film: Path) -> None:
    whole = inspect_file(film)
    with pytest.raises(JoinError, match="has a sound track that nobody asked for"):
        checked(whole, sample_count=0)
    for sounds in ((), (*whole.sounds, *whole.sounds)):
        with pytest.raises(JoinError, match="has no sound track"):
            checked(replace(whole, sounds=sounds))
    for samples_more, fits in ((1024, True), (1025, False), (-1024, True), (-1025, False)):
        sound = SoundTrack(Fraction(64_064 + samples_more, 48_000), 48_000)
        other = replace(whole, sounds=(sound,))
        if fits:
            checked(other)
        else:
            with pytest.raises(
                JoinError, match=r"its sound lasts 1\.3.. s, the plan says 1\.335 s"
            ):
                checked(other)


def test_a_film_of_another_size(film: Path) -> None:
    with pytest.raises(JoinError, match="is 160x96"):
        check_film(
            inspect_file(film),
            Path("film.mp4"),
            frame_count=40,
            sample_count=64_064,
            fps=FPS,
            size=Size(96, 160),
        )


def test_presentation_times(film: Path) -> None:
    file, name = inspect_file(film), Path("cut.mp4")
    times_s = [number / FPS for number in range(40)]
    tolerance_s = Fraction(1, 1000)
    check_presentation_times(file, name, times_s, tolerance_s)
    late = [*times_s[:20], times_s[20] + Fraction(1, 500), *times_s[21:]]
    for wanted_s in (times_s[:-1], [*times_s, Fraction(40) / FPS], late):
        with pytest.raises(
            JoinError, match=f"cut.mp4: holds 40 frames, and not the {len(wanted_s)}"
        ):
            check_presentation_times(file, name, wanted_s, tolerance_s)
