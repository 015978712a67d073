"""Lists the frames of a source: when each is shown, which are key frames, when the last one ends.

Where a container's packets are not reliably frames (MPEG-TS and PS, interlaced streams, frames
without timestamps), the file is decoded once to list its frames.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from fractions import Fraction

import av
import numpy as np
from numpy.typing import NDArray

from engine.location import SourceLocation
from engine.media.byte_index import SEEKS_BY_BYTE, frames_by_packets, key_positions
from engine.media.container import (
    family_of,
    open_container,
    packets_of,
    tagged_duration_s,
    time_base_of,
    video_stream,
)
from engine.media.frame_times import (
    ClockJump,
    clock_jumps,
    only_jumps,
    repaired,
    without_jumps,
)
from engine.media.mp4_index import SkimmingReader
from engine.media.packet_list import (
    LONGEST_GAP_S,
    LONGEST_REORDER_FRAMES,
    TRANSPORT,
    PacketList,
    decoded_frames,
    packets_until_damage,
    read_packets,
)
from engine.source import FieldOrder
from engine.storage.objects import ObjectReader
from engine.timing import round_half_up

TAIL_TOLERANCE_S = Fraction(1, 2)
"""A file may end this much earlier than its container declares without missing frames."""

_SEEKABLE = {"mov", "matroska", "avi"}
_INTRA = {"mjpeg", "prores", "dnxhd", "ffv1", "rawvideo"}
_FRAME_PER_PACKET = {  # by container: codecs whose packets are frames, with the right timestamps
    "mov": _INTRA | {"h264", "hevc", "vp9", "av1"},
    "matroska": _INTRA | {"h264", "hevc", "vp9", "av1"},
    "flv": {"h264", "hevc", "av1"},
    "avi": _INTRA,  # AVI knows no reordering
}
_FIELD_ORDERS = {  # by AVFieldOrder: TT, BB, TB, BT; the second letter is what is shown first
    2: FieldOrder.TOP_FIRST,
    3: FieldOrder.BOTTOM_FIRST,
    4: FieldOrder.BOTTOM_FIRST,
    5: FieldOrder.TOP_FIRST,
}


@dataclass(frozen=True, slots=True)
class SourceFrames:
    """The shown frames of a source, in ticks of its video stream."""

    pts: NDArray[np.int64]
    """Ascending, shape (frames,)."""
    keyframe_pts: NDArray[np.int64]
    """Those that a decoder can start from; none where a seek may not find them."""
    keyframe_bytes: NDArray[np.int64] | None
    """See `SourceInfo.keyframe_bytes`."""
    end_pts: int
    """When the last frame stops being shown."""
    interlaced: bool
    field_order: FieldOrder | None
    """See `SourceInfo.field_order`."""
    by_order: bool
    """See `SourceInfo.known_by_order`."""
    clock_shifts: tuple[int, ...]
    """See `SourceInfo.clock_shifts_s`."""
    repairs: tuple[str, ...]
    first: av.VideoFrame
    """The first frame that decodes."""
    origin_pts: int
    """The time at which the first frame is shown, as the file's other streams count."""
    late_streams: bool
    """Another stream began in the middle of the file."""


def read_frames(
    container: av.container.InputContainer,
    stream: av.VideoStream,
    location: SourceLocation,
    store: ObjectReader | None,
    reader: SkimmingReader | None,
) -> SourceFrames:
    """Reads the packets of `stream` to the end. Raises SourceError where no frame decodes."""
    family = family_of(container)
    packets, first = read_packets(container, stream, location, reader)
    shown = _list_frames(packets, first, stream, family, location, store)
    keyframe_pts, keyframe_bytes = _keyframes(shown, packets, family)
    step = _typical_step(shown.pts, stream)
    end_pts = _end_pts(shown, packets, step)
    declared_end = _declared_end(shown, packets, stream, container)
    if declared_end and family == "avi" and packets.indexed == len(packets.pts):
        end_pts = max(end_pts, declared_end)  # it ends in dropped frames: chunks without a picture
    elif declared_end and (declared_end - end_pts) * time_base_of(stream) > TAIL_TOLERANCE_S:
        shown = _with_missing_tail(shown, end_pts, declared_end, step)
        end_pts = declared_end
    if family == "flv":
        shown = replace(
            shown, repairs=(*shown.repairs, *_cut_short(shown, end_pts, container, stream))
        )
    listed_end = int(shown.pts[0]) + (stream.duration or 0)
    if family == "mov" and shown.pts[-1] < listed_end:
        end_pts = min(end_pts, listed_end)  # an edit list may end inside the last frame
    return SourceFrames(
        pts=shown.pts,
        keyframe_pts=keyframe_pts,
        keyframe_bytes=keyframe_bytes,
        end_pts=end_pts,
        interlaced=shown.interlaced,
        field_order=shown.field_order,
        by_order=shown.by_order,
        clock_shifts=shown.clock_shifts,
        repairs=shown.repairs,
        first=first,
        origin_pts=_origin(shown, packets, family),
        late_streams=bool(packets.late_streams),
    )


@dataclass(frozen=True, slots=True)
class _FrameList:
    """The frames that are shown, by ascending timestamps."""

    pts: NDArray[np.int64]
    interlaced: bool
    by_order: bool
    """See `SourceInfo.known_by_order`."""
    last_written: int | None = None
    """The last frame's timestamp in the file, where it got another one."""
    clock_shifts: tuple[int, ...] = ()
    repairs: tuple[str, ...] = ()
    field_order: FieldOrder | None = None


def _list_frames(
    packets: PacketList,
    first: av.VideoFrame,
    stream: av.VideoStream,
    family: str,
    location: SourceLocation,
    store: ObjectReader | None,
) -> _FrameList:
    """The shown frames: from the packets where those can be trusted, else by decoding."""
    codec = stream.codec.canonical_name
    order = _FIELD_ORDERS.get(stream.codec_context.field_order)
    interlaced = first.interlaced_frame or order is not None
    pts = packets.shown_pts()
    one_to_one = codec in _FRAME_PER_PACKET.get(family, ())
    step = _typical_step(packets.known_pts(), stream)
    goes_on = not packets.clock_jumps(step, time_base_of(stream), family)
    if one_to_one and not interlaced and pts is not None and pts[0] == first.pts and goes_on:
        return _FrameList(pts, interlaced=False, by_order=False)
    if family in SEEKS_BY_BYTE and goes_on:
        tried = frames_by_packets(packets, first, location, store)
        if tried is not None:
            return _FrameList(tried.pts, tried.interlaced, by_order=False)
    listed = _list_by_decoding(location, store, step, family)
    if order is not None and not listed.interlaced and codec in _INTRA:
        # only H.26x and MPEG-2 tell of each picture what it is
        listed = replace(listed, interlaced=True, field_order=order)
    return listed


def _list_by_decoding(
    location: SourceLocation, store: ObjectReader | None, step: int, family: str
) -> _FrameList:
    """Decodes the whole file once for the timestamps of its frames, in the order they are shown.

    Where these do not ascend, frames are identified by their order. Timestamps that are only in
    another order are sorted. Of others, jumps of the clock are closed first, and then single ones
    are repaired.
    """
    pts: list[int | None] = []
    interlaced = False
    with open_container(location, store) as container:
        stream = video_stream(container, location)
        time_base = time_base_of(stream)
        for packet in packets_until_damage(container, stream, location, []):
            for frame in decoded_frames(packet):
                pts.append(frame.pts)
                interlaced |= frame.interlaced_frame
    longest_gap = int(LONGEST_GAP_S / time_base) if family in TRANSPORT else None
    jumps = only_jumps(
        clock_jumps(pts, step, longest_gap),
        lambda jump: (
            jump.after < jump.before
            or not _has_sound_between(
                location, store, jump.before * time_base, jump.after * time_base
            )
        ),
    )
    known = np.array([tick for tick in pts if tick is not None], np.int64)
    if not jumps and len(known) == len(pts):
        if np.all(np.diff(known) > 0):
            return _FrameList(known, interlaced, by_order=False)
        order = np.argsort(known, kind="stable")
        moved = np.abs(order - np.arange(len(order)))
        if np.all(np.diff(known[order]) > 0) and moved.max() <= LONGEST_REORDER_FRAMES:
            return _FrameList(known[order], interlaced, by_order=True)
    made, wrong = repaired(without_jumps(pts, jumps), step)
    times_s = [float((int(tick) - int(made[0])) * time_base) for tick in made]
    return _FrameList(
        made,
        interlaced,
        by_order=True,
        last_written=pts[-1] if pts else None,
        clock_shifts=tuple(jump.shift for jump in jumps),
        repairs=(*_tell_jumps(jumps, times_s, time_base), *_tell_wrong(wrong, times_s)),
    )


def _has_sound_between(
    location: SourceLocation, store: ObjectReader | None, start_s: Fraction, stop_s: Fraction
) -> bool:
    """Whether the file has sound within a gap of its picture: then it is no jump of the clock."""
    with open_container(location, store) as container:
        for other in container.streams:
            if other.type != "audio":
                other.discard = av.stream.Discard.all
        if not container.streams.audio:
            return False
        for packet in packets_of(container, container.streams.audio):
            if packet.pts is None or packet.time_base is None:
                continue
            if start_s + 1 < packet.pts * packet.time_base < stop_s - 1:
                return True
    return False


def _tell_jumps(
    jumps: Sequence[ClockJump], times_s: Sequence[float], time_base: Fraction
) -> list[str]:
    return [
        f"its clock jumps from {float(jump.before * time_base):.3f} to "
        f"{float(jump.after * time_base):.3f} s: what follows {times_s[jump.index]:.3f} s is moved "
        "so that picture and sound go on"
        for jump in jumps
    ]


def _tell_wrong(wrong: Sequence[int], times_s: Sequence[float]) -> list[str]:
    if not wrong:
        return []
    frames = (
        "1 frame has a wrong time" if len(wrong) == 1 else f"{len(wrong)} frames have wrong times"
    )
    first_s, last_s = times_s[wrong[0]], times_s[wrong[-1]]
    where = f"at {first_s:.3f} s" if len(wrong) == 1 else f"from {first_s:.3f} to {last_s:.3f} s"
    return [f"{frames}, {where}: shown between the frames before and after"]


def _with_missing_tail(shown: _FrameList, end: int, declared_end: int, step: int) -> _FrameList:
    """`shown` with the frames added that should fill `[end, declared_end)`; the file lacks them."""
    tail = np.arange(end, declared_end, step, dtype=np.int64)
    return replace(shown, pts=np.concatenate([shown.pts, tail]))


def _declared_end(
    shown: _FrameList,
    packets: PacketList,
    stream: av.VideoStream,
    container: av.container.InputContainer,
) -> int | None:
    """When the picture ends according to the container; None where it is not reliable."""
    if stream.frames > len(packets.pts) and stream.duration:  # MP4, MOV and AVI count their frames
        return int(shown.pts[0]) + stream.duration
    stream_end_s = tagged_duration_s(stream)
    if stream_end_s and container.duration:
        container_end_s = Fraction(container.duration, av.time_base)
        return round_half_up(min(stream_end_s, container_end_s) / time_base_of(stream))
    return None


def _cut_short(
    shown: _FrameList,
    end_pts: int,
    container: av.container.InputContainer,
    stream: av.VideoStream,
) -> list[str]:
    """What to say of a file whose header promises more than there is, but not how much picture."""
    promised_s = Fraction(container.duration or 0, av.time_base)
    there_s = (end_pts - int(shown.pts[0])) * time_base_of(stream)
    if promised_s - there_s <= TAIL_TOLERANCE_S:
        return []
    return [
        f"its header promises {float(promised_s):.3f} s, and its picture ends at "
        f"{float(there_s):.3f} s: the film ends there"
    ]


def _end_pts(shown: _FrameList, packets: PacketList, step: int) -> int:
    """When the last frame stops being shown, by its own duration, else after a typical step."""
    last = int(shown.pts[-1])
    written = last if shown.last_written is None else shown.last_written
    duration = 0
    if not shown.interlaced and written in packets.pts:  # a field lasts half a frame
        duration = packets.duration[packets.pts.index(written)]
    return last + (duration or step)


def _origin(shown: _FrameList, packets: PacketList, family: str) -> int:
    """When the first frame is shown, as the other streams count.

    AVI has no timestamps: frames are shown in the order of their chunks, the first one at once.
    FFmpeg gives the first one of a stream with B-frames the time of the second chunk.
    """
    first = int(shown.pts[0])
    stored_at = packets.dts[0] if family == "avi" else None
    return first if stored_at is None else min(first, stored_at)


def _typical_step(pts: NDArray[np.int64], stream: av.VideoStream) -> int:
    """Ticks from frame to frame: the median, else by the container's rate, else 1/25 s."""
    if len(pts) > 1:
        return max(1, int(np.median(np.diff(pts))))
    rate = stream.average_rate or stream.guessed_rate or Fraction(25)
    return max(1, round_half_up(1 / rate / time_base_of(stream)))


def _keyframes(
    shown: _FrameList, packets: PacketList, family: str
) -> tuple[NDArray[np.int64], NDArray[np.int64] | None]:
    """Key frames that are also shown, and their bytes; none where a seek may not find them."""
    ticks = set(shown.pts.tolist())
    if not shown.by_order and family in SEEKS_BY_BYTE:
        positions = key_positions(packets)
        found = sorted(ticks & positions.keys())
        return np.array(found, np.int64), np.array([positions[tick] for tick in found], np.int64)
    if shown.by_order or family not in _SEEKABLE or (family == "avi" and not packets.indexed):
        return np.empty(0, np.int64), None
    keys = {pts for pts, key in zip(packets.pts, packets.key, strict=True) if key}
    return np.array(sorted(ticks.intersection(keys)), np.int64), None
