"""Joins chunks, the sound track and chapters into the final MP4 by copying packets.

Nothing is decoded or encoded here. The file is read back and compared with what was asked for
before it takes its final name.
"""

from __future__ import annotations

import heapq
import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from fractions import Fraction
from itertools import pairwise
from pathlib import Path
from typing import TypeAlias

import av
from av.audio.stream import AudioStream
from av.container import InputContainer, OutputContainer
from av.error import FFmpegError
from av.packet import Packet as AvPacket
from av.stream import Stream
from av.video.stream import VideoStream

from engine.errors import ChunkError, JoinError
from engine.files import file_url, whole_file
from engine.geometry import Size
from engine.timing import SAMPLE_RATE_HZ

Packet: TypeAlias = "AvPacket[Stream]"

AAC_FRAME_SAMPLES = 1024

MP4_OPTIONS = {
    "movflags": "+faststart",
    # edit lists count in this: at the default of 1000 the sound would be cut to whole milliseconds
    "movie_timescale": str(SAMPLE_RATE_HZ),
}


@dataclass(frozen=True, slots=True)
class ChunkFacts:
    """What a chunk file holds, read from its packets."""

    frame_count: int
    size: Size
    fps: Fraction
    codec: str
    parameter_sets: bytes
    """SPS and PPS as MP4 stores them; chunks join only where these are equal."""
    reorder_frames: int
    """How many frames a decoder must hold back to put them in order of presentation."""


@dataclass(frozen=True, slots=True)
class ChapterMark:
    """A chapter of the final file, from `start_s` to `stop_s`."""

    title: str
    start_s: Fraction
    stop_s: Fraction


def chunk_facts(path: Path) -> ChunkFacts:
    """Reads what a chunk file holds. Raises `ChunkError` where it is not one closed GOP."""
    try:
        with av.open(file_url(path)) as container:
            return _facts(path, container)
    except FFmpegError as error:
        raise ChunkError(f"{path}: not a readable chunk ({error.strerror})") from error


def _facts(path: Path, container: InputContainer) -> ChunkFacts:
    stream = _only_video(path, container)
    fps = stream.average_rate
    if fps is None:
        raise ChunkError(f"{path}: has no frame rate")
    shown = []
    for place, packet in enumerate(_packets(container, stream)):
        if packet.is_keyframe != (place == 0):
            raise ChunkError(f"{path}: is not one closed GOP (packet {place})")
        shown.append(_frame_number(packet, fps))
    if sorted(shown) != list(range(len(shown))):
        raise ChunkError(f"{path}: its frames are not 0 to {len(shown) - 1}, each once")
    return ChunkFacts(
        frame_count=len(shown),
        size=Size(stream.width, stream.height),
        fps=fps,
        codec=stream.codec_context.name,
        parameter_sets=stream.codec_context.extradata or b"",
        reorder_frames=max((place - frame for place, frame in enumerate(shown)), default=0),
    )


def _only_video(path: Path, container: InputContainer) -> VideoStream:
    if len(container.streams.video) != 1:
        raise ChunkError(f"{path}: has {len(container.streams.video)} video streams, not one")
    return container.streams.video[0]


def _packets(container: InputContainer, stream: VideoStream | AudioStream) -> Iterator[Packet]:
    return (packet for packet in container.demux(stream) if packet.size)


def _frame_number(packet: Packet, fps: Fraction) -> int:
    if packet.pts is None:
        raise ChunkError("a packet has no timestamp")
    return round(packet.pts * packet.time_base * fps)


def join(
    chunks: Sequence[Path],
    sound: Path | None,
    chapters: Sequence[ChapterMark],
    destination: Path,
    *,
    frame_count: int,
    sample_count: int,
    fps: Fraction,
    size: Size,
    on_step: Callable[[], None],
    let_go: Callable[[Path], None] | None = None,
) -> None:
    """Writes `destination`: the chunks end to end, the sound beside them, the index in front.

    `on_step` is called now and then and may raise to stop. `let_go` is told of a chunk whose
    packets are in memory and whose file is not read again: who deletes it never has the export on
    disk twice, and has lost the chunk where the join fails after that. Raises `ChunkError` where
    the chunks do not fit each other, and `JoinError` where the file that came out is not what was
    asked for.
    """
    facts = [chunk_facts(path) for path in chunks]
    _check_they_fit(chunks, facts, size, fps)
    with whole_file(destination) as path:
        try:
            with av.open(file_url(path), "w", format="mp4", options=MP4_OPTIONS) as container:
                _write(container, chunks, facts, sound, chapters, fps, on_step, let_go)
        except FFmpegError as error:
            raise JoinError(f"{destination}: cannot be written ({error.strerror})") from error
        _verify(path, destination, frame_count, sample_count, fps, size)


def _check_they_fit(
    chunks: Sequence[Path], facts: Sequence[ChunkFacts], size: Size, fps: Fraction
) -> None:
    if not facts:
        raise JoinError("there is no chunk to join")
    first = facts[0]
    for path, each in zip(chunks, facts, strict=True):
        if each.size != size or each.fps != fps:
            raise ChunkError(f"{path}: is {each.size} at {each.fps} fps, not {size} at {fps}")
        if (each.codec, each.parameter_sets) != (first.codec, first.parameter_sets):
            raise ChunkError(f"{path}: its stream parameters are not those of {chunks[0]}")


def _write(
    container: OutputContainer,
    chunks: Sequence[Path],
    facts: Sequence[ChunkFacts],
    sound: Path | None,
    chapters: Sequence[ChapterMark],
    fps: Fraction,
    on_step: Callable[[], None],
    let_go: Callable[[Path], None] | None,
) -> None:
    with av.open(file_url(chunks[0])) as template:
        video = container.add_stream_from_template(template.streams.video[0])
    assert isinstance(video, VideoStream)
    video.time_base = 1 / fps
    packets: list[Iterator[tuple[float, Packet]]] = [_joined(chunks, facts, fps, video, let_go)]
    if sound is None:
        _mark_chapters(container, chapters)
        mux_in_order(container, packets, on_step)
        return
    with av.open(file_url(sound)) as track:
        stream = container.add_stream_from_template(track.streams.audio[0])
        assert isinstance(stream, AudioStream)
        _mark_chapters(container, chapters)
        mux_in_order(container, [*packets, sound_packets(track, stream)], on_step)


def _mark_chapters(container: OutputContainer, chapters: Sequence[ChapterMark]) -> None:
    # FFmpeg stores chapters in ms: rounded up, a seek to one lands on its first frame and not on
    # the frame before
    milli = Fraction(1, 1000)
    container.set_chapters(
        [
            {
                "id": number,
                "start": math.ceil(chapter.start_s / milli),
                "end": math.ceil(chapter.stop_s / milli),
                "time_base": milli,
                "metadata": {"title": chapter.title},
            }
            for number, chapter in enumerate(chapters)
        ]
    )


def mux_in_order(
    container: OutputContainer,
    streams: Sequence[Iterator[tuple[float, Packet]]],
    on_step: Callable[[], None],
) -> None:
    """Interleaves by decoding time, so that the muxer holds only a few packets."""
    for _, packet in heapq.merge(*streams, key=lambda timed: timed[0]):
        on_step()
        container.mux_one(packet)


def _joined(
    chunks: Sequence[Path],
    facts: Sequence[ChunkFacts],
    fps: Fraction,
    stream: VideoStream,
    let_go: Callable[[Path], None] | None,
) -> Iterator[tuple[float, Packet]]:
    """The packets of all chunks on one time line.

    An encoder that was given fewer frames than it holds back spaces its decoding times otherwise
    than for a long chunk, so they are counted anew: packet k of the export is decoded at
    k - (the longest reordering of any chunk).
    """
    delay = max(each.reorder_frames for each in facts)
    decoded = first_frame = 0
    last_place = {path: place for place, path in enumerate(chunks)}
    for place, (path, each) in enumerate(zip(chunks, facts, strict=True)):
        with av.open(file_url(path)) as container:
            packets = list(_packets(container, container.streams.video[0]))  # some megabytes
        if let_go is not None and last_place[path] == place:
            let_go(path)
        for packet in packets:
            packet.pts = first_frame + _frame_number(packet, fps)
            packet.dts = decoded - delay
            packet.duration = 1
            packet.time_base = 1 / fps
            packet.stream = stream
            decoded += 1
            yield float(packet.dts / fps), packet
        first_frame += each.frame_count


def sound_packets(track: InputContainer, stream: AudioStream) -> Iterator[tuple[float, Packet]]:
    for packet in _packets(track, track.streams.audio[0]):
        if packet.dts is None:
            raise JoinError("a sound packet has no timestamp")
        at_s = float(packet.dts * packet.time_base)
        packet.stream = stream
        yield at_s, packet


def _verify(
    path: Path,
    destination: Path,
    frame_count: int,
    sample_count: int,
    fps: Fraction,
    size: Size,
) -> None:
    """Reads the file back. Raises `JoinError` where it is not what the plan says."""

    def demand(met: bool, fault: str) -> None:
        if not met:
            raise JoinError(f"{destination}: {fault}; the file was not kept")

    with av.open(file_url(path)) as container:
        video = container.streams.video[0]
        demand(Size(video.width, video.height) == size, f"is {video.width}x{video.height}")
        shown, decoded = [], []
        for packet in _packets(container, video):
            shown.append(_frame_number(packet, fps))
            decoded.append(packet.dts)
    demand(
        sorted(shown) == list(range(frame_count)),
        f"holds {len(shown)} frames where the plan has {frame_count}, each once",
    )
    demand(
        all(a is not None and b is not None and a < b for a, b in pairwise(decoded)),
        "its decoding times do not rise",
    )
    with av.open(file_url(path)) as container:
        if not sample_count:
            demand(not container.streams.audio, "has a sound track that nobody asked for")
            return
        demand(len(container.streams.audio) == 1, "has no sound track")
        sound = container.streams.audio[0]
        shown_s = (sound.duration or 0) * (sound.time_base or Fraction(0))
        demand(
            abs(shown_s * SAMPLE_RATE_HZ - sample_count) <= AAC_FRAME_SAMPLES,
            f"its sound lasts {float(shown_s):.3f} s, "
            f"the plan says {sample_count / SAMPLE_RATE_HZ:.3f} s",
        )
