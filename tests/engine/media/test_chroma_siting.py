"""Where chroma lies: painted edges of colour must be shown where they were painted."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from engine.geometry import Size
from engine.gpu.checks import decoding_refusal
from engine.media.probe import probe
from engine.source import ChromaSiting, SourceInfo
from tests.engine.media.showing import encoded, shown
from tests.media import needs_ffmpeg, real_media

SIZE = Size(96, 64)
EDGE = (47.3, 30.6)
"""Where Cb changes from left to right and Cr from top to bottom, in luma samples."""

LEFT, CENTER, TOP_LEFT, TOP, BOTTOM_LEFT, BOTTOM = (
    ((0, 0.5), "left"), ((0.5, 0.5), "center"), ((0, 0), "topleft"),
    ((0.5, 0), "top"), ((0, 1), "bottomleft"), ((0.5, 1), "bottom"),
)  # fmt: skip
X264, X265 = ("-c:v", "libx264", "-qp", "0"), ("-c:v", "libx265", "-tag:v", "hvc1")
HDR = ":colorprim=bt2020:colormatrix=bt2020nc:transfer="


def x265(parameters: str) -> tuple[str, ...]:
    return (*X265, "-x265-params", f"lossless=1:log-level=none{parameters}")


FILES = {  # name, pixel format, options, where chroma lies
    "untold h264": ("a.mp4", "yuv420p", X264, LEFT),
    "h264 left": ("a.mp4", "yuv420p", (*X264, "-x264-params", "chromaloc=0"), LEFT),
    "h264 centre": ("a.mp4", "yuv420p", (*X264, "-x264-params", "chromaloc=1"), CENTER),
    "h264 top left": ("a.mkv", "yuv420p", (*X264, "-x264-params", "chromaloc=2"), TOP_LEFT),
    "h264 top": ("a.ts", "yuv420p", (*X264, "-x264-params", "chromaloc=3"), TOP),
    "h264 bottom left": ("a.mp4", "yuv420p", (*X264, "-x264-params", "chromaloc=4"), BOTTOM_LEFT),
    "h264 bottom": ("a.mkv", "yuv420p", (*X264, "-x264-params", "chromaloc=5"), BOTTOM),
    "untold hevc": ("a.mp4", "yuv420p", x265(""), LEFT),
    "hevc centre": ("a.ts", "yuv420p", x265(":chromaloc=1"), CENTER),
    "hevc top left": ("a.mkv", "yuv420p", x265(":chromaloc=2:scaling-list=default"), TOP_LEFT),
    "hevc bottom": ("a.mp4", "yuv420p", x265(":chromaloc=5:bframes=3:ref=4"), BOTTOM),
    "av1 top left": (
        "a.mp4", "yuv420p", ("-c:v", "libsvtav1", "-qp", "1", "-chroma_sample_location", "topleft"),
        TOP_LEFT,
    ),
    "matroska centre": (
        "a.mkv", "yuv420p", ("-c:v", "ffv1", "-chroma_sample_location", "center"), CENTER,
    ),
    "webm top left": (
        "a.webm", "yuv420p",
        ("-c:v", "libvpx-vp9", "-lossless", "1", "-chroma_sample_location", "topleft"), TOP_LEFT,
    ),
    "mpeg-1": ("a.mpg", "yuv420p", ("-c:v", "mpeg1video", "-q:v", "1"), CENTER),
    "mpeg-2": ("a.mpg", "yuv420p", ("-c:v", "mpeg2video", "-q:v", "1"), LEFT),
    "jpeg": ("a.avi", "yuvj420p", ("-c:v", "mjpeg", "-q:v", "1"), CENTER),
    "jpeg 4:2:2": ("a.mov", "yuvj422p", ("-c:v", "mjpeg", "-q:v", "1"), ((0.5, 0), "center")),
    "h264 4:2:2": (
        "a.mp4", "yuv422p", (*X264, "-x264-params", "chromaloc=0"), ((0, 0), "left"),
    ),
}  # fmt: skip
files = pytest.mark.parametrize(
    ("name", "pixel_format", "options", "place"), FILES.values(), ids=FILES.keys()
)


def painted(pixel_format: str, offset: tuple[float, float]) -> list[NDArray[np.uint8]]:
    """Two smooth edges, sampled where chroma lies."""
    down = 1 if "422" in pixel_format else 2
    x = 2 * np.arange(SIZE.width // 2) + offset[0]
    y = down * np.arange(SIZE.height // down) + offset[1]
    shape = (len(y), len(x))
    blue = np.broadcast_to(128 + 60 * np.tanh((x - EDGE[0]) / 5), shape)
    red = np.broadcast_to(128 + 60 * np.tanh((y - EDGE[1]) / 5)[:, None], shape)
    grey = np.full((SIZE.height, SIZE.width), 120, np.uint8)
    return [grey, *(np.round(plane).astype(np.uint8) for plane in (blue, red))]


def crossing(line: NDArray[np.float64]) -> float:
    """Where a line of samples passes through 128, between its two middle samples."""
    at = int(np.flatnonzero((line[:-1] - 128) * (line[1:] - 128) <= 0)[0])
    return float(at + (128 - line[at]) / (line[at + 1] - line[at]))


@needs_ffmpeg
@files
def test_an_edge_is_shown_where_it_was_painted(
    tmp_path: Path,
    name: str,
    pixel_format: str,
    options: tuple[str, ...],
    place: tuple[tuple[float, float], str],
) -> None:
    """As it is, and enlarged through a rectangle between the pixels."""
    path = encoded(tmp_path / name, painted(pixel_format, place[0]), pixel_format, *options)
    assert probe(path).chroma_siting == place[1]
    rect, target = (20.4, 10.3, 54.0, 40.0), Size(108, 80)
    for picture, (left, top), pace in (
        (shown(path), (0.0, 0.0), 1.0),
        (shown(path, rect, target), rect[:2], 0.5),
    ):
        # in the picture, chroma sample k is at luma sample 2k across and 2k + 0.5 down
        x = (2 * crossing(picture.u.mean(0)) + 0.5) * pace + left - 0.5
        y = (2 * crossing(picture.v.mean(1)) + 1.0) * pace + top - 0.5
        assert x == pytest.approx(EDGE[0], abs=0.1)
        assert y == pytest.approx(EDGE[1], abs=0.1)


@needs_ffmpeg
@pytest.mark.parametrize(("curve", "told", "place"), [
    ("arib-std-b67", "", "topleft"), ("smpte2084", "", "topleft"),
    ("smpte2084", ":chromaloc=0", "left"), ("bt2020-10", "", "left"),
])  # fmt: skip
def test_hdr_of_bt2020_that_tells_nothing_has_chroma_at_the_top_left(
    tmp_path: Path, curve: str, told: str, place: str
) -> None:
    path = tmp_path / "a.mp4"
    encoded(path, painted("yuv420p", (0, 0)), "yuv420p", *x265(HDR + curve + told))
    assert probe(path).chroma_siting == place


def test_a_phone_s_hdr() -> None:
    path = real_media("iphone_portrait_hevc10_hlg_vfr_editlist.mp4")
    assert probe(path).chroma_siting is ChromaSiting.TOP_LEFT
    path = real_media("phone_portrait_av1_10bit_hdr10_pq_audio.mp4")
    assert probe(path).chroma_siting is ChromaSiting.LEFT  # as it says itself


@needs_ffmpeg
def test_a_document_carries_it_and_older_ones_can_be_read(tmp_path: Path) -> None:
    options = (*X264, "-x264-params", "chromaloc=2")
    source = probe(encoded(tmp_path / "a.mp4", painted("yuv420p", (0, 0)), "yuv420p", *options))
    document = source.to_document()
    assert SourceInfo.from_document(document, source.location).chroma_siting == "topleft"
    del document["chromaSiting"], document["colour"]["primaries"]
    assert SourceInfo.from_document(document, source.location).chroma_siting == "left"
    refusal = decoding_refusal(source, "cpu", strict=False)
    assert refusal == "chroma sited topleft"
