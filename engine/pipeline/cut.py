"""The part of a file that a range of time covers, and how much of it can be copied.

Reads packets, decodes nothing and writes nothing. Knows no edit and no plan.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from fractions import Fraction

import av
import numpy as np
from av.video.stream import VideoStream

from engine.errors import EditError
from engine.media.container import open_container, packets_of, video_stream
from engine.media.h264 import has_usual_lengths, is_idr
from engine.source import SourceInfo
from engine.storage import ObjectReader
from engine.timing import FrameRange, exact_seconds

TOLERANCE_S = Fraction(1, 1000)
"""Container timestamps are rounded. A plan chooses the frame to show with the same tolerance."""

_COPIED_FORMATS = {"yuv420p", "yuvj420p"}
_COPIED_CONTAINERS = {"mov", "matroska"}


@dataclass(frozen=True, slots=True)
class Cut:
    """The part of a source that a range of time covers."""

    frames: FrameRange
    """Indices into the source's `frame_pts`."""
    start_s: Fraction
    """When the first frame appears, in source time."""
    stop_s: Fraction
    """When the last frame disappears, in source time."""

    @property
    def duration_s(self) -> Fraction:
        """How long the frames are shown."""
        return self.stop_s - self.start_s


def planned_cut(source: SourceInfo, start_s: Fraction | str, stop_s: Fraction | str | None) -> Cut:
    """The frames that are shown in `[start_s, stop_s)`, in source presentation time.

    The first is the one on screen at `start_s`. No end, or one after the end of the file, means the
    end of the file. Raises `EditError` for a range without a frame.
    """
    start = exact_seconds(Fraction(start_s))
    stop = None if stop_s is None else exact_seconds(Fraction(stop_s))
    if stop is not None and stop <= start:
        raise EditError("end", f"must be after the start at {float(start):g} s")
    if start >= source.duration_s:
        raise EditError("start", f"must be before the end at {float(source.duration_s):.3f} s")
    ticks = source.frame_pts

    def first_after(time_s: Fraction) -> int:
        """Index of the first frame that is not shown yet at `time_s`."""
        tick = int(ticks[0]) + math.floor(time_s / source.time_base)
        return int(np.searchsorted(ticks, tick, side="right"))

    first = max(0, first_after(start + TOLERANCE_S) - 1)
    last = len(ticks) - 1 if stop is None else max(first, first_after(stop - TOLERANCE_S) - 1)
    frames = FrameRange(first, last + 1)
    return Cut(frames, source.time_of(ticks[first]), _time_at(source, frames.stop))


def cut_warnings(source: SourceInfo, stop_s: Fraction | str | None) -> list[str]:
    """What had to be repaired in the source, and an end that is past its own."""
    repairs = [f"{source.location}: {each}" for each in source.repairs]
    if stop_s is None or Fraction(stop_s) <= source.duration_s + TOLERANCE_S:
        return repairs
    return [
        *repairs,
        f"end: {float(Fraction(stop_s)):g} s is past the end of the file; "
        f"clamped to {float(source.duration_s):.3f} s",
    ]


def _time_at(source: SourceInfo, index: int) -> Fraction:
    """When the frame appears, or the end of the file for the index after the last frame."""
    inside = index < len(source.frame_pts)
    return source.time_of(source.frame_pts[index] if inside else source.end_pts)


@dataclass(frozen=True, slots=True)
class CopiedRange:
    """The frames whose packets are copied: from one IDR to another, or none."""

    frames: FrameRange
    reorder_frames: int
    """How many frames a decoder must hold back to put them in order of presentation."""
    why: str
    """Why the other frames of the cut are encoded."""


def copied_range(source: SourceInfo, frames: FrameRange, store: ObjectReader | None) -> CopiedRange:
    """What of these frames can be copied."""

    def nothing(why: str) -> CopiedRange:
        return CopiedRange(FrameRange(frames.start, frames.start), 0, f"all frames: {why}")

    if (obstacle := _obstacle(source, store)) is not None:
        return nothing(obstacle)
    borders, seen, reorder_frames = _idr_frames(source, frames, store)
    if frames.stop == len(source.frame_pts):
        borders.append(frames.stop)
    if len(borders) < 2:
        return nothing("no whole closed GOP lies in the range")
    copied = FrameRange(borders[0], borders[-1])
    if not seen.issuperset(copied):
        return nothing("some are missing in the file, and are made good")
    if copied == frames:
        why = "nothing: the range begins and ends at key frames"
    else:
        why = "frames before the first and after the last key frame of the range"
    return CopiedRange(copied, reorder_frames, why)


def _obstacle(source: SourceInfo, store: ObjectReader | None) -> str | None:
    """Why nothing of this source can be copied, None where it can."""
    if source.codec != "h264":
        return f"the source is {source.codec}, and only H.264 is copied"
    if source.container not in _COPIED_CONTAINERS or not len(source.keyframe_pts):
        return f"key frames of this {source.container} file cannot be relied on"
    if source.pixel_format not in _COPIED_FORMATS or source.interlaced:
        return "only progressive 8-bit 4:2:0 is copied"
    with open_container(source.location, store) as container:
        extradata = video_stream(container, source.location).codec_context.extradata or b""
    if not has_usual_lengths(extradata):
        return "its parameter sets are not kept as usual"
    return None


def _idr_frames(
    source: SourceInfo, frames: FrameRange, store: ObjectReader | None
) -> tuple[list[int], set[int], int]:
    """Indices of the IDR frames in `[start, stop]`, of all frames with a packet, and the longest
    reordering in frames."""
    found: list[int] = []
    seen: set[int] = set()
    delay = decoded = 0
    for index, packet in packets_around(source, frames, store):
        seen.add(index)
        if index in range(frames.start, frames.stop + 1) and is_idr(bytes(packet)):
            found.append(index)
            decoded = index
        if found:
            delay, decoded = max(delay, decoded - index), decoded + 1
    return found, seen, delay


def packets_around(
    source: SourceInfo, frames: FrameRange, store: ObjectReader | None
) -> Iterator[tuple[int, av.Packet[VideoStream]]]:
    """Packets with the indices of their frames, in decoding order: from the key frame at or before
    the range until one after it."""
    keys = np.searchsorted(source.frame_pts, source.keyframe_pts)
    place = int(np.searchsorted(keys, frames.start, side="right")) - 1
    with open_container(source.location, store) as container:
        stream = video_stream(container, source.location)
        container.seek(int(source.frame_pts[keys[max(0, place)]]), stream=stream)
        for packet in packets_of(container, stream):
            if packet.size and packet.pts is not None:
                index = int(np.searchsorted(source.frame_pts, packet.pts))
                yield index, packet
                if packet.is_keyframe and index >= frames.stop:
                    return


def presentation_times_s(source: SourceInfo, cut: Cut) -> list[Fraction]:
    """When each frame of the cut is shown, counted from its first frame."""
    ticks = source.frame_pts[cut.frames.start : cut.frames.stop].tolist()
    return [(tick - ticks[0]) * source.time_base for tick in ticks]
