"""The wanted frames of one source file, in order. Knows no edit, no plan and no colour.

A frame looks the same whichever frames were asked for before it. A reader jumps to key frames and
decodes on several threads as long as nothing is wrong. Where something is, what a decoder makes of
the damage depends on where it started and on its threads: so it starts over from the beginning of
the file, on one thread, and what comes then is taken for the picture. (Damage that the decoder
itself does not report, as with most HEVC and inside the slices that NVDEC decodes, is seen by
nobody.)

On a device frames are decoded and stay there, as long as nothing is wrong; the CPU takes over then.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from fractions import Fraction
from types import TracebackType
from typing import Self

import av
import numpy as np

from engine.errors import DecodeError
from engine.media.planes import PlaneConverter
from engine.media.video_decoder import DecoderStumbledError, DecodingRun, DeviceDecoder
from engine.pixels.picture import DeviceSurface, SourceFrame
from engine.source import SourceInfo
from engine.storage.objects import Store

HOLD_LIMIT_S = Fraction(1, 2)
"""A gap up to this long shows the picture before it."""

_JUMP_WORTH_FRAMES = 16
"""Decoding this many frames costs about as much as a jump that refills the decoder's threads."""


class FrameReader:
    """Decodes the frames of a source that are asked for, and as few others as it can.

    Stays open and keeps its place between calls of `frames`. One thread at a time may use it.
    """

    def __init__(
        self,
        source: SourceInfo,
        *,
        strict: bool,
        on_warning: Callable[[str], None],
        on_step: Callable[[], None] = lambda: None,
        device: DeviceDecoder | None = None,
        store: Store | None = None,
    ) -> None:
        """`strict`: damage is an error. `on_warning` is told, in one line, what was made good.

        `on_step` is called for every packet, those before a wanted frame too; it may raise.
        `device`: decodes the frames of `surfaces` and leaves them there, for a source and a device
        that suit each other (`gpu/checks.py`). `store`: where the source lies, unless it is a file.
        """
        self._device = device
        self.decoded_frames = 0
        """How many pictures were passed so far, wanted or not."""
        self._source = source
        self._store = store
        self._strict = strict
        self._warn = on_warning
        self._on_step = on_step
        self._keys = np.searchsorted(source.frame_pts, source.keyframe_pts)
        self._planar = PlaneConverter(source, on_warning)
        self._closed = False
        self._sure = False  # the stream is damaged: decode on one thread and from the beginning
        self._may_jump = True  # until a seek goes wrong
        self._decoding: DecodingRun | None = None
        self._at = -1  # index of the last picture passed
        self._picture: av.VideoFrame | None = None  # that picture
        self._ahead: tuple[int, av.VideoFrame | None] | None = None  # the next, where known
        self._matters_from = 0  # damage before this index is no business of the wanted frames
        self._concealed: range | None = None  # a run of them, not told yet

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    @property
    def device(self) -> str | None:
        """Where `surfaces` leaves its frames; None from where the CPU had to take over."""
        return self._device.device if self._device else None

    def close(self) -> None:
        """Let go of the file. Frames handed out stay valid."""
        self._closed = True
        if self._decoding:
            self._decoding.close()

    def frames(self, wanted: Iterable[int]) -> Iterator[SourceFrame]:
        """One frame for each timestamp in `wanted`, in that order.

        Timestamps are elements of `source.frame_pts`, best in ascending order: an earlier one than
        the last is reached by jumping back. Raises DecodeError where a frame is missing and may
        not be replaced by the one before it, ValueError for a timestamp that is none of the file's.
        """
        for pts, picture in self._pictures(wanted):
            yield self._planar.source_frame(picture, pts)

    def surfaces(self, wanted: Iterable[int]) -> Iterator[SourceFrame | DeviceSurface]:
        """As `frames`, but on the reader's device as long as it has one."""
        for pts, picture in self._pictures(wanted):
            if self._device is None:
                yield self._planar.source_frame(picture, pts)
            else:
                yield self._device.surface(picture, pts)

    def _pictures(self, wanted: Iterable[int]) -> Iterator[tuple[int, av.VideoFrame]]:
        known = self._source.frame_pts
        try:
            for pts in wanted:
                index = int(np.searchsorted(known, pts))
                if index == len(known) or known[index] != pts:
                    raise ValueError(f"{self._source.location} has no frame with timestamp {pts}")
                yield int(pts), self._picture_at(index)
        finally:
            self._tell_concealed()

    def _picture_at(self, wanted: int) -> av.VideoFrame:
        if self._closed:
            raise ValueError(f"the reader of {self._source.location} is closed")
        try:
            self._go_to(wanted)
            self._advance(wanted)
        except DecoderStumbledError as stumble:
            if self._device is not None:
                self._warn(f"{self._source.location}: {stumble}; decoded on the CPU from here on")
                self._device = None
            self._sure, self._may_jump = True, False
            self._begin(self._opened())
            self._advance(wanted)
        if self._at < wanted:
            self._check_hold()
        if self._picture is None:
            raise self._error(wanted, "is missing, and there is no picture before it to hold")
        return self._picture

    def _go_to(self, wanted: int) -> None:
        """Jump, where that is shorter than to go on decoding; at least stand before `wanted`."""
        # a frame is deinterlaced by the one before it, too
        start_by = wanted - 1 if self._source.interlaced else wanted
        place = int(np.searchsorted(self._keys, start_by, side="right")) - 1
        key = int(self._keys[place]) if place >= 0 else 0
        self._matters_from = key
        ahead = key - self._at if self._may_jump else 0
        if self._decoding and self._at <= wanted and ahead <= _JUMP_WORTH_FRAMES:
            return
        if self._may_jump and key > _JUMP_WORTH_FRAMES:
            self._decoding = self._decoding or self._opened()
            self._may_jump = self._decoding.seek(key, self._keys)
            if self._may_jump:
                self._begin(self._decoding)
                return
        self._begin(self._opened())

    def _opened(self) -> DecodingRun:
        return DecodingRun(
            self._source,
            self._planar,
            sure=self._sure,
            on_step=self._on_step,
            device=self._device,
            store=self._store,
        )

    def _begin(self, decoding: DecodingRun) -> None:
        """Go on from where `decoding` stands."""
        if self._decoding and self._decoding is not decoding:
            self._decoding.close()
        self._decoding = decoding
        self._at, self._picture, self._ahead = decoding.start - 1, None, None

    def _advance(self, wanted: int) -> None:
        """Pass pictures up to `wanted`, or to the last one before it if it is missing."""
        assert self._decoding
        while self._at < wanted:
            if self._ahead is None:
                self._ahead = self._next_picture(self._decoding)
            index, picture = self._ahead
            if index > wanted:
                return
            self._at, self._picture, self._ahead = index, picture, None

    def _next_picture(self, decoding: DecodingRun) -> tuple[int, av.VideoFrame | None]:
        """The next picture and its index; None and the number of frames at the file's end."""
        index, picture = next(decoding.pictures, (len(self._source.frame_pts), None))
        self.decoded_frames += picture is not None
        if index > self._at + 1:
            self._missing(range(self._at + 1, index))
        if picture is not None and picture.is_corrupt and index >= self._matters_from:
            self._conceal(index)
        return index, picture

    # Damage

    def _missing(self, gap: range) -> None:
        if gap.stop <= self._matters_from:
            return
        if self._strict:
            raise self._error(
                gap.start, f"{float(self._length_s(gap)):.3f} s of the picture are missing"
            )
        if self._length_s(gap) <= HOLD_LIMIT_S:
            self._warn(f"{self._span(gap)}: missing, the picture before it is held")

    def _check_hold(self) -> None:
        """Raise DecodeError where the gap ahead is too long to be held."""
        assert self._ahead
        gap = range(self._at + 1, self._ahead[0])
        if self._length_s(gap) <= HOLD_LIMIT_S:
            return
        at_end = gap.stop == len(self._source.frame_pts)
        what = "the file ends before its index says" if at_end else "the picture is missing"
        raise self._error(
            gap.start, f"{what} ({float(self._length_s(gap)):.3f} s, too long to hold)"
        )

    def _conceal(self, index: int) -> None:
        """Note a picture that the decoder made up in part."""
        if self._strict:
            raise self._error(index, "the picture is damaged")
        if self._concealed and self._concealed.stop != index:
            self._tell_concealed()
        self._concealed = range(self._concealed.start if self._concealed else index, index + 1)

    def _tell_concealed(self) -> None:
        if self._concealed:
            self._warn(f"{self._span(self._concealed)}: damaged, shown as the decoder repaired it")
            self._concealed = None

    def _time_s(self, index: int) -> Fraction:
        pts = self._source.frame_pts
        return self._source.time_of(pts[index] if index < len(pts) else self._source.end_pts)

    def _length_s(self, gap: range) -> Fraction:
        return self._time_s(gap.stop) - self._time_s(gap.start)

    def _span(self, gap: range) -> str:
        start_s, stop_s = float(self._time_s(gap.start)), float(self._time_s(gap.stop))
        return f"{self._source.location}: {start_s:.3f} to {stop_s:.3f} s"

    def _error(self, index: int, reason: str) -> DecodeError:
        return DecodeError(self._source.location, self._time_s(index), reason)
