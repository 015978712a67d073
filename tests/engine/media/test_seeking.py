"""Late parts of long files: the same pictures and samples, without decoding what comes before."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from engine.audio.reader import SoundReader
from engine.media import video_decoder
from engine.media.byte_index import LONG_PACKETS
from engine.media.probe import probe
from engine.media.video_reader import FrameReader
from engine.source import SourceInfo
from tests.clips import numbered_clip, read_number
from tests.media import needs_ffmpeg
from tests.sounds import RATE_HZ, burst_starts
from tests.witness import run

FPS = 50
LONG = LONG_PACKETS + 200


def pictures(source: SourceInfo, wanted: range) -> tuple[list[NDArray[np.uint8]], int]:
    """The wanted frames' luma, and how many frames were decoded for them."""
    with FrameReader(source, strict=True, on_warning=pytest.fail) as reader:
        frames = reader.frames(source.frame_pts[wanted.start : wanted.stop])
        return [frame.planes[0].astype(np.uint8) for frame in frames], reader.decoded_frames


@pytest.fixture(scope="module")
def long_clip(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """More than a minute of tiny frames with B-frames, a key frame every half second."""
    path = tmp_path_factory.mktemp("long") / "long.mkv"
    return numbered_clip(
        path, LONG, FPS, (48, 32), gop=25, sound="bursts", options={"bf": "2", "qp": "20"}
    )


@needs_ffmpeg
@pytest.mark.parametrize("suffix", ["ts", "flv"])
def test_a_long_stream_is_read_where_it_is_wanted(
    long_clip: Path, tmp_path: Path, suffix: str
) -> None:
    path = tmp_path / f"long.{suffix}"
    run("ffmpeg", "-v", "error", "-i", long_clip, "-c", "copy", path)
    source = probe(path)
    assert len(source.frame_pts) == LONG and source.repairs == ()
    again = SourceInfo.from_document(source.to_document(), path)
    wanted = range(LONG - 60, LONG - 40)
    got, decoded = pictures(again, wanted)
    assert [read_number(luma) for luma in got] == list(wanted)
    assert decoded <= 80

    start, stop = (LONG // FPS - 3) * RATE_HZ, (LONG // FPS) * RATE_HZ
    warnings: list[str] = []
    reader = SoundReader(source, start, stop, on_warning=warnings.append)
    samples = reader.read(start, stop)
    reader.close()
    np.testing.assert_allclose(burst_starts(samples[0]), np.arange(3) * RATE_HZ, atol=1500)
    assert warnings == []


@needs_ffmpeg
def test_a_long_stream_begins_in_the_middle_of_a_gop(long_clip: Path, tmp_path: Path) -> None:
    """As broadcasts are cut: the first frames refer to some that are not there."""
    whole, path = tmp_path / "whole.ts", tmp_path / "cut.ts"
    run("ffmpeg", "-v", "error", "-i", long_clip, "-c", "copy", whole)
    path.write_bytes(whole.read_bytes()[188 * 20 :])
    source = probe(path)
    wanted = range(len(source.frame_pts) - 30, len(source.frame_pts) - 20)
    got, decoded = pictures(source, wanted)
    assert [read_number(luma) for luma in got] == list(range(LONG - 30, LONG - 20))
    assert decoded <= 80


@needs_ffmpeg
def test_a_byte_that_is_no_key_frame_costs_time_and_no_frame(
    long_clip: Path, tmp_path: Path
) -> None:
    path = tmp_path / "long.ts"
    run("ffmpeg", "-v", "error", "-i", long_clip, "-c", "copy", path)
    source = probe(path)
    assert source.keyframe_bytes is not None
    wrong = replace(source, keyframe_bytes=source.keyframe_bytes + 188 * 7)
    got, _ = pictures(wrong, range(400, 410))
    assert [read_number(luma) for luma in got] == list(range(400, 410))


@pytest.mark.parametrize("suffix", ["mp4", "mkv"])
def test_lossless_444_is_sought_too(tmp_path: Path, suffix: str) -> None:
    path = numbered_clip(
        tmp_path / f"a.{suffix}", 240, 25, gop=30, pix_fmt="yuv444p", sound="bursts",
        options={"qp": "24"},
    )  # fmt: skip
    source = probe(path)
    from_start, _ = pictures(replace(source, keyframe_pts=source.frame_pts[:0]), range(240))
    late, decoded = pictures(source, range(215, 225))
    assert decoded <= 60
    for got, expected in zip(late, from_start[215:225], strict=True):
        assert np.array_equal(got, expected)
    late_from_s = 8
    reader = SoundReader(source, late_from_s * RATE_HZ, 9 * RATE_HZ, on_warning=pytest.fail)
    samples = reader.read(late_from_s * RATE_HZ, 9 * RATE_HZ)
    reader.close()
    assert abs(burst_starts(samples[0])[0]) <= 48 * 25


@pytest.mark.parametrize("suffix", ["mp4", "ts"])
def test_what_x264_tells_once_is_told_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, suffix: str
) -> None:
    """FFmpeg decodes the 4:4:4 of its versions before 151 in another way."""
    path = numbered_clip(tmp_path / f"a.{suffix}", 90, 25, gop=30, pix_fmt="yuv444p")
    given: list[bytes] = []
    prefixed = video_decoder._with_prefix

    def noted(unit: bytes, packet: Any) -> Any:
        given.append(unit)
        return prefixed(unit, packet)

    monkeypatch.setattr(video_decoder, "_with_prefix", noted)
    pictures(probe(path), range(70, 72))
    assert len(given) == 1 and b"x264 - core" in given[0]
    assert given[0][:4] == (
        b"\0\0\0\1" if suffix == "ts" else (len(given[0]) - 4).to_bytes(4, "big")
    )
