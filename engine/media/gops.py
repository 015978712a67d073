"""The closed GOPs of a finished file: where they are, and copies of them.

Decodes nothing and knows no plan. Frames are counted in order of presentation; the first of a file
is 0, whenever it is shown.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import TypeAlias

import av
from av.container import InputContainer
from av.error import FFmpegError
from av.packet import Packet
from av.video.stream import VideoStream

from engine.errors import ChunkError
from engine.files import file_url, whole_file
from engine.media.container import packets_of, time_base_of
from engine.media.inspect import (
    VideoParameters,
    closed_gop,
    closed_gops,
    inspect_file,
    reorder_frames,
    require_rate_and_timestamps,
)
from engine.timing import FrameRange

VideoPacket: TypeAlias = "Packet[VideoStream]"

MAX_RATE_ERROR = Fraction(1, 10)
"""How far a frame may lie from its place at a constant rate, in frames."""


@dataclass(frozen=True, slots=True)
class GopTable:
    """What a file is made of, for a join by packet copy."""

    gops: tuple[FrameRange, ...]
    """Each closed, in order. Together they hold all frames of the file."""
    parameters: VideoParameters


def gop_table(path: Path) -> GopTable:
    """Reads a file's packets.

    Raises `ChunkError` that says why where they are not closed GOPs of frames at a constant rate.
    """
    try:
        videos = inspect_file(path).videos
    except FFmpegError as error:
        raise ChunkError(f"{path}: has no readable video") from error
    if not videos or not len(videos[0].pts):
        raise ChunkError(f"{path}: has no readable video")
    track = videos[0]
    require_rate_and_timestamps(path, track)
    number_of = _FrameNumbers(path, int(track.pts[0]), track.time_base * track.parameters.fps)
    numbers = [number_of(tick) for tick in track.pts.tolist()]
    return GopTable(closed_gops(path, track.is_keyframe, numbers), track.parameters)


def copy_gops(path: Path, destinations: Mapping[FrameRange, Path]) -> Iterator[FrameRange]:
    """Copies runs of GOPs, each into an MP4, in one pass; yields each range once it is there.

    A range is that of neighbouring GOPs of the file's `gop_table`. A file under its final name is
    whole.
    """
    runs = {frames.start: frames for frames in destinations}
    with av.open(file_url(path)) as container:
        stream = container.streams.video[0]
        fps = stream.average_rate
        assert fps is not None, "its table was read"
        number_of: _FrameNumbers | None = None
        run: FrameRange | None = None
        packets: list[VideoPacket] = []
        places: list[int] = []
        for gop in _gops(container, stream):
            number_of = number_of or _FrameNumbers(path, gop[0].pts, time_base_of(stream) * fps)
            numbers = [number_of(packet.pts) for packet in gop]
            frames = closed_gop(path, numbers, starts_with_key=gop[0].is_keyframe)
            run = runs.get(frames.start, run)
            if run is None:
                continue
            packets += gop
            places += [number - run.start for number in numbers]
            if frames.stop == run.stop:
                with whole_file(destinations[run]) as unfinished:
                    _write(unfinished, stream, packets, places, fps)
                yield run
                run, packets, places = None, [], []


def _gops(container: InputContainer, stream: VideoStream) -> Iterator[list[VideoPacket]]:
    """The packets of the file, one list per key frame."""
    gop: list[VideoPacket] = []
    for packet in packets_of(container, stream):
        if not packet.size:
            continue
        if packet.is_keyframe and gop:
            yield gop
            gop = []
        gop.append(packet)
    if gop:
        yield gop


@dataclass(frozen=True, slots=True)
class _FrameNumbers:
    """Numbers the frames of a file by their time stamps, from the first in decoding order on."""

    path: Path
    first_tick: int | None
    frames_per_tick: Fraction

    def __call__(self, tick: int | None) -> int:
        """Raises `ChunkError` where the frames are not at a constant rate."""
        if tick is None or self.first_tick is None:
            raise ChunkError(f"{self.path}: a packet has no timestamp")
        exact = (tick - self.first_tick) * self.frames_per_tick
        if abs(exact - round(exact)) > MAX_RATE_ERROR:
            raise ChunkError(f"{self.path}: its frames are not at a constant rate")
        return round(exact)


def _write(
    path: Path,
    template: VideoStream,
    packets: Sequence[VideoPacket],
    numbers: Sequence[int],
    fps: Fraction,
) -> None:
    """Writes the packets of neighbouring GOPs, whose frames have these numbers from 0."""
    delay = reorder_frames(numbers)
    with av.open(file_url(path), "w", format="mp4") as container:
        stream = container.add_stream_from_template(template)
        stream.time_base = 1 / fps
        for place, (packet, number) in enumerate(zip(packets, numbers, strict=True)):
            packet.pts, packet.dts, packet.duration = number, place - delay, 1
            packet.time_base = 1 / fps
            packet.stream = stream
            container.mux_one(packet)
