from __future__ import annotations

import hashlib
import random
import subprocess
from collections.abc import Callable, Iterable
from dataclasses import replace
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest
from numpy.typing import NDArray

from engine.errors import DecodeError, SourceError
from engine.media.probe import probe
from engine.media.video_reader import FrameReader
from engine.pixels.picture import SourceFrame
from engine.source import SourceInfo
from tests.clips import numbered_clip, painted, read_number
from tests.media import needs_ffmpeg, real_media

INTERLACED = {"flags": "+ildct+ilme", "x264-params": "tff=1"}
Maker = Callable[[Path], Path]


def fail(warning: str) -> None:
    pytest.fail(f"nothing is wrong with this file: {warning}")


def open_reader(
    info: SourceInfo, warnings: list[str] | None = None, strict: bool = False
) -> FrameReader:
    on_warning = fail if warnings is None else warnings.append
    return FrameReader(info, strict=strict, on_warning=on_warning)


def numbers(reader: FrameReader, wanted: Iterable[int]) -> list[int]:
    return [read_number(frame.planes[0]) for frame in reader.frames(wanted)]


def pixels(frame: SourceFrame) -> str:
    digest = hashlib.blake2b(digest_size=16)
    for plane in frame.planes:
        digest.update(plane.tobytes())
    return digest.hexdigest()


def packet_at(clip: Path, number: int) -> tuple[int, int]:
    """Offset and size of the packet that holds frame `number` in presentation order."""
    with av.open(str(clip)) as container:
        packets = [packet for packet in container.demux(video=0) if packet.size]
        packets.sort(key=lambda packet: packet.pts or 0)
        offset = packets[number].pos
        assert offset is not None
        return offset, packets[number].size


def erase(clip: Path, frames: Iterable[int], *, from_byte: int = 0) -> None:
    """Overwrite packets with zeros, which no decoder takes for a picture."""
    data = bytearray(clip.read_bytes())
    for offset, size in [packet_at(clip, number) for number in frames]:
        data[offset + from_byte : offset + size] = bytes(size - from_byte)
    clip.write_bytes(data)


def edit_list(folder: Path) -> Path:
    """Frames 10 to 47 of a clip with one key frame, by an edit list."""
    whole = numbered_clip(folder / "whole.mp4", 48, 25, gop=48, options={"bf": "0"})
    cut = folder / "cut.mov"
    command = ["ffmpeg", "-v", "error", "-ss", "0.4", "-i", str(whole), "-c", "copy", str(cut)]
    subprocess.run(command, check=True)
    return cut


CLIPS: dict[str, Maker] = {
    "mp4 with b-frames": lambda d: numbered_clip(d / "a.mp4", 48, Fraction(30000, 1001)),
    "mkv": lambda d: numbered_clip(d / "a.mkv", 48, sound="bursts"),
    "mov": lambda d: numbered_clip(d / "a.mov", 48, 24, sound="bursts"),
    "mpegts": lambda d: numbered_clip(d / "a.ts", 48, 25, sound="bursts"),
    "program stream": lambda d: numbered_clip(d / "a.mpg", 48, 25, codec="mpeg2video"),
    "flv": lambda d: numbered_clip(d / "a.flv", 48, 25),
    "avi in the wrong order": lambda d: numbered_clip(d / "a.avi", 48, 25),
    "mpeg-4 in avi": lambda d: numbered_clip(
        d / "a.avi", 48, 25, codec="mpeg4", options={"bf": "2"}
    ),
    "intra only": lambda d: numbered_clip(d / "a.avi", 48, codec="mjpeg", pix_fmt="yuvj420p"),
    "variable rate": lambda d: numbered_clip(
        d / "a.mp4", 48, pts=[n / 25 + (n % 3) / 100 + (n // 20) for n in range(48)]
    ),
    "open gop": lambda d: numbered_clip(
        d / "a.mp4", 90, gop=20, options={"x264-params": "open-gop=1:bframes=3:b-adapt=0"}
    ),
    "open gop in hevc": lambda d: numbered_clip(
        d / "a.mp4",
        60,
        gop=20,
        codec="libx265",
        options={"x265-params": "log-level=none:open-gop=1:bframes=3"},
    ),
    "one key frame": lambda d: numbered_clip(d / "a.mp4", 120, gop=999),
    "long gop": lambda d: numbered_clip(d / "a.mp4", 120, gop=50),
    "intra refresh": lambda d: numbered_clip(
        d / "a.mkv", 80, gop=20, options={"x264-params": "intra-refresh=1:bframes=0"}
    ),
    "starts at 8 s": lambda d: numbered_clip(
        d / "a.mp4", 48, pts=[8 + n / 25 for n in range(48)], sound="bursts"
    ),
    "negative start": lambda d: numbered_clip(
        d / "a.mkv",
        48,
        pts=[n / 25 - 0.48 for n in range(48)],
        container_options={"avoid_negative_ts": "disabled"},
    ),
    "odd size": lambda d: numbered_clip(d / "a.webm", 48, size=(161, 97), codec="libvpx-vp9"),
    "4:4:4": lambda d: numbered_clip(d / "a.mp4", 48, pix_fmt="yuv444p"),
    "interlaced": lambda d: numbered_clip(d / "a.mp4", 48, 25, options=INTERLACED),
    "interlaced mpegts": lambda d: numbered_clip(d / "a.ts", 48, 25, options=INTERLACED),
    "one frame": lambda d: numbered_clip(d / "a.mp4", 1),
}


@pytest.fixture(params=CLIPS)
def clip(request: pytest.FixtureRequest, tmp_path: Path) -> SourceInfo:
    return probe(CLIPS[request.param](tmp_path))


def test_every_frame_in_order(clip: SourceInfo) -> None:
    with open_reader(clip) as reader:
        frames = list(reader.frames(clip.frame_pts))
    assert [frame.pts for frame in frames] == clip.frame_pts.tolist()
    assert [read_number(frame.planes[0]) for frame in frames] == list(range(len(frames)))
    assert {frame.size for frame in frames} == {clip.coded_size}
    assert reader.decoded_frames == len(frames)


def test_any_frames_in_any_order_have_the_same_pixels(clip: SourceInfo) -> None:
    count = len(clip.frame_pts)
    with open_reader(clip) as reader:
        once = [pixels(frame) for frame in reader.frames(clip.frame_pts)]
    halves = [range(count // 2, count), range(count // 2)]
    pieces = [range(start, min(count, start + 9)) for start in range(0, count, 9)]
    random.Random(0).shuffle(pieces)
    with open_reader(clip) as reader:
        for indices in [*halves, range(0, count, 7), range(count - 1, -1, -5), *pieces]:
            got = [pixels(frame) for frame in reader.frames(clip.frame_pts[list(indices)])]
            assert got == [once[index] for index in indices], indices
    for indices in pieces[:3]:  # and by readers that never saw anything else
        with open_reader(clip) as reader:
            got = [pixels(frame) for frame in reader.frames(clip.frame_pts[list(indices)])]
            assert got == [once[index] for index in indices], indices


@needs_ffmpeg
def test_an_edit_list_hides_what_comes_before_it(tmp_path: Path) -> None:
    info = probe(edit_list(tmp_path))
    with open_reader(info) as reader:
        assert numbers(reader, info.frame_pts) == list(range(10, 48))
        assert numbers(reader, info.frame_pts[5:8]) == [15, 16, 17]


def test_a_frame_may_be_asked_for_twice(tmp_path: Path) -> None:
    info = probe(numbered_clip(tmp_path / "a.mp4", 10))
    with open_reader(info) as reader:
        assert numbers(reader, info.frame_pts[[3, 3, 4, 4, 4]]) == [3, 3, 4, 4, 4]
        assert reader.decoded_frames == 5


def test_a_later_call_goes_on_without_decoding_again(tmp_path: Path) -> None:
    info = probe(numbered_clip(tmp_path / "a.mp4", 90, gop=999))
    with open_reader(info) as reader:
        for start in range(0, 90, 10):
            numbers(reader, info.frame_pts[start : start + 10])
        assert reader.decoded_frames == 90


def test_what_nobody_wants_is_jumped_over(tmp_path: Path) -> None:
    info = probe(numbered_clip(tmp_path / "a.mp4", 400, gop=20))
    with open_reader(info) as reader:
        assert numbers(reader, info.frame_pts[[2, 205, 390, 62]]) == [2, 205, 390, 62]
        assert reader.decoded_frames == 3 + 6 + 11 + 3


def test_a_seek_that_lands_elsewhere_is_noticed(tmp_path: Path) -> None:
    """Key frames that the container does not know: every jump misses, no frame is wrong."""
    path = numbered_clip(tmp_path / "a.mp4", 90, gop=30)
    honest = probe(path)
    info = replace(honest, keyframe_pts=honest.frame_pts[[0, 40, 70]])
    with open_reader(info) as reader:
        assert numbers(reader, info.frame_pts[[75, 45, 10]]) == [75, 45, 10]


def test_only_frames_of_the_file_can_be_wanted(tmp_path: Path) -> None:
    info = probe(numbered_clip(tmp_path / "a.mp4", 5))
    with open_reader(info) as reader:
        for pts in (int(info.frame_pts[1]) + 1, -1, 10**9):
            with pytest.raises(ValueError, match="no frame with timestamp"):
                list(reader.frames([pts]))


def test_frames_outlive_the_reader_and_a_closed_one_says_so(tmp_path: Path) -> None:
    info = probe(numbered_clip(tmp_path / "a.mp4", 30))
    with open_reader(info) as reader:
        frames = reader.frames(info.frame_pts)
        kept = [next(frames) for _ in range(10)]
    with pytest.raises(ValueError, match="closed"):
        next(frames)
    reader.close()
    assert [read_number(frame.planes[0]) for frame in kept] == list(range(10))


def test_a_file_that_went_away_is_named(tmp_path: Path) -> None:
    info = probe(numbered_clip(tmp_path / "a.mp4", 5))
    (tmp_path / "a.mp4").unlink()
    with open_reader(info) as reader, pytest.raises(SourceError, match="does not exist"):
        list(reader.frames(info.frame_pts))


# Planes

LAYOUTS = {  # pixel format: codec, suffix, depth, chroma step
    "yuv420p": ("ffv1", ".mkv", 8, (2, 2)),
    "yuv422p": ("ffv1", ".mkv", 8, (2, 1)),
    "yuv444p": ("ffv1", ".mkv", 8, (1, 1)),
    "yuv440p": ("ffv1", ".mkv", 8, (1, 1)),
    "yuv411p": ("ffv1", ".mkv", 8, (1, 1)),
    "yuva420p": ("ffv1", ".mkv", 8, (2, 2)),
    "gray": ("ffv1", ".mkv", 8, (2, 2)),
    "gray10le": ("ffv1", ".mkv", 10, (2, 2)),
    "yuv420p10le": ("ffv1", ".mkv", 10, (2, 2)),
    "yuv422p10le": ("ffv1", ".mkv", 10, (2, 1)),
    "yuv444p12le": ("ffv1", ".mkv", 12, (1, 1)),
    "nv12": ("rawvideo", ".nut", 8, (2, 2)),
    "yuva444p10le": ("ffv1", ".mkv", 10, (1, 1)),
    "yuyv422": ("rawvideo", ".nut", 8, (2, 1)),
    "uyvy422": ("rawvideo", ".mov", 8, (2, 1)),
    "yuv420p16be": ("rawvideo", ".nut", 16, (2, 2)),
}


@pytest.mark.parametrize("size", [(160, 96), (162, 98), (161, 97)], ids=str)
@pytest.mark.parametrize("pix_fmt", LAYOUTS)
def test_planes_of_every_layout(tmp_path: Path, pix_fmt: str, size: tuple[int, int]) -> None:
    codec, suffix, depth, step = LAYOUTS[pix_fmt]
    if size[0] % 2 and pix_fmt in ("yuyv422", "uyvy422", "yuv411p"):
        pytest.skip(f"{pix_fmt} has no odd width")
    path = numbered_clip(tmp_path / f"a{suffix}", 3, size=size, codec=codec, pix_fmt=pix_fmt)
    info = probe(path)
    with open_reader(info) as reader:
        frame = list(reader.frames(info.frame_pts))[2]
    assert (frame.depth, frame.chroma_step, frame.size) == (depth, step, info.coded_size)
    y, u, v = frame.planes
    assert {plane.dtype for plane in frame.planes} == {np.dtype(f"uint{8 if depth == 8 else 16}")}
    assert np.abs((y.astype(int) >> (depth - 8)) - painted(2, size)).max() <= 1
    expected = (-(-size[1] // step[1]), -(-size[0] // step[0]))
    assert u.shape == v.shape == expected
    for plane in (u, v):
        assert np.abs(plane.astype(int) - (128 << (depth - 8))).max() <= 1 << (depth - 8)


def write_rgb(path: Path, codec: str, pix_fmt: str, picture: NDArray[np.uint8]) -> Path:
    with av.open(str(path), "w") as container:
        stream = container.add_stream(codec, rate=25)
        assert isinstance(stream, av.VideoStream)
        stream.height, stream.width, stream.pix_fmt = *picture.shape[:2], pix_fmt
        frame = av.VideoFrame.from_ndarray(picture, "rgb24").reformat(format=pix_fmt)
        container.mux([*stream.encode(frame), *stream.encode(None)])
    return path


@pytest.mark.parametrize(
    ("suffix", "codec", "pix_fmt"),
    [
        (".mkv", "ffv1", "bgr0"),
        (".mov", "png", "rgb24"),
        (".mov", "qtrle", "argb"),
        (".avi", "rawvideo", "bgr24"),  # stored from the bottom up
        (".mp4", "libx264rgb", "rgb24"),
    ],
)
def test_rgb_becomes_limited_bt709(tmp_path: Path, suffix: str, codec: str, pix_fmt: str) -> None:
    """White, red and green above blue and grey, against BT.709's own equations."""
    colours = np.array(
        [[(255, 255, 255), (255, 0, 0), (0, 255, 0)], [(0, 0, 255)] + [(128,) * 3] * 2]
    )
    picture = colours.repeat(16, 0).repeat(16, 1).astype(np.uint8)
    info = probe(write_rgb(tmp_path / f"a{suffix}", codec, pix_fmt, picture))
    with open_reader(info) as reader:
        (frame,) = reader.frames(info.frame_pts)
    red, green, blue = np.moveaxis(picture / 255.0, -1, 0)
    luma = 0.2126 * red + 0.7152 * green + 0.0722 * blue
    expected = (
        16 + 219 * luma,
        128 + 224 * (blue - luma) / 1.8556,
        128 + 224 * (red - luma) / 1.5748,
    )
    assert frame.chroma_step == (1, 1)
    for plane, wanted in zip(frame.planes, expected, strict=True):
        assert np.abs(plane - wanted).max() <= (1 if codec != "libx264rgb" else 6)


def test_chroma_is_sited_by_codec_and_layout(tmp_path: Path) -> None:
    sited = {
        ("libx264", "yuv420p"): (0, 0.5),
        ("libx264", "yuv422p"): (0, 0),
        ("libx264", "yuv444p"): (0, 0),
        ("mjpeg", "yuvj420p"): (0.5, 0.5),
        ("mpeg1video", "yuv420p"): (0.5, 0.5),
        ("mpeg2video", "yuv420p"): (0, 0.5),
    }
    for (codec, pix_fmt), offset in sited.items():
        info = probe(numbered_clip(tmp_path / "a.mkv", 2, 25, codec=codec, pix_fmt=pix_fmt))
        with open_reader(info) as reader:
            frame = next(reader.frames(info.frame_pts[:1]))
        assert frame.chroma_offset == offset, codec


def test_planes_are_views_of_the_decoder_s_memory(tmp_path: Path) -> None:
    info = probe(numbered_clip(tmp_path / "a.mp4", 3, size=(162, 98)))
    with open_reader(info) as reader:
        frame = next(reader.frames(info.frame_pts[1:2]))
    assert isinstance(frame.owner, av.VideoFrame)
    for plane, own in zip(frame.planes, frame.owner.planes, strict=True):
        assert np.shares_memory(plane, np.frombuffer(memoryview(own), np.uint8))


def test_frames_that_change_size_are_brought_back_to_the_first(tmp_path: Path) -> None:
    first = numbered_clip(tmp_path / "1.ts", 20, 25, pts=[n / 25 for n in range(20)])
    second = numbered_clip(
        tmp_path / "2.ts", 20, size=(320, 192), pts=[2 + n / 25 for n in range(20)]
    )
    both = tmp_path / "both.ts"
    both.write_bytes(first.read_bytes() + second.read_bytes())
    info = probe(both)
    warnings: list[str] = []
    with open_reader(info, warnings) as reader:
        frames = list(reader.frames(info.frame_pts))
    assert [read_number(frame.planes[0]) for frame in frames] == [*range(20), *range(20)]
    assert {str(frame.size) for frame in frames} == {"160x96"}
    assert len([text for text in warnings if "320x192 yuv420p; fitted into 160x96" in text]) == 1


# Damage


def intra_clip(path: Path, erased: Iterable[int]) -> SourceInfo:
    """20 frames at 10 a second, each on its own, some of them unreadable."""
    clip = numbered_clip(path, 20, 10, codec="mjpeg", pix_fmt="yuvj420p")
    erase(clip, erased)
    return probe(clip)


def test_a_short_gap_holds_the_picture_before_it(tmp_path: Path) -> None:
    info = intra_clip(tmp_path / "a.mov", range(5, 10))
    warnings: list[str] = []
    with open_reader(info, warnings) as reader:
        shown = numbers(reader, info.frame_pts)
    assert shown == [*range(5), *[4] * 5, *range(9 + 1, 20)]
    warning = f"{info.location}: 0.500 to 1.000 s: missing, the picture before it is held"
    assert warnings == [warning]


@pytest.mark.parametrize("wanted", [[6], [9], [5, 12], [12, 7], [8, 9], [3, 9], [19, 9, 0]])
def test_the_held_picture_does_not_depend_on_the_way(tmp_path: Path, wanted: list[int]) -> None:
    info = intra_clip(tmp_path / "a.mov", range(5, 10))
    warnings: list[str] = []
    with open_reader(info, warnings) as reader:
        shown = numbers(reader, info.frame_pts[wanted])
    assert shown == [4 if 5 <= index < 10 else index for index in wanted]
    assert set(warnings) == {
        f"{info.location}: 0.500 to 1.000 s: missing, the picture before it is held"
    }


def test_a_long_gap_is_an_error_that_says_when(tmp_path: Path) -> None:
    info = intra_clip(tmp_path / "a.mov", range(5, 11))
    with open_reader(info, []) as reader:
        assert numbers(reader, info.frame_pts[:5]) == list(range(5))
        with pytest.raises(DecodeError, match=r"a\.mov: at 0\.500 s: .*missing \(0\.600 s"):
            numbers(reader, info.frame_pts[7:8])
    with open_reader(info, []) as reader:  # who does not want it does not miss it
        assert numbers(reader, info.frame_pts[11:]) == list(range(11, 20))


def test_strict_takes_no_damage_at_all(tmp_path: Path) -> None:
    info = intra_clip(tmp_path / "a.mov", [5])
    with open_reader(info, strict=True) as reader:
        assert numbers(reader, info.frame_pts[:5]) == list(range(5))
        with pytest.raises(DecodeError, match=r"at 0\.500 s: 0\.100 s of the picture are missing"):
            numbers(reader, info.frame_pts[5:6])
    with open_reader(info, strict=True) as reader:
        assert numbers(reader, info.frame_pts[6:]) == list(range(6, 20))


def test_damage_before_the_key_frame_is_nobody_s_business(tmp_path: Path) -> None:
    info = intra_clip(tmp_path / "a.mov", [2, 8])
    warnings: list[str] = []
    with open_reader(info, warnings) as reader:
        assert numbers(reader, info.frame_pts[[8, 9]]) == [7, 9]
    assert [text.split(": ")[1] for text in warnings] == ["0.800 to 0.900 s"]


def damaged_h264(path: Path) -> SourceInfo:
    clip = numbered_clip(path, 96, 24, gop=24, size=(320, 192))
    erase(clip, [30, 31, 52, 75], from_byte=12)
    return probe(clip)


def test_damage_looks_the_same_however_it_is_reached(tmp_path: Path) -> None:
    info = damaged_h264(tmp_path / "a.mp4")
    warnings: list[str] = []
    with open_reader(info, warnings) as reader:
        once = [pixels(frame) for frame in reader.frames(info.frame_pts)]
    assert warnings
    assert all(text.startswith(f"{info.location}: ") for text in warnings)
    pieces = [range(start, start + 8) for start in range(0, 96, 8)]
    random.Random(1).shuffle(pieces)
    for piece in pieces:
        with open_reader(info, []) as reader:
            got = [pixels(frame) for frame in reader.frames(info.frame_pts[list(piece)])]
        assert got == [once[index] for index in piece], piece
    with open_reader(info, strict=True) as reader, pytest.raises(DecodeError):
        numbers(reader, info.frame_pts)
    with open_reader(info, strict=True) as reader:  # before the damage nothing is wrong
        assert numbers(reader, info.frame_pts[:20]) == list(range(20))


@pytest.mark.parametrize("suffix", [".mp4", ".mkv"])
def test_a_file_that_was_cut_short(tmp_path: Path, suffix: str) -> None:
    options = {"movflags": "faststart"} if suffix == ".mp4" else None
    path = numbered_clip(tmp_path / f"a{suffix}", 60, 10, gop=5, container_options=options)
    whole = path.read_bytes()
    offset, _ = packet_at(path, 40)
    path.write_bytes(whole[:offset])
    info = probe(path)
    assert info.duration_s == 6
    assert 60 <= len(info.frame_pts) <= 61
    with open_reader(info, []) as reader:
        assert numbers(reader, info.frame_pts[:38]) == list(range(38))
        with pytest.raises(DecodeError, match="the file ends before its index says"):
            numbers(reader, info.frame_pts[[-1]])


def test_a_tail_of_less_than_half_a_second_is_held(tmp_path: Path) -> None:
    info = intra_clip(tmp_path / "a.mov", range(16, 20))
    warnings: list[str] = []
    with open_reader(info, warnings) as reader:
        assert numbers(reader, info.frame_pts) == [*range(16), 15, 15, 15, 15]
    warning = f"{info.location}: 1.600 to 2.000 s: missing, the picture before it is held"
    assert warnings == [warning]


# Real files

REAL = {  # file: frames compared
    "park_starts_at_8s_h264_aac.mp4": 352,
    "bear_vp9_161x121_odd_size.webm": 30,
    "kodak_mjpeg_422_fullrange_pcm22k.avi": 41,
    "camcorder_1080i50_h264_ac3.mts": 13,
    "iphone_portrait_h264_rot90_mono44k.mov": 120,
    "screenrec_macos_60fps_preroll_noaudio.mov": 100,
    "talking_head_720p_3_chapters.mp4": 30,
    "gopro_fullrange_gpmf_tracks_480p.mp4": 60,
    "iphone_portrait_hevc10_hlg_vfr_editlist.mp4": 9,
    "phone_portrait_av1_10bit_hdr10_pq_audio.mp4": 12,
    "testcard_h264_damaged_mid_stream.mp4": 50,
}


@pytest.mark.parametrize("name", REAL)
def test_pieces_of_a_real_file_equal_one_pass(name: str) -> None:
    info = probe(real_media(name))
    wanted = info.frame_pts[: REAL[name]].tolist()
    warnings: list[str] = []
    with open_reader(info, warnings) as reader:
        once = {frame.pts: pixels(frame) for frame in reader.frames(wanted)}
    assert bool(warnings) == ("damaged" in name)
    third = -(-len(wanted) // 3)
    pieces = [wanted[2 * third :], wanted[:third], wanted[third : 2 * third : 7]]
    with open_reader(info, warnings) as reader:
        for piece in pieces:
            for frame in reader.frames(piece):
                assert pixels(frame) == once[frame.pts], frame.pts


@needs_ffmpeg
@pytest.mark.parametrize("name", sorted(REAL.keys() - {"testcard_h264_damaged_mid_stream.mp4"}))
def test_pixels_of_a_real_file_are_ffmpeg_s(name: str) -> None:
    path = real_media(name)
    info = probe(path)
    count = min(5, len(info.frame_pts))
    deinterlace = ["-vf", "bwdif=send_frame:deint=interlaced"] if info.interlaced else []
    command = ["ffmpeg", "-v", "error", "-noautorotate", "-i", str(path), *deinterlace]
    command += ["-vsync", "passthrough", "-frames:v", str(count), "-f", "rawvideo", "-"]
    theirs = subprocess.run(command, capture_output=True, check=True).stdout
    with open_reader(info) as reader:
        ours = [
            b"".join(plane.tobytes() for plane in frame.planes)
            for frame in reader.frames(info.frame_pts[:count])
        ]
    length = len(ours[0])
    assert len(theirs) == count * length
    first = 1 if info.interlaced else 0  # FFmpeg versions differ in the frame without a neighbour
    for index in range(first, count):
        assert ours[index] == theirs[index * length : (index + 1) * length], index


def test_the_damaged_real_file_loses_one_picture_and_says_which() -> None:
    info = probe(real_media("testcard_h264_damaged_mid_stream.mp4"))
    warnings: list[str] = []
    with open_reader(info, warnings) as reader:
        frames = list(reader.frames(info.frame_pts))
    assert len(frames) == 50
    warning = f"{info.location}: 3.000 to 3.100 s: missing, the picture before it is held"
    assert warnings[0] == warning
    assert pixels(frames[30]) == pixels(frames[29])
    with open_reader(info, strict=True) as reader, pytest.raises(DecodeError, match=r"at 3\.000 s"):
        list(reader.frames(info.frame_pts))
