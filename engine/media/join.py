"""Joins chunks, the sound track and chapters into the final MP4 by copying packets.

Nothing is decoded or encoded here. The file is read back and compared with what was asked for
before it takes its final name.
"""

from __future__ import annotations

import heapq
from collections.abc import Callable, Iterator, Sequence
from fractions import Fraction
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
from engine.media.chapters import ChapterMark, write_chapters
from engine.media.container import packets_of
from engine.media.inspect import ChunkFile, check_film, inspect_file
from engine.timing import SAMPLE_RATE_HZ

Packet: TypeAlias = "AvPacket[Stream]"

MP4_OPTIONS = {
    "movflags": "+faststart",
    # edit lists count in this: at the default of 1000 the sound would be cut to whole milliseconds
    "movie_timescale": str(SAMPLE_RATE_HZ),
}


def join(
    chunks: Sequence[ChunkFile],
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

    `on_step` is called now and then and may raise to stop. `let_go` is told of a chunk file whose
    packets are in memory and which is not read again: a caller that deletes it never has the export
    on disk twice, but loses the chunk if the join fails after that. Raises `ChunkError` where the
    chunks do not fit each other, and `JoinError` where the file that came out is not what was asked
    for.
    """
    _check_they_fit(chunks, size, fps)
    with whole_file(destination) as path:
        try:
            with av.open(file_url(path), "w", format="mp4", options=MP4_OPTIONS) as container:
                _write(container, chunks, sound, chapters, fps, on_step, let_go)
        except FFmpegError as error:
            raise JoinError(f"{destination}: cannot be written ({error.strerror})") from error
        check_film(
            inspect_file(path),
            destination,
            frame_count=frame_count,
            sample_count=sample_count,
            fps=fps,
            size=size,
        )


def _check_they_fit(chunks: Sequence[ChunkFile], size: Size, fps: Fraction) -> None:
    if not chunks:
        raise JoinError("there is no chunk to join")
    first = chunks[0].parameters
    for chunk in chunks:
        found = chunk.parameters
        if (found.size, found.fps) != (size, fps):
            raise ChunkError(
                f"{chunk.path}: is {found.size} at {found.fps} fps, not {size} at {fps}"
            )
        if (found.codec, found.parameter_sets) != (first.codec, first.parameter_sets):
            raise ChunkError(
                f"{chunk.path}: its stream parameters are not those of {chunks[0].path}"
            )


def _write(
    container: OutputContainer,
    chunks: Sequence[ChunkFile],
    sound: Path | None,
    chapters: Sequence[ChapterMark],
    fps: Fraction,
    on_step: Callable[[], None],
    let_go: Callable[[Path], None] | None,
) -> None:
    with av.open(file_url(chunks[0].path)) as template:
        video = container.add_stream_from_template(template.streams.video[0])
    assert isinstance(video, VideoStream)
    video.time_base = 1 / fps
    packets: list[Iterator[tuple[float, Packet]]] = [_joined(chunks, fps, video, let_go)]
    if sound is None:
        write_chapters(container, chapters)
        mux_in_order(container, packets, on_step)
        return
    with av.open(file_url(sound)) as track:
        stream = container.add_stream_from_template(track.streams.audio[0])
        assert isinstance(stream, AudioStream)
        write_chapters(container, chapters)
        mux_in_order(container, [*packets, sound_packets(track, stream)], on_step)


def mux_in_order(
    container: OutputContainer,
    streams: Sequence[Iterator[tuple[float, Packet]]],
    on_step: Callable[[], None],
) -> None:
    """Interleaves packets by decoding time in seconds, so that the muxer holds only a few."""
    for _, packet in heapq.merge(*streams, key=lambda timed: timed[0]):
        on_step()
        container.mux_one(packet)


def _joined(
    chunks: Sequence[ChunkFile],
    fps: Fraction,
    stream: VideoStream,
    let_go: Callable[[Path], None] | None,
) -> Iterator[tuple[float, Packet]]:
    """The packets of all chunks on one time line, each with its decoding time in seconds.

    An encoder that was given fewer frames than it holds back spaces its decoding times otherwise
    than for a long chunk. So they are counted again: packet k of the export is decoded
    at k - (the longest reordering of any chunk).
    """
    delay = max(chunk.reorder_frames for chunk in chunks)
    decoded = first_frame = 0
    last_place = {chunk.path: place for place, chunk in enumerate(chunks)}
    for place, chunk in enumerate(chunks):
        with av.open(file_url(chunk.path)) as container:
            packets = list(_packets(container, container.streams.video[0]))  # some megabytes
        if let_go is not None and last_place[chunk.path] == place:
            let_go(chunk.path)
        for packet in packets:
            if packet.pts is None:
                raise ChunkError(f"{chunk.path}: a packet has no timestamp")
            packet.pts = first_frame + round(packet.pts * packet.time_base * fps)
            packet.dts = decoded - delay
            packet.duration = 1
            packet.time_base = 1 / fps
            packet.stream = stream
            decoded += 1
            yield float(packet.dts / fps), packet
        first_frame += chunk.frame_count


def sound_packets(track: InputContainer, stream: AudioStream) -> Iterator[tuple[float, Packet]]:
    """The packets of a track's first sound stream, each with its decoding time in seconds.

    They are handed to `stream` of the output. Raises `JoinError` for a packet without a time.
    """
    for packet in _packets(track, track.streams.audio[0]):
        if packet.dts is None:
            raise JoinError("a sound packet has no timestamp")
        at_s = float(packet.dts * packet.time_base)
        packet.stream = stream
        yield at_s, packet


def _packets(container: InputContainer, stream: VideoStream | AudioStream) -> Iterator[Packet]:
    return (packet for packet in packets_of(container, stream) if packet.size)
