from __future__ import annotations

import json
import re
import shutil
import subprocess
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest

from engine.errors import DecodeError, SourceError
from engine.geometry import Size
from engine.media.fingerprint import fingerprint, fingerprint_of
from engine.media.probe import probe
from engine.media.video_reader import FrameReader
from engine.source import Colour, Matrix, Transfer
from tests.clips import numbered_clip
from tests.media import needs_ffmpeg, real_media

BT601, BT709, BT2020 = Matrix.BT601, Matrix.BT709, Matrix.BT2020
SDR, HLG, PQ = Transfer.SDR, Transfer.HLG, Transfer.PQ

REAL = {  # shown size, clockwise turn; colour; when the sound starts
    "ball_juggle_720p24_noaudio_one_keyframe.mp4": (
        (Size(1280, 720), 0), Colour(BT709, False, SDR, False), None,
    ),
    "iphone_portrait_hevc10_hlg_vfr_editlist.mp4": (
        (Size(1080, 1920), 90), Colour(BT2020, False, HLG, False), 0,
    ),
    "iphone_portrait_h264_rot90_mono44k.mov": (
        (Size(320, 568), 90), Colour(BT709, False, SDR, False), 0,
    ),
    "traffic_cam_720p_vfr_longgop_noaudio.mp4": (
        (Size(1280, 720), 0), Colour(BT709, False, SDR, False), None,
    ),
    "phone_portrait_av1_10bit_hdr10_pq_audio.mp4": (
        (Size(720, 1280), 0), Colour(BT2020, False, PQ, False), 0.021,
    ),
    "screenrec_macos_60fps_preroll_noaudio.mov": (
        (Size(1070, 700), 0), Colour(BT709, False, SDR, False), None,
    ),
    "camcorder_1080i50_h264_ac3.mts": (
        (Size(1920, 1080), 0), Colour(BT709, False, SDR, True), 0,
    ),
    "animation_720p25_aac_5_1.mp4": (
        (Size(1280, 720), 0), Colour(BT709, False, SDR, True), 0,
    ),
    "bear_vp9_161x121_odd_size.webm": (
        (Size(161, 121), 0), Colour(BT601, False, SDR, True), None,
    ),
    "park_starts_at_8s_h264_aac.mp4": (  # 200 wide at SAR 224:225
        (Size(199, 112), 0), Colour(BT601, False, SDR, True), -0.067,
    ),
    "kodak_mjpeg_422_fullrange_pcm22k.avi": (
        (Size(320, 240), 0), Colour(BT601, True, SDR, False), 0,
    ),
    "testcard_h264_damaged_mid_stream.mp4": (
        (Size(1280, 720), 0), Colour(BT709, False, SDR, True), None,
    ),
    "talking_head_720p_3_chapters.mp4": (
        (Size(1080, 720), 0), Colour(BT709, False, SDR, False), 0,
    ),
    "gopro_fullrange_gpmf_tracks_480p.mp4": (
        (Size(848, 480), 0), Colour(BT709, True, SDR, False), 0,
    ),
}  # fmt: skip


def ffprobe(path: Path, *arguments: str) -> dict[str, Any]:
    command = ["ffprobe", "-v", "error", "-of", "json", *arguments, str(path)]
    return dict(json.loads(subprocess.run(command, capture_output=True, check=True).stdout))


def shown_by_ffprobe(path: Path) -> list[int]:
    said = ffprobe(path, "-select_streams", "v:0", "-show_entries", "frame=best_effort_timestamp")
    return [int(frame["best_effort_timestamp"]) for frame in said["frames"]]


@pytest.mark.parametrize("name", REAL)
def test_a_real_file_is_what_its_description_says(name: str) -> None:
    info = probe(real_media(name))
    (size, turn), colour, sound_start_s = REAL[name]
    assert (info.display_size, info.rotation_deg, info.colour) == (size, turn, colour)
    assert info.interlaced == (name == "camcorder_1080i50_h264_ac3.mts")
    if sound_start_s is None:
        assert info.sound is None
    else:
        assert info.sound
        assert float(info.sound.start_s) == pytest.approx(sound_start_s, abs=0.001)


@needs_ffmpeg
@pytest.mark.parametrize("name", REAL)
def test_facts_of_a_real_file_agree_with_ffprobe(name: str) -> None:
    path = real_media(name)
    info = probe(path)
    streams = ffprobe(path, "-show_streams")["streams"]
    video = next(stream for stream in streams if stream["codec_type"] == "video")
    assert info.codec == video["codec_name"]
    assert info.pixel_format == video["pix_fmt"]
    assert info.coded_size == Size(video["width"], video["height"])
    assert info.time_base == Fraction(video["time_base"])
    sounds = [stream for stream in streams if stream["codec_type"] == "audio"]
    if info.sound:
        assert info.sound.stream_index == sounds[0]["index"]
        assert info.sound.codec == sounds[0]["codec_name"]
        assert info.sound.sample_rate_hz == int(sounds[0]["sample_rate"])
        assert info.sound.channels == sounds[0]["channels"]
    else:
        assert not sounds


@needs_ffmpeg
@pytest.mark.parametrize("name", sorted(REAL.keys() - {"testcard_h264_damaged_mid_stream.mp4"}))
def test_every_frame_ffprobe_decodes_is_listed_and_no_other(name: str) -> None:
    path = real_media(name)
    assert probe(path).frame_pts.tolist() == shown_by_ffprobe(path)


def test_a_frame_that_is_damaged_is_listed_all_the_same() -> None:
    info = probe(real_media("testcard_h264_damaged_mid_stream.mp4"))
    assert len(info.frame_pts) == 50
    assert info.duration_s == 5


@pytest.mark.parametrize("suffix", [".mp4", ".mov", ".mkv", ".ts"])
def test_constant_rate_in_every_container(tmp_path: Path, suffix: str) -> None:
    info = probe(numbered_clip(tmp_path / f"clip{suffix}", 40, Fraction(25), sound="bursts"))
    assert len(info.frame_pts) == 40
    assert [info.time_of(pts) for pts in info.frame_pts] == [Fraction(n, 25) for n in range(40)]
    assert info.duration_s == Fraction(8, 5)
    assert info.sound
    assert abs(info.sound.start_s) < Fraction(1, 40)


def test_variable_rate_keeps_its_times(tmp_path: Path) -> None:
    times = [0, 0.04, 0.12, 0.16, 0.5]
    info = probe(numbered_clip(tmp_path / "vfr.mp4", 5, pts=times, options={"bf": "0"}))
    assert [float(info.time_of(pts)) for pts in info.frame_pts] == pytest.approx(times)
    assert float(info.duration_s) == pytest.approx(0.5 + 0.34)  # the last step is held


@pytest.mark.parametrize("start_s", [8.0, -0.48])
def test_time_starts_at_the_first_frame(tmp_path: Path, start_s: float) -> None:
    """A negative start in Matroska leaves frames without timestamps."""
    times = [start_s + n / 25 for n in range(30)]
    muxer = {"avoid_negative_ts": "disabled"}
    clip = numbered_clip(tmp_path / "clip.mkv", 30, pts=times, container_options=muxer)
    info = probe(clip)
    assert info.known_by_order == (start_s < 0)
    assert [info.time_of(pts) for pts in info.frame_pts] == [Fraction(n, 25) for n in range(30)]


def test_one_frame_lasts_as_long_as_its_container_says(tmp_path: Path) -> None:
    info = probe(numbered_clip(tmp_path / "one.mp4", 1, Fraction(25)))
    assert len(info.frame_pts) == 1
    assert info.duration_s == Fraction(1, 25)


def test_frames_before_an_edit_list_are_not_shown(tmp_path: Path) -> None:
    clip = numbered_clip(tmp_path / "clip.mp4", 50, Fraction(25), gop=50)
    cut = tmp_path / "cut.mov"
    command = ["ffmpeg", "-v", "error", "-ss", "0.4", "-i", str(clip), "-c", "copy", str(cut)]
    if not shutil.which("ffmpeg"):
        pytest.skip("the ffmpeg program makes the edit list here, and is not installed")
    subprocess.run(command, check=True)
    info = probe(cut)
    assert len(info.frame_pts) == 40
    assert info.frame_pts.tolist() == shown_by_ffprobe(cut)
    assert not len(info.keyframe_pts)  # its only key frame is not shown


def test_key_frames_are_listed_where_seeking_is_safe(tmp_path: Path) -> None:
    for suffix, keys in ((".mp4", 4), (".mkv", 4), (".ts", 4), (".flv", 4)):
        info = probe(numbered_clip(tmp_path / f"clip{suffix}", 40, Fraction(25), gop=10))
        assert len(info.keyframe_pts) == keys, suffix
        assert np.isin(info.keyframe_pts, info.frame_pts).all()
        assert (info.keyframe_bytes is not None) == (suffix in (".ts", ".flv"))


def test_avi_puts_h264_frames_in_the_wrong_order_and_they_are_sorted(tmp_path: Path) -> None:
    info = probe(numbered_clip(tmp_path / "clip.avi", 30, Fraction(25)))
    assert info.known_by_order
    assert not len(info.keyframe_pts)
    assert [info.time_of(pts) for pts in info.frame_pts] == [Fraction(n, 25) for n in range(30)]


@pytest.mark.parametrize(
    ("size", "colorspace", "color_range", "expected"),
    [
        ((160, 96), 2, 0, Colour(BT601, False, SDR, True)),
        ((1280, 16), 2, 0, Colour(BT709, False, SDR, True)),
        ((16, 578), 2, 0, Colour(BT709, False, SDR, True)),
        ((16, 576), 2, 0, Colour(BT601, False, SDR, True)),
        ((160, 96), 1, 1, Colour(BT709, False, SDR, False)),
        ((1280, 16), 5, 2, Colour(BT601, True, SDR, False)),
        ((160, 96), 6, 1, Colour(BT601, False, SDR, False)),
        ((160, 96), 9, 1, Colour(BT2020, False, SDR, False)),
    ],
)
def test_colour_follows_the_tags_else_the_size(
    tmp_path: Path, size: tuple[int, int], colorspace: int, color_range: int, expected: Colour
) -> None:
    tags = {"colorspace": colorspace, "color_range": color_range}
    assert probe(numbered_clip(tmp_path / "clip.mp4", 1, size=size, tags=tags)).colour == expected


def test_rgb_is_promised_as_limited_bt709(tmp_path: Path) -> None:
    info = probe(numbered_clip(tmp_path / "rgb.mkv", 1, codec="ffv1", pix_fmt="bgr0"))
    assert info.colour == Colour(BT709, False, SDR, False)


@needs_ffmpeg
@pytest.mark.parametrize(
    ("rotate", "clockwise", "size"),
    [
        ("90", 270, Size(96, 160)),
        ("180", 180, Size(160, 96)),
        ("-90", 90, Size(96, 160)),
        ("0", 0, Size(160, 96)),
    ],
)
def test_rotation_is_clockwise(tmp_path: Path, rotate: str, clockwise: int, size: Size) -> None:
    clip = numbered_clip(tmp_path / "clip.mp4", 2)
    turned = tmp_path / "turned.mp4"
    with av.open(str(clip)) as source, av.open(str(turned), "w") as target:
        stream = target.add_stream_from_template(source.streams.video[0])
        stream.set_display_rotation(float(rotate))
        for packet in source.demux(source.streams.video[0]):
            if packet.dts is not None:
                packet.stream = stream
                target.mux(packet)
    info = probe(turned)
    assert (info.rotation_deg, info.display_size) == (clockwise, size)
    shown = subprocess.run(  # ffmpeg turns pictures upright on its own
        ["ffmpeg", "-v", "error", "-i", str(turned), "-frames:v", "1", "-f", "rawvideo", "-"],
        capture_output=True,
        check=True,
    ).stdout
    with av.open(str(clip)) as container:
        plane = next(container.decode(video=0)).planes[0]
        luma = np.frombuffer(memoryview(plane), np.uint8).reshape(plane.height, -1)[:, :160]
    upright = np.rot90(luma, -clockwise // 90)
    assert np.frombuffer(shown, np.uint8)[: luma.size].tobytes() == upright.tobytes()


def test_interlaced_is_told(tmp_path: Path) -> None:
    interlaced = {"flags": "+ildct+ilme", "x264-params": "tff=1"}
    assert probe(numbered_clip(tmp_path / "i.mp4", 4, options=interlaced)).interlaced
    assert not probe(numbered_clip(tmp_path / "p.mp4", 4)).interlaced


def test_a_file_cut_short_keeps_its_promised_length(tmp_path: Path) -> None:
    whole = numbered_clip(
        tmp_path / "clip.mp4", 60, 30, gop=5, container_options={"movflags": "faststart"}
    )
    data = whole.read_bytes()
    whole.write_bytes(data[: len(data) * 2 // 3])
    info = probe(whole)
    assert len(info.frame_pts) == pytest.approx(60, abs=1)
    assert info.duration_s == 2


def write_sound(path: Path, codec: str) -> None:
    with av.open(str(path), "w") as container:
        stream = container.add_stream(codec, rate=48_000)
        assert isinstance(stream, av.AudioStream)
        frame = av.AudioFrame.from_ndarray(np.zeros((1, 4096), np.int16), "s16", "mono")
        frame.sample_rate = 48_000
        container.mux([*stream.encode(frame), *stream.encode(None)])


def write_cover_art(path: Path) -> None:
    picture = path.with_suffix(".jpg")
    numbered_clip(path.with_suffix(".avi"), 1, codec="mjpeg", pix_fmt="yuvj420p")
    write_sound(sound := path.with_suffix(".wav"), "pcm_s16le")
    make = ["ffmpeg", "-v", "error", "-i"]
    subprocess.run([*make, str(path.with_suffix(".avi")), str(picture)], check=True)
    both = [*make, str(sound), "-i", str(picture), "-map", "0", "-map", "1", "-c:v", "copy"]
    subprocess.run([*both, "-disposition:v", "attached_pic", str(path)], check=True)


BAD_FILES: dict[str, tuple[bytes | None, str]] = {
    "missing.mp4": (None, "does not exist"),
    "empty.mp4": (b"", "is empty"),
    "text.mp4": (b"It was a dark and stormy night.\n" * 99, "not a video file"),
    "noise.mkv": (np.random.default_rng(1).bytes(100_000), "not a video file"),
    "playlist.mp4": (b"#EXTM3U\n#EXT-X-TARGETDURATION:9\n#EXTINF:9,\nx.ts\n", "not a video file"),
    "list.mp4": (b"ffconcat version 1.0\nfile other.mp4\n", "not a video file"),
}


@pytest.mark.parametrize("name", BAD_FILES)
def test_what_is_no_video_file_is_named_in_one_line(tmp_path: Path, name: str) -> None:
    data, reason = BAD_FILES[name]
    path = tmp_path / name
    if data is not None:
        path.write_bytes(data)
    with pytest.raises(SourceError, match=reason) as caught:
        probe(path)
    assert str(caught.value).startswith(f"{path}: ")
    assert "\n" not in str(caught.value)


def test_other_paths_that_are_no_video(tmp_path: Path) -> None:
    with pytest.raises(SourceError, match="is a folder"):
        probe(tmp_path)
    clip = numbered_clip(tmp_path / "clip.mp4", 20)
    data = clip.read_bytes()
    clip.write_bytes(data[: data.index(b"moov")])
    with pytest.raises(SourceError, match="moov"):
        probe(clip)
    write_sound(tmp_path / "sound.m4a", "aac")
    with pytest.raises(SourceError, match="has no video stream"):
        probe(tmp_path / "sound.m4a")


@needs_ffmpeg
def test_cover_art_is_no_video(tmp_path: Path) -> None:
    write_cover_art(tmp_path / "song.mp3")
    with pytest.raises(SourceError, match="has no video stream"):
        probe(tmp_path / "song.mp3")


def test_video_without_a_single_frame(tmp_path: Path) -> None:
    clip = numbered_clip(tmp_path / "clip.mkv", 3, codec="ffv1")
    with av.open(str(clip)) as container:
        packets = [bytes(packet) for packet in container.demux(video=0) if packet.size]
    data = clip.read_bytes()
    for packet in packets:
        data = data.replace(packet, bytes(len(packet)))
    clip.write_bytes(data)
    with pytest.raises(SourceError, match="no video frame"):
        probe(clip)


def test_a_name_may_hold_a_colon(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    numbered_clip(tmp_path / "clip.mp4", 2).rename(tmp_path / "a:b 100%d.mp4")
    monkeypatch.chdir(tmp_path)
    assert len(probe(Path("a:b 100%d.mp4")).frame_pts) == 2


def test_fingerprint_follows_the_bytes_and_not_the_name(tmp_path: Path) -> None:
    data = np.random.default_rng(2).bytes(5 << 20)
    (tmp_path / "a").write_bytes(data)
    (tmp_path / "b").write_bytes(data)
    assert fingerprint(tmp_path / "a") == fingerprint(tmp_path / "b")

    def of(data: bytes) -> str:
        return fingerprint_of(len(data), lambda start, length: data[start : start + length])

    assert fingerprint(tmp_path / "a") == of(data)
    changed = {
        of(data[:at] + bytes([data[at] ^ 1]) + data[at + 1 :])
        for at in (0, len(data) // 16 * 7, -1)
    }
    assert of(data) not in changed | {of(data + b"\0")}
    assert of(b"") != of(b"a")


@pytest.mark.parametrize(
    ("name", "beginning", "told"),
    [
        ("a.jpg", b"\xff\xd8\xff\xe0", "JPEG"),
        ("a.png", b"\x89PNG\r\n\x1a\n", "PNG"),
        ("a.webp", b"RIFF\x24\0\0\0WEBPVP8 ", "WebP"),
        ("a.heic", b"\0\0\0\x18ftypheic", "HEIC"),
        ("a.avif", b"\0\0\0\x18ftypavif", "AVIF"),
        ("photo.mp4", b"\0\0\0\x18ftypmif1", "HEIC"),
    ],
)
def test_a_photo_is_refused_in_words_that_help(
    tmp_path: Path, name: str, beginning: bytes, told: str
) -> None:
    """FFmpeg opens a HEIC or AVIF and shows one tile of it as a film of a second."""
    path = tmp_path / name
    film = numbered_clip(tmp_path / "film.mp4", 4).read_bytes()
    path.write_bytes(beginning + film[len(beginning) :])
    if b"ftyp" not in beginning:
        path.write_bytes(beginning + bytes(500))
    with pytest.raises(SourceError, match=rf"is a photo \({told}\).*make a video of it"):
        probe(path)


def test_a_flv_cut_short_says_so(tmp_path: Path) -> None:
    whole = numbered_clip(tmp_path / "a.flv", 100, 25, gop=5)
    data = whole.read_bytes()
    assert probe(whole).repairs == ()
    whole.write_bytes(data[: len(data) // 2])
    source = probe(whole)
    (repair,) = source.repairs
    ends_s = float(source.duration_s)
    assert 1 < ends_s < 3
    assert f"promises 4.080 s, and its picture ends at {ends_s:.3f} s" in repair


@pytest.mark.parametrize("suffix", ["mkv", "mp4"])
def test_a_file_cut_short_says_which_trim_works(tmp_path: Path, suffix: str) -> None:
    faststart = {"movflags": "faststart"} if suffix == "mp4" else {}
    path = numbered_clip(tmp_path / f"a.{suffix}", 100, 25, gop=5, container_options=faststart)
    data = path.read_bytes()
    path.write_bytes(data[: len(data) // 2])
    source = probe(path)
    assert source.duration_s == 4
    with (
        pytest.raises(DecodeError, match=r"a trim that ends at (\d\.\d+) s would work") as raised,
        FrameReader(source, strict=False, on_warning=lambda _: None) as reader,
    ):
        list(reader.frames(source.frame_pts))
    told = re.search(r"ends at (\d\.\d+) s", str(raised.value))
    assert told
    until = [pts for pts in source.frame_pts if source.time_of(pts) < Fraction(told[1])]
    with FrameReader(source, strict=False, on_warning=lambda _: None) as reader:
        assert len(list(reader.frames(until))) == len(until) > 20
