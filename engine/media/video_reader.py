"""Reads the wanted frames of one source file, in order. Knows no edit, no plan and no colour.

A frame looks the same whichever frames were read before it. As long as the stream is intact, a
reader seeks to key frames and decodes on several threads. A decoder's result for a damaged stream
depends on where it started and on its threads. So at the first damage the reader starts again from
the beginning of the file, on one thread, and uses the pictures of that run. (Damage that the
decoder does not report goes unnoticed: most of it in HEVC, and inside the slices that NVDEC
decodes.)

Frames that are decoded on a device stay there. Whatever goes wrong on the device, the CPU takes
over where it stopped, as if there had been no device. Whether the stream is damaged, it finds out.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from types import TracebackType
from typing import Self

import av
import numpy as np

from engine.media.container import source_errors
from engine.media.damage import DamageReport
from engine.media.planes import PlaneConverter
from engine.media.video_decoder import (
    DEVICE_ERRORS,
    DamagedStreamError,
    DecodingRun,
    DeviceDecoder,
    DeviceDecodingError,
)
from engine.pixels.picture import DeviceSurface, SourceFrame
from engine.source import SourceInfo
from engine.storage.cached_store import cached
from engine.storage.objects import ObjectReader

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
        self.device_failure: str | None = None
        """Why the device was left; None where there is none, and while it decodes."""
        self.decoded_frames = 0
        """How many pictures were decoded so far, wanted or not."""
        self._source = source
        self._store = cached(store)  # damage opens the file once more
        self._warn = on_warning
        self._damage = DamageReport(source, strict=strict, on_warning=on_warning)
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

    @property
    def decoder(self) -> str | None:
        """What decodes on `device`, such as `NVDEC`; None since the CPU had to take over."""
        return self._device.name if self._device else None

    def close(self) -> None:
        """Closes the file. Frames that were given out stay valid."""
        self._closed = True
        self._end_run()

    def frames(self, wanted: Iterable[int]) -> Iterator[SourceFrame]:
        """One frame for each timestamp in `wanted`, in that order.

        Timestamps are elements of `source.frame_pts`. Ascending order is fastest: an earlier one
        than the last needs a seek. Raises DecodeError where a frame is missing and the one before
        it may not be held, ValueError for a timestamp that the file does not have.
        """
        with source_errors(self._source.location, "cannot be decoded"):
            for index in self._indices(wanted):
                yield self._frame_at(index)

    def surfaces(self, wanted: Iterable[int]) -> Iterator[SourceFrame | DeviceSurface]:
        """Like `frames`, but the frames are on the reader's device as long as it has one."""
        with source_errors(self._source.location, "cannot be decoded"):
            for index in self._indices(wanted):
                surface = self._surface_at(index)
                yield self._frame_at(index) if surface is None else surface

    def _indices(self, wanted: Iterable[int]) -> Iterator[int]:
        known = self._source.frame_pts
        try:
            for pts in wanted:
                index = int(np.searchsorted(known, pts))
                if index == len(known) or known[index] != pts:
                    raise ValueError(f"{self._source.location} has no frame with timestamp {pts}")
                yield index
        finally:
            self._damage.end_stretch()

    def _frame_at(self, index: int) -> SourceFrame:
        return self._planes.source_frame(
            self._picture_at(index), int(self._source.frame_pts[index])
        )

    def _surface_at(self, index: int) -> DeviceSurface | None:
        """The frame where it lies on the device; None where the CPU decodes."""
        picture = self._picture_at(index)
        if self._device is None:
            return None
        try:
            return self._device.surface(picture, int(self._source.frame_pts[index]))
        except DEVICE_ERRORS as error:
            self._leave_device(f"the pictures of {self._device.name} cannot be used: {error}")
            return None

    def _picture_at(self, wanted: int) -> av.VideoFrame:
        if self._closed:
            raise ValueError(f"the reader of {self._source.location} is closed")
        while True:
            try:
                self._approach(wanted)
                self._advance(wanted)
                break
            except DeviceDecodingError as error:
                self._leave_device(str(error))
            except DamagedStreamError:
                self._sequential, self._can_seek = True, False
                self._end_run()
        if self._index < wanted:
            assert self._next
            self._damage.check_hold(range(self._index + 1, self._next[0]))
        if self._picture is None:
            raise self._damage.error(
                wanted, "is missing, and there is no picture before it to hold"
            )
        return self._picture

    def _leave_device(self, reason: str) -> None:
        """Lets the CPU decode from here on."""
        self._warn(f"{self._source.location}: {reason}; decoded on the CPU from here on")
        self._device, self.device_failure = None, reason
        self._end_run()

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

    def _end_run(self) -> None:
        if self._run:
            self._run.close()
        self._run, self._index, self._picture, self._next = None, -1, None, None

    def _switch_to(self, run: DecodingRun) -> None:
        """Goes on with the pictures of `run`, from its start."""
        if self._run is not run:
            self._end_run()
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
        if index > self._index + 1 and index > self._needed_from:
            self._damage.missing(range(self._index + 1, index))
        if picture is not None and picture.is_corrupt and index >= self._needed_from:
            self._damage.concealed(index)
        return index, picture
