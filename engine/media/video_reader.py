"""Reads the wanted frames of one source file, in order. Knows no edit, no plan and no colour.

A frame looks the same whichever frames were read before it. As long as the stream is intact, a
reader seeks to key frames and decodes on several threads. A decoder's result for a damaged stream
depends on where it started and on its threads. So at the first damage the reader starts again from
the beginning of the file, on one thread, and uses the pictures of that run. (Damage that the
decoder does not report goes unnoticed: most of it in HEVC, and inside the slices that NVDEC
decodes.)

Frames that are decoded on a device stay there. At the first damage the CPU takes over.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from fractions import Fraction
from types import TracebackType
from typing import Self

import av
import numpy as np

from engine.errors import DecodeError
from engine.media.container import source_errors
from engine.media.planes import PlaneConverter
from engine.media.video_decoder import DecodingRun, DecodingRunError, DeviceDecoder
from engine.pixels.picture import DeviceSurface, SourceFrame
from engine.source import SourceInfo
from engine.storage.cached_store import cached
from engine.storage.objects import ObjectReader

HOLD_LIMIT_S = Fraction(1, 2)
"""The picture before a gap is held for up to this long."""

_SEEK_WORTH_FRAMES = 16
"""Decoding this many frames costs about as much as a seek, which refills the decoder's threads."""


class FrameReader:
    """Decodes the wanted frames of a source, and as few others as it can.

    It stays open and keeps its position between calls of `frames`. One thread at a time may use it.
    """

    def __init__(
        self,
        source: SourceInfo,
        *,
        strict: bool,
        on_warning: Callable[[str], None],
        on_step: Callable[[], None] = lambda: None,
        device: DeviceDecoder | None = None,
        store: ObjectReader | None = None,
    ) -> None:
        """`strict`: damage is an error. `on_warning` gets one line for each repair of damage.

        `on_step` is called for every packet, also those before a wanted frame; it may raise.
        `device` decodes the frames of `surfaces` and leaves them there; `gpu/checks.py` must have
        found that it can decode this source. `store` holds a source that is an object.
        """
        self._device = device
        self.decoded_frames = 0
        """How many pictures were decoded so far, wanted or not."""
        self._source = source
        self._store = cached(store)  # damage opens the file once more
        self._strict = strict
        self._warn = on_warning
        self._on_step = on_step
        self._keys = np.searchsorted(source.frame_pts, source.keyframe_pts)  # their indices
        self._planes = PlaneConverter(source, on_warning)
        self._closed = False
        self._sequential = False  # after damage: decode on one thread and from the beginning
        self._can_seek = True  # until a seek goes wrong
        self._run: DecodingRun | None = None
        self._index = -1  # of the last picture taken from the run
        self._picture: av.VideoFrame | None = None  # that picture
        self._next: tuple[int, av.VideoFrame | None] | None = None  # after it, where known
        self._needed_from = 0  # damage before this index does not affect the wanted frames
        self._concealed: range | None = None  # a stretch of damaged frames, not reported yet

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
        """The device where `surfaces` leaves its frames; None since the CPU had to take over."""
        return self._device.device if self._device else None

    def close(self) -> None:
        """Closes the file. Frames that were given out stay valid."""
        self._closed = True
        if self._run:
            self._run.close()

    def frames(self, wanted: Iterable[int]) -> Iterator[SourceFrame]:
        """One frame for each timestamp in `wanted`, in that order.

        Timestamps are elements of `source.frame_pts`. Ascending order is fastest: an earlier one
        than the last needs a seek. Raises DecodeError where a frame is missing and the one before
        it may not be held, ValueError for a timestamp that the file does not have.
        """
        with source_errors(self._source.location, "cannot be decoded"):
            for pts, picture in self._pictures(wanted):
                yield self._planes.source_frame(picture, pts)

    def surfaces(self, wanted: Iterable[int]) -> Iterator[SourceFrame | DeviceSurface]:
        """Like `frames`, but the frames are on the reader's device as long as it has one."""
        with source_errors(self._source.location, "cannot be decoded"):
            for pts, picture in self._pictures(wanted):
                if self._device is None:
                    yield self._planes.source_frame(picture, pts)
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
            self._warn_of_concealed()

    def _picture_at(self, wanted: int) -> av.VideoFrame:
        if self._closed:
            raise ValueError(f"the reader of {self._source.location} is closed")
        try:
            self._approach(wanted)
            self._advance(wanted)
        except DecodingRunError as error:
            if self._device is not None:
                self._warn(f"{self._source.location}: {error}; decoded on the CPU from here on")
                self._device = None
            self._sequential, self._can_seek = True, False
            self._switch_to(self._new_run())
            self._advance(wanted)
        if self._index < wanted:
            self._check_hold()
        if self._picture is None:
            raise self._error(wanted, "is missing, and there is no picture before it to hold")
        return self._picture

    def _approach(self, wanted: int) -> None:
        """Seeks where that is faster than to go on decoding; the run is not past `wanted` then."""
        # deinterlacing needs the frame before, too
        start_by = wanted - 1 if self._source.interlaced else wanted
        number = int(np.searchsorted(self._keys, start_by, side="right")) - 1
        key = int(self._keys[number]) if number >= 0 else 0
        self._needed_from = key
        ahead = key - self._index if self._can_seek else 0
        if self._run and self._index <= wanted and ahead <= _SEEK_WORTH_FRAMES:
            return
        if self._can_seek and key > _SEEK_WORTH_FRAMES:
            self._run = self._run or self._new_run()
            self._can_seek = self._run.seek(key, self._keys)
            if self._can_seek:
                self._switch_to(self._run)
                return
        self._switch_to(self._new_run())

    def _new_run(self) -> DecodingRun:
        return DecodingRun(
            self._source,
            self._planes,
            sequential=self._sequential,
            on_step=self._on_step,
            device=self._device,
            store=self._store,
        )

    def _switch_to(self, run: DecodingRun) -> None:
        """Goes on with the pictures of `run`, from its start."""
        if self._run and self._run is not run:
            self._run.close()
        self._run = run
        self._index, self._picture, self._next = run.start - 1, None, None

    def _advance(self, wanted: int) -> None:
        """Takes pictures up to `wanted`, or to the last one before it if it is missing."""
        assert self._run
        while self._index < wanted:
            if self._next is None:
                self._next = self._next_picture(self._run)
            index, picture = self._next
            if index > wanted:
                return
            self._index, self._picture, self._next = index, picture, None

    def _next_picture(self, run: DecodingRun) -> tuple[int, av.VideoFrame | None]:
        """The next picture's index and the picture; at the end the number of frames and None."""
        index, picture = next(run.pictures, (len(self._source.frame_pts), None))
        self.decoded_frames += picture is not None
        if index > self._index + 1:
            self._report_missing(range(self._index + 1, index))
        if picture is not None and picture.is_corrupt and index >= self._needed_from:
            self._note_concealed(index)
        return index, picture

    # Damage

    def _report_missing(self, gap: range) -> None:
        if gap.stop <= self._needed_from:
            return
        if self._strict:
            raise self._error(
                gap.start, f"{float(self._length_s(gap)):.3f} s of the picture are missing"
            )
        if self._length_s(gap) <= HOLD_LIMIT_S:
            self._warn(f"{self._span(gap)}: missing, the picture before it is held")

    def _check_hold(self) -> None:
        """Raises DecodeError where the gap after the last picture is too long to hold it."""
        assert self._next
        gap = range(self._index + 1, self._next[0])
        if self._length_s(gap) <= HOLD_LIMIT_S:
            return
        at_end = gap.stop == len(self._source.frame_pts)
        what = "the file ends before its index says" if at_end else "the picture is missing"
        start_s, stop_s = float(self._time_s(gap.start)), float(self._time_s(gap.stop))
        works = f"ends at {start_s:.3f} s" + ("" if at_end else f" or starts at {stop_s:.3f} s")
        length_s = float(self._length_s(gap))
        raise self._error(
            gap.start,
            f"{what} ({length_s:.3f} s, too long to hold); a trim that {works} would work",
        )

    def _note_concealed(self, index: int) -> None:
        """Notes a picture in which the decoder concealed errors."""
        if self._strict:
            raise self._error(index, "the picture is damaged")
        if self._concealed and self._concealed.stop != index:
            self._warn_of_concealed()
        self._concealed = range(self._concealed.start if self._concealed else index, index + 1)

    def _warn_of_concealed(self) -> None:
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
