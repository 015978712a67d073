"""The GOPs of a finished file: where they are, and copies of single ones. Decodes nothing.

Knows no plan. Frames are counted from 0 in order of presentation.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import TypeAlias

import av
from av.error import FFmpegError
from av.packet import Packet
from av.video.stream import VideoStream

from engine.errors import ChunkError
from engine.files import file_url, whole_file
from engine.geometry import Size
from engine.timing import FrameRange

VideoPacket: TypeAlias = "Packet[VideoStream]"


@dataclass(frozen=True, slots=True)
class GopTable:
    """What a file is made of, for a join by packet copy."""

    gops: tuple[FrameRange, ...]
    """Closed, without a gap between them, and from frame 0 to the end."""
    size: Size
    fps: Fraction
    codec: str
    parameter_sets: bytes
    """SPS and PPS as MP4 stores them; files join only where these are equal."""


def gop_table(path: Path) -> GopTable:
    """Reads a file's packets.

    Raises `ChunkError` that says why where they are not closed GOPs of frames at a constant rate.
    """
    try:
        with av.open(file_url(path)) as container:
            stream = container.streams.video[0]
            fps = stream.average_rate
            if fps is None:
                raise ChunkError(f"{path}: has no frame rate")
            return GopTable(
                gops=tuple(_range_of(path, gop, fps) for gop in _gops(container, stream)),
                size=Size(stream.width, stream.height),
                fps=fps,
                codec=stream.codec_context.name,
                parameter_sets=stream.codec_context.extradata or b"",
            )
    except (FFmpegError, IndexError) as error:
        raise ChunkError(f"{path}: has no readable video") from error


def copy_gops(path: Path, destinations: Mapping[FrameRange, Path]) -> Iterator[FrameRange]:
    """Copies GOPs out, each into an MP4 of its own, in one pass; gives each range once it is there.

    The ranges are those of the file's `gop_table`. A file under its final name is whole.
    """
    with av.open(file_url(path)) as container:
        stream = container.streams.video[0]
        fps = stream.average_rate
        assert fps is not None, "its table was read"
        for gop in _gops(container, stream):
            frames = _range_of(path, gop, fps)
            if frames in destinations:
                with whole_file(destinations[frames]) as unfinished:
                    _write(unfinished, stream, gop, frames.start, fps)
                yield frames


def _gops(
    container: av.container.InputContainer, stream: VideoStream
) -> Iterator[list[VideoPacket]]:
    """The packets of the file, a list per key frame."""
    gop: list[VideoPacket] = []
    for packet in container.demux(stream):
        if not packet.size:
            continue
        if packet.is_keyframe and gop:
            yield gop
            gop = []
        gop.append(packet)
    if gop:
        yield gop


def _range_of(path: Path, gop: list[VideoPacket], fps: Fraction) -> FrameRange:
    numbers = sorted(_number(path, packet, fps) for packet in gop)
    frames = FrameRange(numbers[0], numbers[0] + len(numbers))
    if (
        not gop[0].is_keyframe
        or numbers != list(frames)
        or numbers[0] != _number(path, gop[0], fps)
    ):
        raise ChunkError(
            f"{path}: has a GOP at frame {numbers[0]} that is not closed or lacks some"
        )
    return frames


def _number(path: Path, packet: VideoPacket, fps: Fraction) -> int:
    if packet.pts is None:
        raise ChunkError(f"{path}: a packet has no timestamp")
    number = packet.pts * packet.time_base * fps
    if abs(number - round(number)) > Fraction(1, 10):
        raise ChunkError(f"{path}: its frames are not at a constant rate")
    return round(number)


def _write(
    path: Path, template: VideoStream, gop: list[VideoPacket], first_frame: int, fps: Fraction
) -> None:
    numbers = [_number(path, packet, fps) - first_frame for packet in gop]
    delay = max(place - number for place, number in enumerate(numbers))
    with av.open(file_url(path), "w", format="mp4") as container:
        stream = container.add_stream_from_template(template)
        stream.time_base = 1 / fps
        for place, (packet, number) in enumerate(zip(gop, numbers, strict=True)):
            packet.pts, packet.dts, packet.duration = number, place - delay, 1
            packet.time_base = 1 / fps
            packet.stream = stream
            container.mux_one(packet)
