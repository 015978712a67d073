"""A film of two hours at 1 Mbit/s that is written in a moment: of most of it only the index.

Most of its samples are zeros, which take no room on a disk. In a few stretches its frames decode,
and have their numbers painted (see `clips.py`).
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any, BinaryIO

import av

from engine.media.container import time_base_of
from tests.clips import BITS, frame_of, painted

LENGTH_S, FPS, GOP = 7200, 5, 10
FRAME_BYTES = 25_000
SOUND_RATE_HZ, SOUND_SAMPLES = 8000, 1024
SOUND_BYTES = 1024
SIZE = (64, 48)

Stretches = Iterable[tuple[int, int]]
"""Starts and stops in seconds."""


def number_at(index: int) -> int:
    """The number painted into frame `index`."""
    return index % (1 << BITS)


def held_bytes(length_s: float) -> float:
    """Bytes of picture and sound in so many seconds of the film."""
    return length_s * (FPS * FRAME_BYTES + SOUND_RATE_HZ / SOUND_SAMPLES * SOUND_BYTES)


def long_film(path: Path, stretches_s: Stretches, *, index_first: bool) -> None:
    """Writes the film as an MP4, with a key frame every 2 s and a silent sound track.

    It decodes in its first 4 s, in `stretches_s` and for 4 s before and after them.
    """
    real = {
        index
        for start_s, stop_s in [(0, 0), *stretches_s]
        for index in range(max(0, start_s // 2 * 2 - 4) * FPS, (stop_s // 2 * 2 + 6) * FPS)
    }
    template = path.with_name("template.mp4")
    _write_template(template, sorted(real))
    options = {"moov_size": str(2 << 20)} if index_first else {}
    with (
        av.open(str(template)) as given,
        path.open("wb") as file,
        av.open(_Sparse(file), "w", format="mp4", options=options) as container,
    ):
        streams = given.streams.video[0], given.streams.audio[0]
        packets = [packet for packet in given.demux(streams) if packet.size]
        frames = {each.pts: bytes(each) for each in packets if each.stream is streams[0]}
        silence = next(bytes(each) for each in packets if each.stream is streams[1])
        ticks_per_frame = round(1 / (FPS * time_base_of(streams[0])))
        video, sound = map(container.add_stream_from_template, streams)
        sound_index = 0
        for index in range(LENGTH_S * FPS):
            data = frames.get(index * ticks_per_frame, b"")
            frame = _packet(video, _filled(data) if data else bytes(FRAME_BYTES))
            frame.pts = frame.dts = index * ticks_per_frame
            frame.duration, frame.is_keyframe = ticks_per_frame, index % GOP == 0
            container.mux_one(frame)
            while sound_index * SOUND_SAMPLES * FPS < (index + 1) * SOUND_RATE_HZ:
                part = silence.ljust(SOUND_BYTES, b"\0") if data else bytes(SOUND_BYTES)
                piece = _packet(sound, part)
                piece.pts = piece.dts = sound_index * SOUND_SAMPLES
                piece.duration = SOUND_SAMPLES
                container.mux_one(piece)
                sound_index += 1
    template.unlink()


def index_bytes(path: Path) -> int:
    """The length of an MP4's index, its `moov`."""
    at, lengths = 0, {}
    with path.open("rb") as file:
        while at < path.stat().st_size:
            file.seek(at)
            head = file.read(16)
            short, name = int.from_bytes(head[:4]), head[4:8]
            lengths[name] = int.from_bytes(head[8:]) if short == 1 else short
            at += lengths[name]
    return lengths[b"moov"]


def _write_template(path: Path, indices: Iterable[int]) -> None:
    """The frames with these numbers, at their times, and a little silence."""
    with av.open(str(path), "w") as container:
        options = {"preset": "ultrafast", "sc_threshold": "0", "bf": "0"}
        video = container.add_stream("libx264", rate=FPS, options=options)
        sound = container.add_stream("aac", rate=SOUND_RATE_HZ, layout="mono")
        assert isinstance(video, av.VideoStream) and isinstance(sound, av.AudioStream)
        video.width, video.height = SIZE
        video.pix_fmt, video.codec_context.gop_size = "yuv420p", GOP
        for index in indices:
            frame = frame_of(painted(number_at(index), SIZE), "yuv420p")
            frame.pts = index
            container.mux(video.encode(frame))
        container.mux(video.encode(None))
        silence = av.AudioFrame("fltp", "mono", 4 * SOUND_SAMPLES)
        silence.sample_rate = SOUND_RATE_HZ
        for plane in silence.planes:
            plane.update(bytes(plane.buffer_size))
        container.mux([*sound.encode(silence), *sound.encode(None)])


def _packet(stream: av.stream.Stream, data: bytes) -> av.Packet[Any]:
    packet: av.Packet[Any] = av.Packet(data)
    packet.stream, packet.time_base = stream, time_base_of(stream)
    return packet


def _filled(data: bytes) -> bytes:
    """An H.264 frame with filler data up to `FRAME_BYTES`."""
    length = FRAME_BYTES - len(data) - 4
    return data + length.to_bytes(4) + b"\x0c" + b"\xff" * (length - 2) + b"\x80"


class _Sparse:
    """Writes zeros as holes."""

    def __init__(self, file: BinaryIO) -> None:
        self._file = file
        self.seek, self.tell = file.seek, file.tell

    def write(self, data: bytes) -> int:
        if data != bytes(len(data)):
            return self._file.write(data)
        self._file.seek(len(data), 1)
        return len(data)
