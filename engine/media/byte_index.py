"""Places to seek to in streams without an index: the bytes at which key frames begin.

FFmpeg seeks in a transport stream by time through bisection, and lands anywhere. So it is sent to a
byte, and what comes first must be the key frame that was expected.

A long stream is not decoded to list its frames, as a short one is: its packets are taken for
frames, once a few dozen frames at its beginning, middle and end have shown that they are.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import av
import numpy as np
from numpy.typing import NDArray

from engine.location import SourceLocation
from engine.media.container import open_container, packets_of, video_stream
from engine.media.packet_list import PacketList
from engine.storage.objects import ObjectReader

SEEKS_BY_BYTE = {"mpegts", "mpeg", "flv"}
"""Containers without an index of key frames."""

LONG_PACKETS = 3000
"""Streams of fewer packets are decoded to list their frames: at 25 frames/s, two minutes."""

_TRIED_FRAMES = 36
"""Decoded at each place that is tried: more than a decoder holds back."""

_LEAST_STEP = 0.75
"""Of the typical step. Where packets come closer in an interlaced stream, they are fields."""


@dataclass(frozen=True, slots=True)
class TriedFrames:
    """The frames of a long stream, as its packets list them."""

    pts: NDArray[np.int64]
    interlaced: bool


def key_positions(packets: PacketList) -> dict[int, int]:
    """By timestamp of a key frame: the byte at which it begins."""
    rows = zip(packets.pts, packets.key, packets.position, strict=True)
    return {pts: at for pts, key, at in rows if key and pts is not None and at is not None}


def frames_by_packets(
    packets: PacketList, first: av.VideoFrame, location: SourceLocation, store: ObjectReader | None
) -> TriedFrames | None:
    """The frames of a long stream without decoding them all; None where packets are not frames."""
    listed, positions = packets.shown_pts(), key_positions(packets)
    if len(packets.pts) < LONG_PACKETS or listed is None or any(packets.corrupt):
        return None
    if first.pts is None:
        return None
    pts = listed[listed >= first.pts]  # before it are frames that refer to some before the file
    keys = sorted(tick for tick in positions if tick >= first.pts)
    if not keys or pts[0] != first.pts:
        return None
    interlaced = False
    with open_container(location, store) as container:
        stream = video_stream(container, location)
        for key in (keys[0], keys[len(keys) // 2], keys[-1]):
            frames = _frames_from(container, stream, positions[key], key)
            shown = [frame.pts for frame in frames if frame.pts is None or frame.pts >= key]
            start = int(np.searchsorted(pts, key))
            if not shown or shown != pts[start : start + len(shown)].tolist():
                return None
            interlaced |= any(frame.interlaced_frame for frame in frames)
    steps = np.diff(pts)
    if interlaced and steps.min() < _LEAST_STEP * np.median(steps):
        return None
    return TriedFrames(pts, interlaced)


def _frames_from(
    container: av.container.InputContainer, stream: av.VideoStream, position: int, key: int
) -> list[av.VideoFrame]:
    """The next frames from a key frame on; none where the byte is not its beginning."""
    frames: list[av.VideoFrame] = []
    try:
        packets = seek_to_byte(container, stream, position)
        for number, packet in enumerate(packets):
            if number == 0 and packet.pts != key:
                return []
            frames += packet.decode()
            if len(frames) >= _TRIED_FRAMES:
                break
    except (av.FFmpegError, OSError):
        return []
    return frames


def seek_to_byte(
    container: av.container.InputContainer, stream: av.VideoStream, position: int
) -> Iterator[av.Packet[av.VideoStream]]:
    """The packets of a stream from a byte of the file on. Raises FFmpegError."""
    container.seek(position, unsupported_byte_offset=True)
    stream.codec_context.flush_buffers()
    return packets_of(container, stream)
