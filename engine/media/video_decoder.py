"""One run of decoding: from a key frame, or the beginning of the file, as far as anyone asks.

Tells which frame of the source each picture is, and stops where the stream is damaged, unless it is
a run whose result does not depend on where it began (`sure`).
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator
from fractions import Fraction
from itertools import chain
from typing import Protocol

import av
import numpy as np
from av.video.codeccontext import VideoCodecContext
from numpy.typing import NDArray

from engine.errors import SourceError
from engine.media.container import open_container, video_stream
from engine.media.planes import NV12_LIKE, PlaneConverter
from engine.pixels.picture import DeviceSurface
from engine.source import SourceInfo
from engine.storage.objects import Store


class DeviceDecoder(Protocol):
    """Decodes on a device and leaves the frames there (`gpu/nvdec.py`)."""

    @property
    def device(self) -> str:
        """As torch spells it."""

    def open(self, stream: av.VideoStream) -> VideoCodecContext:
        """A decoder of the stream's packets. Raises FFmpegError or RuntimeError."""

    def surface(self, picture: av.VideoFrame, pts: int) -> DeviceSurface:
        """The decoded picture where it lies, without a copy."""


class DecoderStumbledError(Exception):
    """The stream is damaged here, so that the picture depends on how it was reached; or a device
    does not decode it."""


class DecodingRun:
    """One run of decoding: a file opened, perhaps put before a key frame, and its pictures.

    `sure`: on one thread and from the beginning. Otherwise damage raises `DecoderStumbledError`.
    """

    def __init__(
        self,
        source: SourceInfo,
        planar: PlaneConverter,
        *,
        sure: bool,
        on_step: Callable[[], None],
        device: DeviceDecoder | None,
        store: Store | None,
    ) -> None:
        self.sure = sure
        self._on_step = on_step
        self.start = 0
        """Index of the first picture."""
        self._source = source
        self._planar = planar
        self._container = open_container(source.location, store)
        self._stream = video_stream(self._container, source.location)
        self._device = device
        self._decoder = self._stream.codec_context
        if sure:
            self._decoder.thread_type = "NONE"
            self._decoder.thread_count = 1
        if device is not None:
            self._decoder = self._on_device(device)
        self._refers_up_to: dict[int, int] = {}
        """By timestamp: the latest one among all that is decoded no later."""
        self.pictures = self._run(self._container.demux(self._stream), first=0)
        """Pictures with their indices, ascending."""

    def close(self) -> None:
        self.pictures = iter(())  # PyAV crashes when a closed container is read on
        self._container.close()

    def _on_device(self, device: DeviceDecoder) -> VideoCodecContext:
        try:
            return device.open(self._stream)
        except (av.FFmpegError, RuntimeError) as error:
            self._container.close()
            raise DecoderStumbledError(f"NVDEC does not open: {error}") from error

    def seek(self, key: int, keys: NDArray[np.intp]) -> bool:
        """Go to the frame with index `key`, or to a key frame before it.

        False where the container landed anywhere else: this run is of no more use then.
        """
        pts = self._source.frame_pts
        try:
            self._container.seek(int(pts[key]), stream=self._stream)
            self._decoder.flush_buffers()
            packets = self._container.demux(self._stream)
            landing = next(packets)
        except (av.FFmpegError, StopIteration):
            return False
        first = -1 if landing.pts is None else int(np.searchsorted(pts, landing.pts))
        if first > key or first not in keys or pts[first] != landing.pts:
            return False
        # nothing comes before the key frame to deinterlace it by
        self.start = first + 1 if self._source.interlaced else first
        self.pictures = self._run(chain([landing], packets), first)
        return True

    def _run(
        self, packets: Iterator[av.Packet[av.VideoStream]], first: int
    ) -> Iterator[tuple[int, av.VideoFrame]]:
        frames = self._listed(self._decoded(packets), first)
        if not self.sure:
            frames = self._confirmed(frames)
        if self._source.interlaced:
            frames = self._deinterlaced(frames)
        for frame in frames:
            index = self._index_of(frame)
            if index >= self.start:
                yield index, frame

    def _decoded(self, packets: Iterator[av.Packet[av.VideoStream]]) -> Iterator[av.VideoFrame]:
        location = self._source.location
        latest: int | None = None
        try:
            for packet in packets:
                self._on_step()
                if packet.pts is not None:
                    latest = packet.pts if latest is None else max(latest, packet.pts)
                    self._refers_up_to[packet.pts] = latest
                try:
                    for frame in self._decoder.decode(packet):
                        self._check_surface(frame)
                        yield frame
                except av.InvalidDataError:
                    self._stumble()
        except av.InvalidDataError:
            self._stumble()
        except (av.FFmpegError, OSError) as error:
            if self._device is not None:
                where = self._device.device
                raise DecoderStumbledError(f"decoding on {where} failed: {error}") from error
            raise SourceError(location, f"cannot be decoded: {error.strerror}") from None

    def _stumble(self) -> None:
        """Damage: of no account in a sure run, where the lost frames will be found missing."""
        if not self.sure:
            raise DecoderStumbledError("the stream is damaged")

    def _check_surface(self, frame: av.VideoFrame) -> None:
        """A device's frames are all of one kind; what else a stream turns into is for the CPU."""
        if self._device is None:
            return
        size, bits = self._source.coded_size, frame.sw_format or frame.format
        if (frame.width, frame.height) != (size.width, size.height) or bits.name not in NV12_LIKE:
            raise DecoderStumbledError(f"frames are {frame.width}x{frame.height} {bits.name} now")

    def _listed(self, frames: Iterator[av.VideoFrame], first: int) -> Iterator[av.VideoFrame]:
        """Those from index `first` on, with timestamps as listed.

        Left out are the leading pictures of an open GOP, for want of the frames they refer to.
        """
        pts, by_order = self._source.frame_pts, self._source.known_by_order
        last = first - 1
        for frame in frames:
            index = last + 1 if by_order else self._index_of(frame)
            if last < index < len(pts):
                if frame.is_corrupt or index > last + 1:
                    self._stumble()
                last, frame.pts = index, int(pts[index])
                yield frame
        if last + 1 < len(pts):
            self._stumble()

    def _index_of(self, frame: av.VideoFrame) -> int:
        """-1 for a frame that is not listed."""
        pts = self._source.frame_pts
        if frame.pts is None or not pts[0] <= frame.pts <= pts[-1]:
            return -1
        index = int(np.searchsorted(pts, frame.pts))
        return index if pts[index] == frame.pts else -1

    def _confirmed(self, frames: Iterator[av.VideoFrame]) -> Iterator[av.VideoFrame]:
        """Frames held back until all that was decoded before them has proved whole.

        What a frame refers to can be shown later than it, and only then is found damaged or lost.
        """
        waiting: deque[tuple[int, av.VideoFrame]] = deque()
        for frame in frames:
            now = frame.pts or 0
            waiting.append((self._refers_up_to.pop(now, now), frame))
            while waiting and waiting[0][0] <= now:
                yield waiting.popleft()[1]
        for _, frame in waiting:
            yield frame

    def _deinterlaced(self, frames: Iterator[av.VideoFrame]) -> Iterator[av.VideoFrame]:
        """One frame for each, made from it and its two neighbours."""
        graph: av.filter.Graph | None = None
        for frame in chain(frames, [None]):
            if frame is not None:
                frame = self._planar.of(frame)
                graph = graph or _deinterlacer(frame, self._source.time_base)
            if graph is None:
                return
            graph.vpush(frame)
            for made in _pulled(graph):
                assert made.pts is not None and made.time_base
                made.pts = round(made.pts * made.time_base / self._source.time_base)
                made.time_base = self._source.time_base
                yield made


def _deinterlacer(frame: av.VideoFrame, time_base: Fraction) -> av.filter.Graph:
    """FFmpeg's bwdif for frames like this one; progressive frames pass untouched."""
    graph = av.filter.Graph()
    arguments = (
        f"video_size={frame.width}x{frame.height}:pix_fmt={frame.format.name}:time_base={time_base}"
        f":colorspace={frame.colorspace}:range={frame.color_range}"
    )
    graph.link_nodes(
        graph.add("buffer", arguments),
        graph.add("bwdif", "mode=send_frame:deint=interlaced"),
        graph.add("buffersink"),
    ).configure()
    return graph


def _pulled(graph: av.filter.Graph) -> Iterator[av.VideoFrame]:
    while True:
        try:
            frame = graph.vpull()
        except (av.BlockingIOError, av.EOFError):
            return
        yield frame
