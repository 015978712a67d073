"""What FFmpeg knows of a video stream and PyAV does not tell: chroma siting and Dolby Vision.

FFmpeg's Matroska muxer writes both into a file's header, whatever container and codec they come
from. So a header is written into memory, and read (RFC 9559).
"""

from __future__ import annotations

import io
from collections.abc import Iterator
from dataclasses import dataclass

import av

from engine.source import ChromaSiting

_SEGMENT, _TRACKS, _TRACK_ENTRY, _VIDEO, _COLOUR = 0x18538067, 0x1654AE6B, 0xAE, 0xE0, 0x55B0
_BLOCK_ADDITION_MAPPING = 0x41E4
_MASTERS = {_SEGMENT, _TRACKS, _TRACK_ENTRY, _VIDEO, _COLOUR, _BLOCK_ADDITION_MAPPING}
_SITING_ACROSS, _SITING_DOWN = 0x55B7, 0x55B8
_ADDITION_TYPE, _ADDITION_DATA = 0x41E7, 0x41ED
_DOLBY_VISION = {b"dvcC", b"dvvC", b"dvwC"}

_SITINGS = {  # by Matroska's ChromaSitingHorz and ChromaSitingVert: 1 is collocated, 2 is half
    (1, 1): ChromaSiting.TOP_LEFT,
    (1, 2): ChromaSiting.LEFT,
    (2, 1): ChromaSiting.TOP,
    (2, 2): ChromaSiting.CENTER,
}


@dataclass(frozen=True, slots=True)
class StreamHeader:
    """What a stream's header says, as far as it does."""

    chroma_siting: ChromaSiting | None = None
    """FFmpeg also takes the usual siting of a codec for what the stream says."""
    dolby_vision: bytes | None = None
    """The configuration record of Dolby Vision, as in a `dvcC` box."""


def stream_header(stream: av.VideoStream) -> StreamHeader:
    """What FFmpeg knows of the stream; nothing for a codec that Matroska cannot hold."""
    file = io.BytesIO()
    try:
        with av.open(file, "w", format="matroska") as container:
            container.add_stream_from_template(stream, opaque=True)
            container.start_encoding()
    except (av.FFmpegError, ValueError):
        return StreamHeader()
    found = dict(_elements(file.getvalue()))
    siting = tuple(found.get(name, b"\0")[-1] for name in (_SITING_ACROSS, _SITING_DOWN))
    is_dolby_vision = found.get(_ADDITION_TYPE, b"") in _DOLBY_VISION
    return StreamHeader(
        chroma_siting=_SITINGS.get((siting[0], siting[1])),
        dolby_vision=found.get(_ADDITION_DATA) if is_dolby_vision else None,
    )


def _elements(data: bytes) -> Iterator[tuple[int, bytes]]:
    """The elements in `_MASTERS`, at any depth: identifier and content."""
    at = 0
    while at < len(data):
        name, at = _number(data, at, with_marker=True)
        size, at = _number(data, at, with_marker=False)
        content = data[at : at + size]  # of unknown size: the largest number, so the rest
        if name in _MASTERS:
            yield from _elements(content)
        else:
            yield name, content
        at += size


def _number(data: bytes, at: int, *, with_marker: bool) -> tuple[int, int]:
    """A number of variable length (RFC 8794, 4), and where it ends."""
    length = 9 - data[at].bit_length()
    value = int.from_bytes(data[at : at + length])
    if not with_marker:
        value &= (1 << 7 * length) - 1
    return value, at + length
