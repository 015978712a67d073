"""One run of decoding: from a key frame or the beginning of the file on.

It tells which frame of the source each picture is. It stops where the stream is damaged, unless it
is a sequential run, whose pictures do not depend on where it began. A run on a device stops at
whatever goes wrong there, which says nothing of the stream.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator
from itertools import chain
from typing import Any, Protocol

import av
import numpy as np
from av.video.codeccontext import VideoCodecContext
from numpy.typing import NDArray

from engine.errors import SourceError
from engine.media.alpha import alpha_decoder
from engine.media.byte_index import seek_to_byte
from engine.media.container import is_damage, open_container, packets_of, video_stream
from engine.media.h264 import x264_version
from engine.media.planes import NV12_LIKE, PlaneConverter
from engine.pixels.picture import DeviceSurface
from engine.source import SourceInfo
from engine.storage.objects import ObjectReader


class DeviceDecoder(Protocol):
    """Decodes on a device and leaves the frames there; `gpu/nvdec.py` has one."""

    @property
    def device(self) -> str:
        """The device's name in torch, such as `cuda:0`."""

    @property
    def name(self) -> str:
        """What decodes, such as `NVDEC`."""

    def open(self, stream: av.VideoStream) -> VideoCodecContext:
        """A decoder of the stream's packets. Raises one of `DEVICE_ERRORS`."""

    def surface(self, picture: av.VideoFrame, pts: int) -> DeviceSurface:
        """The decoded picture on the device, without a copy. Raises one of `DEVICE_ERRORS`."""


DEVICE_ERRORS = (av.FFmpegError, RuntimeError, ValueError, TypeError, BufferError)
"""What FFmpeg, PyAV and torch raise where a device does not do what it should."""


class DamagedStreamError(Exception):
    """The stream is damaged, so that the picture depends on where the run began."""


class DeviceDecodingError(Exception):
    """The device does not open, or stopped, or gave other pictures than it should. The text says
    what decodes there and why it stopped. Whether the stream is damaged is not known."""


class DecodingRun:
    """One run of decoding: an open file, at its beginning or at a key frame, and its pictures.

    A `sequential` run decodes on one thread, from the beginning. In any other run damage raises
    `DamagedStreamError`. On a `device`, whatever goes wrong raises `DeviceDecodingError`.
    """

    def __init__(
        self,
        source: SourceInfo,
        planes: PlaneConverter,
        *,
        sequential: bool,
        on_step: Callable[[], None],
        device: DeviceDecoder | None,
        store: ObjectReader | None,
    ) -> None:
        self._sequential = sequential
        self._on_step = on_step
        self.start = 0
        """Index of the first picture."""
        self._source = source
        self._planes = planes
        self._container = open_container(source.location, store)
        self._stream = video_stream(self._container, source.location)
        self._device = device
        self._decoder = alpha_decoder(self._stream) or self._stream.codec_context
        if sequential:
            self._decoder.thread_type = "NONE"
            self._decoder.thread_count = 1
        if device is not None:
            self._decoder = self._open_on(device)
        self._needed_first = b""
        """What a decoder that starts in the middle must be given, too."""
        self._latest_decoded: dict[int, int] = {}
        """By timestamp of a packet: the latest timestamp among it and all packets before it."""
        self.pictures = self._run(self._packets_from_start(), first=0)
        """Pictures with their indices, ascending."""

    def close(self) -> None:
        """Closes the file. Pictures that were taken stay valid."""
        self.pictures = iter(())  # PyAV crashes when a closed container is read
        self._container.close()

    def _open_on(self, device: DeviceDecoder) -> VideoCodecContext:
        try:
            return device.open(self._stream)
        except DEVICE_ERRORS as error:
            self._container.close()
            raise DeviceDecodingError(f"{device.name} does not open: {_text(error)}") from error

    def _packets_from_start(self) -> Iterator[av.Packet[av.VideoStream]]:
        packets = packets_of(self._container, self._stream)
        if self._source.codec != "h264" or "444" not in self._source.pixel_format:
            return packets
        try:
            first = next(packets)
        except (av.FFmpegError, StopIteration):
            return packets  # the run meets the same damage
        self._needed_first = x264_version(bytes(first))
        return chain([first], packets)

    def seek(self, key: int, keys: NDArray[np.intp]) -> bool:
        """Goes to the frame with index `key`, or to a key frame before it.

        `keys` are the indices of all key frames. False where the container landed anywhere else:
        this run must not be used any more then.
        """
        pts, places = self._source.frame_pts, self._source.keyframe_bytes
        try:
            if places is None:
                self._container.seek(int(pts[key]), stream=self._stream)
                packets = packets_of(self._container, self._stream)
            else:
                place = int(places[np.searchsorted(keys, key)])
                packets = seek_to_byte(self._container, self._stream, place)
            landing = next(packets)
        except (av.FFmpegError, StopIteration):
            return False
        self._flush()
        if self._needed_first:
            landing = _with_prefix(self._needed_first, landing)
        first = -1 if landing.pts is None else int(np.searchsorted(pts, landing.pts))
        if first > key or first not in keys or pts[first] != landing.pts:
            return False
        # a key frame cannot be deinterlaced: the frame before it is missing
        self.start = first + 1 if self._source.interlaced else first
        self.pictures = self._run(chain([landing], packets), first)
        return True

    def _flush(self) -> None:
        """Makes the decoder forget what it was given before a seek."""
        try:
            self._decoder.flush_buffers()
        except DEVICE_ERRORS as error:
            if self._device is None:
                raise
            self._stop(_text(error))

    def _run(
        self, packets: Iterator[av.Packet[av.VideoStream]], first: int
    ) -> Iterator[tuple[int, av.VideoFrame]]:
        frames = self._match_frames(self._decoded(packets), first)
        if not self._sequential:
            frames = self._hold_back(frames)
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
                    self._latest_decoded[packet.pts] = latest
                yield from self._pictures_of(packet)
        except av.FFmpegError as error:
            if not is_damage(error):
                raise SourceError(location, f"cannot be read: {error.strerror}") from error
            self._stop(_text(error))
        except OSError as error:
            raise SourceError(location, f"cannot be read: {error.strerror}") from error

    def _pictures_of(self, packet: av.Packet[av.VideoStream]) -> Iterator[av.VideoFrame]:
        """What the decoder puts out when it is given a packet."""
        try:
            frames = self._decoder.decode(packet)
        except DEVICE_ERRORS as error:
            if self._device is None and not isinstance(error, av.FFmpegError):
                raise
            self._stop(_text(error))
            return
        for frame in frames:
            self._check_surface(frame)
            yield frame

    def _stop(self, reason: str) -> None:
        """Ends the run, unless it is sequential: there the lost frames are found missing."""
        if self._device is not None:
            raise DeviceDecodingError(f"decoding by {self._device.name} stopped: {reason}")
        if not self._sequential:
            raise DamagedStreamError

    def _check_surface(self, frame: av.VideoFrame) -> None:
        """Ends a device's run at a frame of another size or format; the CPU converts those."""
        if self._device is None:
            return
        size, bits = self._source.coded_size, frame.sw_format or frame.format
        if (frame.width, frame.height) != (size.width, size.height) or bits.name not in NV12_LIKE:
            self._stop(f"frames are {frame.width}x{frame.height} {bits.name} now")

    def _match_frames(self, frames: Iterator[av.VideoFrame], first: int) -> Iterator[av.VideoFrame]:
        """The source's frames from index `first` on, with their timestamps from `frame_pts`.

        The leading pictures of an open GOP are left out: the frames that they refer to are missing.
        """
        pts, by_order = self._source.frame_pts, self._source.known_by_order
        last = first - 1
        for frame in frames:
            index = last + 1 if by_order else self._index_of(frame)
            if last < index < len(pts):
                if frame.is_corrupt or index > last + 1:
                    self._stop("a picture is damaged or missing")
                last, frame.pts = index, int(pts[index])
                yield frame
        if last + 1 < len(pts):
            self._stop("the last pictures are missing")

    def _index_of(self, frame: av.VideoFrame) -> int:
        """Index of the frame in `frame_pts`, -1 where it is not there."""
        pts = self._source.frame_pts
        if frame.pts is None or not pts[0] <= frame.pts <= pts[-1]:
            return -1
        index = int(np.searchsorted(pts, frame.pts))
        return index if pts[index] == frame.pts else -1

    def _hold_back(self, frames: Iterator[av.VideoFrame]) -> Iterator[av.VideoFrame]:
        """Gives out a frame only after all frames that were decoded before it came out undamaged.

        A frame can refer to one that is shown later, and whose damage or loss is only found then.
        """
        waiting: deque[tuple[int, av.VideoFrame]] = deque()
        for frame in frames:
            now = frame.pts or 0
            waiting.append((self._latest_decoded.pop(now, now), frame))
            while waiting and waiting[0][0] <= now:
                yield waiting.popleft()[1]
        for _, frame in waiting:
            yield frame

    def _deinterlaced(self, frames: Iterator[av.VideoFrame]) -> Iterator[av.VideoFrame]:
        """One deinterlaced frame for each frame, made from it and its two neighbours."""
        graph: av.filter.Graph | None = None
        for frame in chain(frames, [None]):
            if frame is not None:
                frame = self._planes.convert(frame)
                graph = graph or _deinterlacer(frame, self._source)
            if graph is None:
                return
            graph.vpush(frame)
            for output in _outputs(graph):
                assert output.pts is not None and output.time_base
                output.pts = round(output.pts * output.time_base / self._source.time_base)
                output.time_base = self._source.time_base
                yield output


def _text(error: Exception) -> str:
    """What went wrong, without the number and the function that FFmpeg's errors name, too."""
    return str(getattr(error, "strerror", None) or error)


def _with_prefix(prefix: bytes, packet: av.Packet[av.VideoStream]) -> av.Packet[av.VideoStream]:
    made: av.Packet[Any] = av.Packet(prefix + bytes(packet))
    made.pts, made.dts, made.duration = packet.pts, packet.dts, packet.duration
    made.time_base, made.is_keyframe = packet.time_base, packet.is_keyframe
    return made


def _deinterlacer(frame: av.VideoFrame, source: SourceInfo) -> av.filter.Graph:
    """FFmpeg's bwdif for frames like this one.

    Progressive frames pass untouched, unless only the container knows what they are.
    """
    known = source.field_order
    which = "deint=interlaced" if known is None else f"deint=all:parity={known}"
    graph = av.filter.Graph()
    arguments = (
        f"video_size={frame.width}x{frame.height}:pix_fmt={frame.format.name}:time_base={source.time_base}"
        f":colorspace={frame.colorspace}:range={frame.color_range}"
    )
    graph.link_nodes(
        graph.add("buffer", arguments),
        graph.add("bwdif", f"mode=send_frame:{which}"),
        graph.add("buffersink"),
    ).configure()
    return graph


def _outputs(graph: av.filter.Graph) -> Iterator[av.VideoFrame]:
    while True:
        try:
            frame = graph.vpull()
        except (av.BlockingIOError, av.EOFError):
            return
        yield frame
