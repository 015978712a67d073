"""What a file's tags say of its colours, and which of them are refused.

A tag that is not understood would give a film of false colours, so it is refused by name. Where
there is no tag, the usual values are taken.
"""

from __future__ import annotations

from struct import unpack_from
from typing import Any, NamedTuple

import av
from av.sidedata.sidedata import Type

from engine.errors import SourceError
from engine.location import SourceLocation
from engine.media.parameter_sets import told_siting
from engine.media.planes import RGB_MATRIX, is_rgb
from engine.media.stream_header import StreamHeader, stream_header
from engine.source import ChromaSiting, Colour, Matrix, Primaries, Transfer

_FULL_RANGE = 2  # AVCOL_RANGE_JPEG

# Numbers of ITU-T H.273, which FFmpeg uses, too.
_GBR, _ICTCP, _BY_PRIMARIES = 0, 14, 12
_MATRICES = {
    1: Matrix.BT709,
    4: Matrix.FCC,
    5: Matrix.BT601,
    6: Matrix.BT601,
    7: Matrix.SMPTE240M,
    8: Matrix.YCGCO,
    9: Matrix.BT2020,
}
_OTHER_MATRICES = {
    0: "RGB, in a pixel format of luma and colour differences",
    10: "BT.2020 with constant luminance",
    11: "Y'D'zD'x (SMPTE ST 2085)",
    12: "a matrix derived from its primaries",
    13: "constant luminance derived from its primaries",
    14: "ICtCp without HLG or PQ",
    15: "IPT-C2 (SMPTE ST 2128)",
    16: "YCgCo-Re",
    17: "YCgCo-Ro",
}
_TRANSFERS = {
    **dict.fromkeys((1, 4, 5, 6, 7, 11, 12, 13, 14, 15), Transfer.SDR),
    16: Transfer.PQ,
    18: Transfer.HLG,
}
_OTHER_TRANSFERS = {
    8: "linear light",
    9: "logarithmic light (100 : 1)",
    10: "logarithmic light (316 : 1)",
    17: "the curve of digital cinema (SMPTE ST 428-1)",
}
_PRIMARIES = {
    **dict.fromkeys((1, 4, 5, 6, 7, 22), Primaries.BT709),
    9: Primaries.BT2020,
    11: Primaries.DCI_P3,
    12: Primaries.DISPLAY_P3,
}
_OTHER_PRIMARIES = {8: "primaries of film", 10: "CIE XYZ (SMPTE ST 428-1)"}

_DOLBY_VISION_TAGS = {"dvh1", "dvhe", "dva1", "dvav", "dav1"}
_COMPATIBLE_PROFILES = {4, 7, 8, 9}
"""Profiles of Dolby Vision whose pictures are also SDR, HLG or PQ without it."""

_USUAL_SITINGS = {
    **dict.fromkeys(("mjpeg", "mpeg1video", "h261", "h263", "flv1"), ChromaSiting.CENTER),
    "dvvideo": ChromaSiting.TOP_LEFT,
}


class ColourTags(NamedTuple):
    """What is known of a file's colours."""

    colour: Colour
    chroma_siting: ChromaSiting
    notes: tuple[str, ...]
    """Tags that cannot be true, one sentence each."""


def colour_tags(
    stream: av.VideoStream, first: av.VideoFrame, location: SourceLocation
) -> ColourTags:
    """The colours of a stream, of which `first` is a decoded frame.

    Raises SourceError for colours that cannot be shown, such as those of Dolby Vision profile 5.
    """
    header = stream_header(stream)
    profile = _dolby_vision_only(stream, first, header)
    if profile is not None:
        raise SourceError(
            location,
            f"is Dolby Vision{profile}, whose colours only Dolby Vision decoders can show: export "
            "it as HDR10, HLG or SDR first",
        )
    notes: list[str] = []
    colour = _colour(first, location, notes)
    return ColourTags(colour, _siting(stream, header, colour), tuple(notes))


def _colour(frame: av.VideoFrame, location: SourceLocation, notes: list[str]) -> Colour:
    transfer = _TRANSFERS.get(frame.color_trc, Transfer.SDR)
    primaries = _PRIMARIES.get(frame.color_primaries)
    _refuse(_OTHER_TRANSFERS, frame.color_trc, location)
    _refuse(_OTHER_PRIMARIES, frame.color_primaries, location)
    if is_rgb(frame.format):
        return _with(primaries, Colour(RGB_MATRIX, False, transfer, assumed=False))
    matrix = _matrix(frame, transfer, primaries, location, notes)
    full_range = frame.format.name.startswith("yuvj") or frame.color_range == _FULL_RANGE
    assumed = matrix is None or not (full_range or frame.color_range)
    usual = matrix or _usual_matrix(frame, transfer)
    return _with(primaries, Colour(usual, full_range, transfer, assumed))


def _with(primaries: Primaries | None, colour: Colour) -> Colour:
    if primaries in (None, colour.gamut) or colour.matrix is Matrix.ICTCP:
        return colour
    return Colour(colour.matrix, colour.full_range, colour.transfer, colour.assumed, primaries)


def _matrix(
    frame: av.VideoFrame,
    transfer: Transfer,
    primaries: Primaries | None,
    location: SourceLocation,
    notes: list[str],
) -> Matrix | None:
    """The matrix that the tags tell; None where they tell none that can be true."""
    number = frame.colorspace
    if len(frame.format.components) < 3:
        return _MATRICES.get(number)  # grey
    if number == _GBR and frame.format.chroma_width(16) < 16:
        notes.append(
            "it says that its samples are RGB, which 4:2:0 and 4:2:2 are not: not followed"
        )
        return None
    if number == _ICTCP and transfer is not Transfer.SDR:
        return Matrix.ICTCP
    if number == _BY_PRIMARIES and primaries is Primaries.BT2020:
        return Matrix.BT2020
    if number == _BY_PRIMARIES and frame.color_primaries == 1:
        return Matrix.BT709
    _refuse(_OTHER_MATRICES, number, location)
    return _MATRICES.get(number)


def _refuse(names: dict[int, str], number: int, location: SourceLocation) -> None:
    if number in names:
        raise SourceError(
            location,
            f"is tagged as {names[number]}, which is not converted: its colours would be false",
        )


def _usual_matrix(frame: av.VideoFrame, transfer: Transfer) -> Matrix:
    if transfer is not Transfer.SDR:
        return Matrix.BT2020
    high_definition = frame.width >= 1280 or frame.height > 576
    return Matrix.BT709 if high_definition else Matrix.BT601


def _siting(stream: av.VideoStream, header: StreamHeader, colour: Colour) -> ChromaSiting:
    """Where chroma lies: as told, else as usual for the codec, for HDR, and at last on the left."""
    codec = stream.codec.canonical_name
    told = header.chroma_siting
    if codec in ("h264", "hevc"):
        told = told_siting(codec, stream.codec_context.extradata or b"")
    if told is not None:
        return told
    if codec in _USUAL_SITINGS:
        return _USUAL_SITINGS[codec]
    wide_hdr = colour.transfer is not Transfer.SDR and colour.gamut is Primaries.BT2020
    return ChromaSiting.TOP_LEFT if wide_hdr else ChromaSiting.LEFT


def _dolby_vision_only(
    stream: av.VideoStream, first: av.VideoFrame, header: StreamHeader
) -> str | None:
    """Names the profile where the pictures have no meaning without Dolby Vision, else None."""
    if header.dolby_vision is not None:
        profile, compatible_with = header.dolby_vision[2] >> 1, header.dolby_vision[4] >> 4
        if profile in _COMPATIBLE_PROFILES or (profile != 5 and compatible_with):
            return None
        return f" profile {profile}"
    metadata = _dolby_vision_metadata(first)
    if metadata is None:
        return "" if stream.codec_context.codec_tag in _DOLBY_VISION_TAGS else None
    # as FFmpeg tells profile 5 from the header of the metadata of a picture
    (offset,) = unpack_from("N", metadata)
    rpu_profile, full_range = metadata[offset + 4], metadata[offset + 10]
    return " profile 5" if rpu_profile == 0 and full_range else None


def _dolby_vision_metadata(frame: av.VideoFrame) -> bytes | None:
    side_data: Any = frame.side_data  # av declares another type
    try:
        return bytes(side_data[Type.DOVI_METADATA])
    except KeyError:
        return None
