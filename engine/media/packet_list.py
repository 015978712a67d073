"""The video packets of a file: what a container says of each, and the first frame that decodes."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from fractions import Fraction
from typing import Self

import av
import numpy as np
from numpy.typing import NDArray

from engine.errors import SourceError
from engine.location import SourceLocation
from engine.media.container import family_of, is_damage, packets_of
from engine.media.mp4_index import SkimmingReader

TRANSPORT = {"mpegts", "mpeg", "flv"}
"""Containers whose clock may jump: they were made for streams, and are cut and put end to end."""

LONGEST_GAP_S = 10
"""A longer gap is a jump of the clock there, unless sound fills it. The ffmpeg program's limit."""

_LONGEST_REORDER_S = 1
LONGEST_REORDER_FRAMES = 16
"""How far a packet may come after those that are shown later: as far as H.264's decoders can hold
frames back."""


@dataclass(frozen=True, slots=True)
class PacketList:
    """The video packets of a file, in file order; times in ticks."""

    pts: list[int | None]
    dts: list[int | None]
    duration: list[int]
    key: list[bool]
    shown: list[bool]
    """False for a packet that an edit list hides: it is only decoded."""
    position: list[int | None]
    """The byte in the file at which the packet begins; None where the demuxer does not know."""
    corrupt: list[bool]
    indexed: int
    """Entries in the container's index before anything was read."""
    late_streams: list[bool]
    """Has an entry for each other stream that began while these packets were read."""

    @classmethod
    def empty(cls, indexed: int) -> Self:
        """No packets yet."""
        return cls([], [], [], [], [], [], [], indexed, [])

    def known_pts(self) -> NDArray[np.int64]:
        """The timestamps there are, ascending."""
        return np.array(sorted({tick for tick in self.pts if tick is not None}), np.int64)

    def shown_pts(self) -> NDArray[np.int64] | None:
        """Timestamps of the shown frames, ascending; None where one is missing or occurs twice."""
        pts = [tick for tick, shown in zip(self.pts, self.shown, strict=True) if shown]
        unique = np.array(sorted({tick for tick in pts if tick is not None}), np.int64)
        return unique if len(unique) == len(pts) > 0 else None

    def clock_jumps(self, step: int, time_base: Fraction, family: str) -> bool:
        """Whether timestamps go back, or far ahead, further than reordering explains."""
        pts = np.array([tick for tick in self.pts if tick is not None], np.int64)
        latest = np.maximum.accumulate(pts)
        # a raw stream has no timestamps at all: nothing of it jumps
        behind = int(np.max(latest - pts, initial=0))
        ahead = int(np.max(np.diff(latest), initial=0))
        reorder = max(_LONGEST_REORDER_S / time_base, Fraction(LONGEST_REORDER_FRAMES * step))
        gap = LONGEST_GAP_S / time_base if family in TRANSPORT else None
        return behind > reorder or (gap is not None and ahead > gap)


def read_packets(
    container: av.container.InputContainer,
    stream: av.VideoStream,
    location: SourceLocation,
    reader: SkimmingReader | None,
) -> tuple[PacketList, av.VideoFrame]:
    """All packets, and the first frame that decodes; an MP4 is skimmed from there on.

    Raises SourceError where no frame decodes.
    """
    packets = PacketList.empty(len(stream.index_entries))
    first: av.VideoFrame | None = None
    for packet in packets_until_damage(container, stream, location, packets.late_streams):
        if first is None:
            first = next(iter(decoded_frames(packet)), None)
            if first is not None and reader and family_of(container) == "mov":
                reader.skim()
        if packet.size:
            packets.dts.append(packet.dts)
            packets.pts.append(packet.pts)
            packets.duration.append(packet.duration or 0)
            packets.key.append(packet.is_keyframe)
            packets.shown.append(not packet.is_discard)
            packets.position.append(packet.pos)
            packets.corrupt.append(packet.is_corrupt)
    if first is None:
        raise SourceError(location, "has no video frame that can be decoded")
    if reader and reader.skimming:
        keys = {entry.timestamp for entry in stream.index_entries if entry.is_keyframe}
        packets.key[:] = [tick in keys for tick in packets.dts]
    return packets, first


def packets_until_damage(
    container: av.container.InputContainer,
    stream: av.VideoStream,
    location: SourceLocation,
    late_streams: list[bool],
) -> Iterator[av.Packet[av.VideoStream]]:
    """The packets up to the end, or up to damage that a demuxer cannot pass.

    Another stream that begins on the way is noted in `late_streams`.
    The frames that an index lists beyond are added to the list of frames; decoding finds them
    missing.
    """
    try:
        yield from packets_of(container, stream, on_late_stream=lambda: late_streams.append(True))
    except av.FFmpegError as error:
        if not is_damage(error):
            raise SourceError(location, f"cannot be read: {error.strerror}") from error
    except OSError as error:
        raise SourceError(location, f"cannot be read: {error.strerror}") from error


def decoded_frames(packet: av.Packet[av.VideoStream]) -> list[av.VideoFrame]:
    """The frames that a packet gives; none where it is damaged."""
    try:
        return packet.decode()
    except av.FFmpegError:
        return []  # the frame is not listed, or FrameReader finds it missing
