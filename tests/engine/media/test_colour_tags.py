"""Colours by their tags: shown as the standards' arithmetic says, or refused by name."""

from __future__ import annotations

from pathlib import Path
from struct import pack
from types import SimpleNamespace
from typing import Any

import av
import numpy as np
import pytest
from av.sidedata.sidedata import Type
from numpy.typing import NDArray

from engine.errors import SourceError
from engine.media.colour_tags import colour_tags
from engine.media.probe import probe
from engine.source import Matrix, Primaries, Transfer
from tests.clips import numbered_clip
from tests.engine.media.showing import encoded, shown
from tests.media import needs_ffmpeg, real_media

COLOURS = np.array([(0.8, 0.2, 0.1), (0.15, 0.6, 0.2), (0.1, 0.25, 0.9), (0.9, 0.85, 0.3)])
BLOCK = 16
SIZE = (BLOCK, BLOCK * len(COLOURS))
TO_BT709 = np.array(
    [
        [0.2126, 0.7152, 0.0722],
        [-0.2126 / 1.8556, -0.7152 / 1.8556, 0.5],
        [0.5, -0.7152 / 1.5748, -0.0722 / 1.5748],
    ]
)
TO_YCGCO = np.array([[0.25, 0.5, 0.25], [-0.25, 0.5, -0.25], [0.5, 0, -0.5]])


def by_weights(kr: float, kb: float) -> NDArray[np.float64]:
    luma = np.array([kr, 1 - kr - kb, kb])
    blue = (np.array([0, 0, 1]) - luma) / (2 - 2 * kb)
    return np.array([luma, blue, (np.array([1, 0, 0]) - luma) / (2 - 2 * kr)])


def codes(matrix: NDArray[np.float64], rgb: NDArray[np.float64]) -> NDArray[np.float64]:
    return np.asarray(rgb @ matrix.T * (219, 224, 224) + (16, 128, 128))


def blocks(wanted: NDArray[np.float64], bits: int = 8) -> list[NDArray[Any]]:
    """Planes of 4:4:4 with a block of each colour, from 8-bit codes."""
    kind = np.uint8 if bits == 8 else np.uint16
    rounded = np.round(wanted * 2 ** (bits - 8)).astype(kind)
    return [np.repeat(np.tile(plane, (BLOCK, 1)), BLOCK, 1) for plane in rounded.T]


def shown_blocks(path: Path) -> NDArray[np.float64]:
    """Y, Cb and Cr in the middle of each block."""
    picture = shown(path)
    luma = picture.y[BLOCK // 2, BLOCK // 2 :: BLOCK]
    chroma = [plane[BLOCK // 4, BLOCK // 4 :: BLOCK // 2] for plane in (picture.u, picture.v)]
    return np.stack([luma, *chroma], -1).astype(np.float64)


@needs_ffmpeg
@pytest.mark.parametrize(
    ("tag", "matrix"),
    [
        ("smpte170m", by_weights(0.299, 0.114)),
        ("fcc", by_weights(0.30, 0.11)),
        ("smpte240m", by_weights(0.212, 0.087)),
        ("ycgco", TO_YCGCO),
    ],
)
def test_a_matrix_is_that_of_the_tag(tmp_path: Path, tag: str, matrix: NDArray[np.float64]) -> None:
    options = ("-c:v", "libx264", "-qp", "0", "-x264-params", f"colormatrix={tag}")
    path = encoded(tmp_path / "a.mp4", blocks(codes(matrix, COLOURS)), "yuv444p", *options)
    assert np.abs(shown_blocks(path) - codes(TO_BT709, COLOURS)).max() < 1.5


@needs_ffmpeg
def test_primaries_of_display_p3_are_brought_to_bt709(tmp_path: Path) -> None:
    """P3's red, green and blue have these places in BT.709 (SMPTE EG 432-1, D65)."""
    p3 = np.array([[0.8225, 0.1774, 0], [0.0332, 0.9669, 0], [0.0171, 0.0724, 0.9108]])
    light = COLOURS**2.4 @ p3.T
    signal = light ** (1 / 2.4)
    path = tmp_path / "a.mp4"
    tags = "colormatrix=bt709:colorprim=smpte432:transfer=iec61966-2-1"
    options = ("-c:v", "libx264", "-qp", "0", "-x264-params", tags)
    encoded(path, blocks(codes(TO_BT709, signal)), "yuv444p", *options)
    assert probe(path).colour.primaries is Primaries.DISPLAY_P3
    assert np.abs(shown_blocks(path) - codes(TO_BT709, COLOURS)).max() < 2


def pq(nit: NDArray[np.float64]) -> NDArray[np.float64]:
    power = (np.maximum(nit, 0) / 10000) ** 0.1593017578125
    return np.asarray(((0.8359375 + 18.8515625 * power) / (1 + 18.6875 * power)) ** 78.84375)


def hlg(scene: NDArray[np.float64]) -> NDArray[np.float64]:
    high = 0.17883277 * np.log(np.maximum(12 * scene - 0.28466892, 1e-9)) + 0.55991073
    return np.asarray(np.where(scene <= 1 / 12, np.sqrt(3 * np.maximum(scene, 0)), high))


@needs_ffmpeg
@pytest.mark.parametrize(
    ("curve", "rows"),
    [
        ("smpte2084", [(2048, 2048, 0), (6610, -13613, 7003), (17933, -17390, -543)]),
        ("arib-std-b67", [(2048, 2048, 0), (3625, -7465, 3840), (9500, -9212, -288)]),
    ],
)
def test_ictcp_is_shown_as_the_same_light_in_ycbcr(
    tmp_path: Path, curve: str, rows: list[tuple[int, int, int]]
) -> None:
    """ITU-R BT.2100, tables 6 and 7, in 10 bits."""
    to_lms = np.array([(1688, 2146, 262), (683, 2951, 462), (99, 309, 3688)]) / 4096
    light = COLOURS**2.4  # linear RGB of BT.2020
    oetf, peak = (pq, 600.0) if curve == "smpte2084" else (hlg, 0.8)
    ictcp = codes(np.array(rows) / 4096, oetf(light @ to_lms.T * peak))
    ycbcr = codes(by_weights(0.2627, 0.0593), oetf(light * peak))
    made = []
    for name, matrix, planes in (("a", "ictcp", ictcp), ("b", "bt2020nc", ycbcr)):
        tags = f"colormatrix={matrix}:colorprim=bt2020:transfer={curve}"
        options = ("-c:v", "libx264", "-qp", "0", "-x264-params", tags)
        path = tmp_path / f"{name}.mp4"
        encoded(path, blocks(planes, 10), "yuv444p10le", *options)
        made.append(shown_blocks(path))
    assert probe(tmp_path / "a.mp4").colour.matrix is Matrix.ICTCP
    assert np.abs(made[0] - made[1]).max() <= 2


REFUSED = {
    "bt2020 constant luminance": ({"colorspace": 10}, "constant luminance"),
    "ICtCp in SDR": ({"colorspace": 14}, "ICtCp without HLG or PQ"),
    "IPT-C2": ({"colorspace": 15}, "IPT-C2"),
    "YDzDx": ({"colorspace": 11}, "ST 2085"),
    "derived": ({"colorspace": 13}, "derived from its primaries"),
    "RGB in 4:4:4": ({"colorspace": 0}, "RGB, in a pixel format of luma"),
    "linear": ({"color_trc": 8}, "linear light"),
    "log": ({"color_trc": 9}, "logarithmic light"),
    "cinema": ({"color_trc": 17}, "ST 428-1"),
    "XYZ": ({"color_primaries": 10}, "CIE XYZ"),
}


@pytest.mark.parametrize(("tags", "reason"), REFUSED.values(), ids=REFUSED.keys())
def test_what_is_not_converted_is_refused_by_name(
    tmp_path: Path, tags: dict[str, int], reason: str
) -> None:
    path = numbered_clip(tmp_path / "a.mkv", 2, codec="ffv1", pix_fmt="yuv444p", tags=tags)
    with pytest.raises(SourceError, match=reason) as caught:
        probe(path)
    assert str(caught.value).startswith(f"{path}: is tagged as ")


def test_rgb_that_cannot_be_is_not_followed_and_told_of(tmp_path: Path) -> None:
    source = probe(numbered_clip(tmp_path / "a.mkv", 2, codec="ffv1", tags={"colorspace": 0}))
    assert source.colour.matrix is Matrix.BT601 and source.colour.assumed
    assert source.notes == (
        "it says that its samples are RGB, which 4:2:0 and 4:2:2 are not: not followed",
    )


def test_grey_has_no_matrix(tmp_path: Path) -> None:
    tags = {"colorspace": 15}
    assert not probe(
        numbered_clip(tmp_path / "a.mkv", 2, codec="ffv1", pix_fmt="gray", tags=tags)
    ).notes


# Dolby Vision


def box(name: bytes, content: bytes) -> bytes:
    return (8 + len(content)).to_bytes(4) + name + content


def with_dolby_vision(path: Path, name: bytes, profile: int, compatible_with: int) -> Path:
    """Puts a configuration record behind the `hvcC` of an MP4 whose index is last."""
    flags = profile << 9 | 1 << 3 | 0b101
    content = bytes([1, 0]) + flags.to_bytes(2) + bytes([compatible_with << 4]) + bytes(19)
    record, data = box(name, content), bytearray(path.read_bytes())
    for parent in (b"moov", b"trak", b"mdia", b"minf", b"stbl", b"stsd", b"hvc1"):
        at = data.find(parent) - 4
        data[at : at + 4] = (int.from_bytes(data[at : at + 4]) + len(record)).to_bytes(4)
    at = data.find(b"hvcC") - 4
    behind = at + int.from_bytes(data[at : at + 4])
    data[behind:behind] = record
    path.write_bytes(data)
    return path


def hevc(path: Path, tags: str = "") -> Path:
    options = ("-c:v", "libx265", "-tag:v", "hvc1", "-x265-params", f"log-level=none{tags}")
    return encoded(path, blocks(codes(TO_BT709, COLOURS))[:1] * 3, "yuv444p", *options)


HLG_TAGS = ":colorprim=bt2020:colormatrix=bt2020nc:transfer=arib-std-b67"


@needs_ffmpeg
def test_dolby_vision_that_only_its_decoders_show_is_refused(tmp_path: Path) -> None:
    path = with_dolby_vision(hevc(tmp_path / "a.mp4"), b"dvcC", 5, 0)
    remuxed = tmp_path / "a.mkv"
    with av.open(str(path)) as given, av.open(str(remuxed), "w") as made:
        stream = made.add_stream_from_template(given.streams.video[0])
        for packet in given.demux(video=0):
            if packet.dts is not None:
                packet.stream = stream
                made.mux(packet)
    for each in (path, remuxed):
        with pytest.raises(SourceError, match=r"is Dolby Vision profile 5, whose colours only"):
            probe(each)
    for tag in (b"dvh1", b"dvhe"):
        renamed = hevc(tmp_path / "b.mp4")
        renamed.write_bytes(renamed.read_bytes().replace(b"hvc1", tag))
        with pytest.raises(SourceError, match=r"is Dolby Vision, whose colours only"):
            probe(renamed)


@needs_ffmpeg
def test_dolby_vision_over_hlg_is_hlg(tmp_path: Path) -> None:
    path = with_dolby_vision(hevc(tmp_path / "a.mp4", HLG_TAGS), b"dvvC", 8, 4)
    assert probe(path).colour.transfer is Transfer.HLG
    path.write_bytes(path.read_bytes().replace(b"hvc1", b"dvh1"))
    assert probe(path).colour.transfer is Transfer.HLG
    phone = real_media("iphone_portrait_hevc10_hlg_vfr_editlist.mp4")
    assert probe(phone).colour.transfer is Transfer.HLG


@needs_ffmpeg
@pytest.mark.parametrize(("rpu_profile", "full_range", "refused"), [
    (0, 1, True), (0, 0, False), (1, 0, False),
])  # fmt: skip
def test_a_picture_s_own_metadata_tells_of_dolby_vision(
    tmp_path: Path, rpu_profile: int, full_range: int, refused: bool
) -> None:
    """A stream without a record, as it is broadcast: FFmpeg gives pictures their metadata."""
    header = pack("=BxHBBBBBBBB", 2, 18, rpu_profile, 0, 0, 0, 23, 1, full_range, 10)
    metadata = pack("NNN", 24, 0, 0) + header
    path = hevc(tmp_path / "a.mp4", HLG_TAGS)
    with av.open(str(path)) as container:
        stream = container.streams.video[0]
        frame = next(container.decode(stream))
        like = SimpleNamespace(
            **{name: getattr(frame, name) for name in (
                "format", "width", "height", "colorspace", "color_range", "color_trc",
                "color_primaries",
            )},
            side_data={Type.DOVI_METADATA: metadata},
        )  # fmt: skip
        told: Any = like
        if refused:
            with pytest.raises(SourceError, match="Dolby Vision profile 5"):
                colour_tags(stream, told, path)
        else:
            assert colour_tags(stream, told, path).colour.transfer is Transfer.HLG
