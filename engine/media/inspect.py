"""Reads a finished file back in one pass over its packets, and checks what it holds.

Decodes nothing and knows no plan: each check is told what the file must be. Frames are counted from
0 in order of presentation.
"""

from __future__ import annotations

from array import array
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from fractions import Fraction
from itertools import pairwise
from pathlib import Path

import av
import numpy as np
from av.container import InputContainer
from av.error import FFmpegError
from av.packet import Packet
from av.stream import Stream
from av.video.reformatter import ColorPrimaries, ColorRange, Colorspace, ColorTrc
from av.video.stream import VideoStream
from numpy.typing import NDArray

from engine.errors import ChunkError, JoinError, SourceError
from engine.files import file_url
from engine.geometry import Size
from engine.location import SourceLocation
from engine.media.container import open_container, packets_of, time_base_of
from engine.storage.objects import ObjectReader
from engine.timing import SAMPLE_RATE_HZ, FrameRange, round_half_up

NO_TIMESTAMP = int(np.iinfo(np.int64).min)
"""FFmpeg's own value for a time that a packet does not have."""

AAC_FRAME_SAMPLES = 1024


@dataclass(frozen=True, slots=True)
class VideoParameters:
    """What a video stream says of itself."""

    size: Size
    fps: Fraction
    """Average frames per second; 0 where the file has none."""
    codec: str
    pixel_format: str
    """As FFmpeg names it; empty where it is unknown."""
    colour: tuple[int, int, int, int]
    """Matrix, primaries, transfer and range, as FFmpeg numbers them."""
    parameter_sets: bytes
    """SPS and PPS as MP4 stores them; streams join only where these are equal."""


@dataclass(frozen=True, slots=True, eq=False)
class VideoTrack:
    """A video stream and its packets, one array element per packet in decoding order."""

    parameters: VideoParameters
    time_base: Fraction
    """Seconds per tick of `pts` and `dts`."""
    pts: NDArray[np.int64]
    """Presentation times in ticks; `NO_TIMESTAMP` where a packet has none."""
    dts: NDArray[np.int64]
    """Decoding times in ticks; `NO_TIMESTAMP` where a packet has none."""
    is_keyframe: NDArray[np.bool_]

    def frame_numbers(self, fps: Fraction) -> list[int]:
        """The frame of each packet at a constant rate of `fps`; every packet has a `pts`."""
        frames_per_tick = self.time_base * fps
        return [round(tick * frames_per_tick) for tick in self.pts.tolist()]


@dataclass(frozen=True, slots=True)
class SoundTrack:
    """A sound stream as the file's index describes it."""

    duration_s: Fraction
    """Presented: without the encoder's priming and padding."""
    sample_rate_hz: int


@dataclass(frozen=True, slots=True, eq=False)
class FinishedFile:
    """What a finished file holds. Memory grows by 17 bytes a frame."""

    videos: tuple[VideoTrack, ...]
    """Of both kinds, the streams that FFmpeg has a decoder for."""
    sounds: tuple[SoundTrack, ...]


def inspect_file(path: Path) -> FinishedFile:
    """Reads the packets of a file. Raises `FFmpegError` where it is not readable."""
    with av.open(file_url(path)) as container:
        return inspect_container(container)


def inspect_container(container: InputContainer) -> FinishedFile:
    """Reads the packets of a file that was just opened, to its end."""
    streams = [stream for stream in container.streams.video if stream.codec_context is not None]
    packets = {stream.index: _PacketArrays() for stream in streams}
    if streams:
        for packet in packets_of(container, streams):
            if packet.size:
                packets[packet.stream.index].append(packet)
    return FinishedFile(
        videos=tuple(packets[stream.index].track(stream) for stream in streams),
        sounds=tuple(
            SoundTrack((sound.duration or 0) * time_base_of(sound), sound.rate)
            for sound in container.streams.audio
            if sound.codec_context is not None
        ),
    )


class _PacketArrays:
    """The numbers of a stream's packets while they are read."""

    def __init__(self) -> None:
        self._pts, self._dts, self._is_keyframe = array("q"), array("q"), array("b")

    def append(self, packet: Packet[Stream]) -> None:
        """Takes the numbers of the next packet."""
        self._pts.append(NO_TIMESTAMP if packet.pts is None else packet.pts)
        self._dts.append(NO_TIMESTAMP if packet.dts is None else packet.dts)
        self._is_keyframe.append(packet.is_keyframe)

    def track(self, stream: VideoStream) -> VideoTrack:
        """The stream with all packets so far; none may be added afterwards."""
        return VideoTrack(
            parameters=_parameters(stream),
            time_base=time_base_of(stream),
            pts=np.frombuffer(self._pts, np.int64),
            dts=np.frombuffer(self._dts, np.int64),
            is_keyframe=np.frombuffer(self._is_keyframe, np.bool_),
        )


def _parameters(stream: VideoStream) -> VideoParameters:
    context = stream.codec_context
    return VideoParameters(
        size=Size(stream.width, stream.height),
        fps=stream.average_rate or Fraction(0),
        codec=context.name,
        pixel_format=context.pix_fmt or "",
        colour=(
            context.colorspace,
            context.color_primaries,
            context.color_trc,
            context.color_range,
        ),
        parameter_sets=context.extradata or b"",
    )


# GOPs and chunks


def closed_gops(
    path: Path, is_keyframe: NDArray[np.bool_], numbers: Sequence[int]
) -> tuple[FrameRange, ...]:
    """The GOPs of a track, whose packets hold the frames `numbers`, both in decoding order.

    Raises `ChunkError` unless all are closed, and hold the frames from 0 on, each once.
    """
    borders = sorted({0, len(numbers), *np.flatnonzero(is_keyframe).tolist()})
    gops = tuple(
        closed_gop(path, numbers[first:stop], starts_with_key=bool(is_keyframe[first]))
        for first, stop in pairwise(borders)
    )
    if [gop.start for gop in gops] != borders[:-1]:
        raise ChunkError(f"{path}: its frames are not 0 to {len(numbers) - 1}, each once")
    return gops


def closed_gop(path: Path, numbers: Sequence[int], *, starts_with_key: bool) -> FrameRange:
    """The frames of one GOP, whose numbers come in decoding order.

    Raises `ChunkError` unless it is closed and lacks none.
    """
    first = min(numbers)
    frames = FrameRange(first, first + len(numbers))
    if not starts_with_key or numbers[0] != first or sorted(numbers) != list(frames):
        raise ChunkError(f"{path}: has a GOP at frame {first} that is not closed or lacks some")
    return frames


@dataclass(frozen=True, slots=True)
class ChunkFile:
    """A chunk's file and what it holds: closed GOPs, read once and handed to the join."""

    path: Path
    frame_count: int
    key_frames: tuple[int, ...]
    """The frame that each GOP begins with, the first of them 0."""
    reorder_frames: int
    """How many frames a decoder must hold back to put them in order of presentation."""
    parameters: VideoParameters


def read_chunk(path: Path) -> ChunkFile:
    """Reads what a chunk file holds. Raises `ChunkError` where it is not a run of closed GOPs."""
    try:
        return chunk_file(path, inspect_file(path))
    except FFmpegError as error:
        raise ChunkError(f"{path}: not a readable chunk ({error.strerror})") from error


def chunk_file(path: Path, file: FinishedFile) -> ChunkFile:
    """The file as a chunk.

    Raises `ChunkError` unless it is a run of closed GOPs of frames 0 to n - 1, each once.
    """
    if len(file.videos) != 1:
        raise ChunkError(f"{path}: has {len(file.videos)} video streams, not one")
    track = file.videos[0]
    require_rate_and_timestamps(path, track)
    numbers = track.frame_numbers(track.parameters.fps)
    gops = closed_gops(path, track.is_keyframe, numbers)
    return ChunkFile(
        path,
        len(numbers),
        tuple(gop.start for gop in gops),
        reorder_frames(numbers),
        track.parameters,
    )


def require_rate_and_timestamps(path: Path, track: VideoTrack) -> None:
    """Raises `ChunkError` where frames of the track cannot be numbered."""
    if not track.parameters.fps:
        raise ChunkError(f"{path}: has no frame rate")
    if (track.pts == NO_TIMESTAMP).any():
        raise ChunkError(f"{path}: a packet has no timestamp")


def reorder_frames(numbers: Iterable[int]) -> int:
    """How many frames a decoder must hold back, for frame numbers in decoding order from 0."""
    return max((place - number for place, number in enumerate(numbers)), default=0)


# a film


def check_film(
    file: FinishedFile,
    name: Path,
    *,
    frame_count: int,
    sample_count: int,
    fps: Fraction,
    size: Size,
) -> None:
    """Raises `JoinError`, which calls the file `name`, where it is not the film that was asked for.

    `sample_count` is per channel at 48 kHz, 0 for a film without sound.
    """

    def demand(met: bool, fault: str) -> None:
        if not met:
            raise JoinError(f"{name}: {fault}; the file was not kept")

    video = file.videos[0]
    demand(video.parameters.size == size, f"is {video.parameters.size}")
    demand(
        sorted(video.frame_numbers(fps)) == list(range(frame_count)),
        f"holds {len(video.pts)} frames where the plan has {frame_count}, each once",
    )
    demand(
        bool((video.dts != NO_TIMESTAMP).all() and (np.diff(video.dts) > 0).all()),
        "its decoding times do not rise",
    )
    if not sample_count:
        demand(not file.sounds, "has a sound track that nobody asked for")
        return
    demand(len(file.sounds) == 1, "has no sound track")
    duration_s = file.sounds[0].duration_s
    demand(
        abs(duration_s * SAMPLE_RATE_HZ - sample_count) <= AAC_FRAME_SAMPLES,
        f"its sound lasts {float(duration_s):.3f} s, "
        f"the plan says {sample_count / SAMPLE_RATE_HZ:.3f} s",
    )


def check_presentation_times(
    file: FinishedFile, name: Path, wanted_s: Sequence[Fraction], tolerance_s: Fraction
) -> None:
    """Raises `JoinError`, which calls the file `name`, unless its frames are shown at those times.

    `wanted_s` rises; each time may differ by `tolerance_s`.
    """
    video = file.videos[0]
    shown = np.sort(video.pts[video.pts != NO_TIMESTAMP]).tolist()
    near = all(
        abs(tick * video.time_base - time_s) <= tolerance_s
        for tick, time_s in zip(shown, wanted_s, strict=False)
    )
    if len(shown) != len(wanted_s) or not near:
        raise JoinError(f"{name}: holds {len(shown)} frames, and not the {len(wanted_s)} wanted")


# the page's proof


@dataclass(frozen=True, slots=True)
class Proof:
    """A film as its file describes it."""

    frames: int
    size: Size
    fps: Fraction
    codec: str
    pixel_format: str
    colour: tuple[str, str, str, str]
    """Matrix, primaries, transfer and range, as FFmpeg names them."""
    samples: int
    """Presented, per channel; 0 without sound."""
    sample_rate_hz: int


def read_proof(location: SourceLocation, store: ObjectReader | None = None) -> Proof:
    """Counts the frames of a film and reads its tags. An object is read from `store`.

    Raises `SourceError` for a file that is not a film.
    """
    with open_container(location, store) as container:
        file = inspect_container(container)
    if not file.videos:
        raise SourceError(location, "has no picture")
    video = file.videos[0]
    matrix, primaries, transfer, colour_range = video.parameters.colour
    sound = file.sounds[0] if file.sounds else SoundTrack(Fraction(0), 0)
    return Proof(
        frames=int((video.pts != NO_TIMESTAMP).sum()),
        size=video.parameters.size,
        fps=video.parameters.fps,
        codec=video.parameters.codec,
        pixel_format=video.parameters.pixel_format,
        colour=(
            Colorspace(matrix).name,
            ColorPrimaries(primaries).name,
            ColorTrc(transfer).name,
            ColorRange(colour_range).name,
        ),
        samples=round_half_up(sound.duration_s * sound.sample_rate_hz),
        sample_rate_hz=sound.sample_rate_hz,
    )
