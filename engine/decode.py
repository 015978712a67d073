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

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from fractions import Fraction
from itertools import chain
from types import TracebackType
from typing import TYPE_CHECKING, Self

import av
import numpy as np
from av.video.codeccontext import VideoCodecContext
from av.video.reformatter import ColorRange, Colorspace, Interpolation, VideoReformatter
from numpy.typing import NDArray

from engine.errors import DecodeError, SourceError
from engine.picture import Samples, SourceFrame
from engine.probe import is_rgb, open_container, video_stream
from engine.source import SourceInfo

if TYPE_CHECKING:
    from engine.device.frames import DeviceFrame

HOLD_LIMIT_S = Fraction(1, 2)
"""A gap up to this long shows the picture before it."""

_JUMP_WORTH_FRAMES = 16
"""Decoding this many frames costs about as much as a jump that refills the decoder's threads."""

_DEPTHS = (9, 10, 12, 14, 16)
_STEPS = {"420": (2, 2), "422": (2, 1), "444": (1, 1)}
_LAYOUTS = {  # pixel formats whose planes are handed out as they are: bit depth, chroma step
    **{f"yuv{j}{name}p": (8, step) for name, step in _STEPS.items() for j in ("", "j")},
    **{f"yuv{name}p{depth}le": (depth, step) for name, step in _STEPS.items() for depth in _DEPTHS},
    **{f"gray{depth}le": (depth, (2, 2)) for depth in _DEPTHS},
    "gray": (8, (2, 2)),
    "nv12": (8, (2, 2)),
}
NV12_LIKE = ("nv12", "yuv420p", "yuvj420p")
"""Pixel formats that are NV12, or are so by weaving two planes."""
_CENTRED_CHROMA = {"mjpeg", "mpeg1video"}
"""Codecs that site chroma in the middle; PyAV does not tell what the others' streams say."""

_ACCURATE = Interpolation.BICUBIC | Interpolation.ACCURATE_RND | Interpolation.FULL_CHR_H_INT


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
        device: str | None = None,
    ) -> None:
        """`strict`: damage is an error. `on_warning` is told, in one line, what was made good.

        `on_step` is called for every packet, those before a wanted frame too; it may raise.
        `device`: where `surfaces` leaves its frames, as torch spells it, for a source and a device
        that suit each other (`device/trial.py`). On CUDA NVDEC decodes them.
        """
        self.device = device
        """None from where the CPU had to take over."""
        self.decoded_frames = 0
        """How many pictures were passed so far, wanted or not."""
        self._source = source
        self._strict = strict
        self._warn = on_warning
        self._on_step = on_step
        self._keys = np.searchsorted(source.frame_pts, source.keyframe_pts)
        self._planar = _Planar(source, on_warning)
        self._closed = False
        self._sure = False  # the stream is damaged: decode on one thread and from the beginning
        self._may_jump = True  # until a seek goes wrong
        self._decoding: _Decoding | None = None
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

    def surfaces(self, wanted: Iterable[int]) -> Iterator[SourceFrame | DeviceFrame]:
        """As `frames`, but on the reader's device as long as it has one."""
        for pts, picture in self._pictures(wanted):
            if self.device is None:
                yield self._planar.source_frame(picture, pts)
            else:
                from engine.device.frames import device_frame

                yield device_frame(picture, pts)

    def _pictures(self, wanted: Iterable[int]) -> Iterator[tuple[int, av.VideoFrame]]:
        known = self._source.frame_pts
        try:
            for pts in wanted:
                index = int(np.searchsorted(known, pts))
                if index == len(known) or known[index] != pts:
                    raise ValueError(f"{self._source.path} has no frame with timestamp {pts}")
                yield int(pts), self._picture_at(index)
        finally:
            self._tell_concealed()

    def _picture_at(self, wanted: int) -> av.VideoFrame:
        if self._closed:
            raise ValueError(f"the reader of {self._source.path} is closed")
        try:
            self._go_to(wanted)
            self._advance(wanted)
        except _StumbledError as stumble:
            if self.device is not None:
                self._warn(f"{self._source.path}: {stumble}; decoded on the CPU from here on")
                self.device = None
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

    def _opened(self) -> _Decoding:
        return _Decoding(
            self._source,
            self._planar,
            sure=self._sure,
            on_step=self._on_step,
            device=self.device,
        )

    def _begin(self, decoding: _Decoding) -> None:
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

    def _next_picture(self, decoding: _Decoding) -> tuple[int, av.VideoFrame | None]:
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
        return f"{self._source.path}: {start_s:.3f} to {stop_s:.3f} s"

    def _error(self, index: int, reason: str) -> DecodeError:
        return DecodeError(self._source.path, self._time_s(index), reason)


class _StumbledError(Exception):
    """The stream is damaged here, so that the picture depends on how it was reached; or a device
    does not decode it."""


class _Decoding:
    """One run of decoding: a file opened, perhaps put before a key frame, and its pictures.

    `sure`: on one thread and from the beginning. Otherwise damage raises `_StumbledError`.
    """

    def __init__(
        self,
        source: SourceInfo,
        planar: _Planar,
        *,
        sure: bool,
        on_step: Callable[[], None],
        device: str | None,
    ) -> None:
        self.sure = sure
        self._on_step = on_step
        self.start = 0
        """Index of the first picture."""
        self._source = source
        self._planar = planar
        self._container = open_container(source.path)
        self._stream = video_stream(self._container, source.path)
        self._device = device
        self._decoder = self._stream.codec_context
        if sure:
            self._decoder.thread_type = "NONE"
            self._decoder.thread_count = 1
        if device is not None and device.startswith("cuda"):
            self._decoder = self._nvdec(device)
        self._refers_up_to: dict[int, int] = {}
        """By timestamp: the latest one among all that is decoded no later."""
        self.pictures = self._run(self._container.demux(self._stream), first=0)
        """Pictures with their indices, ascending."""

    def close(self) -> None:
        self.pictures = iter(())  # PyAV crashes when a closed container is read on
        self._container.close()

    def _nvdec(self, device: str) -> VideoCodecContext:
        from engine.device.nvdec import nvdec_context

        try:
            return nvdec_context(self._stream, device)
        except (av.FFmpegError, RuntimeError) as error:
            self._container.close()
            raise _StumbledError(f"NVDEC does not open: {error}") from error

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
        path = self._source.path
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
                raise _StumbledError(f"decoding on {self._device} failed: {error}") from error
            raise SourceError(path, f"cannot be decoded: {error.strerror}") from None

    def _stumble(self) -> None:
        """Damage: of no account in a sure run, where the lost frames will be found missing."""
        if not self.sure:
            raise _StumbledError("the stream is damaged")

    def _check_surface(self, frame: av.VideoFrame) -> None:
        """A device's frames are all of one kind; what else a stream turns into is for the CPU."""
        if self._device is None:
            return
        size, bits = self._source.coded_size, frame.sw_format or frame.format
        if (frame.width, frame.height) != (size.width, size.height) or bits.name not in NV12_LIKE:
            raise _StumbledError(f"frames are {frame.width}x{frame.height} {bits.name} now")

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


class _Planar:
    """Turns decoded frames into planes of one size and format: the first frame's, if it can be."""

    def __init__(self, source: SourceInfo, on_warning: Callable[[str], None]) -> None:
        self._source = source
        self._warn = on_warning
        self._format = _planar_format(source)
        self._reformatter = VideoReformatter()
        self._no_chroma: Samples | None = None
        self._warned = False

    def of(self, frame: av.VideoFrame) -> av.VideoFrame:
        """The frame itself where it is planar YCbCr already, else a converted copy."""
        size = self._source.coded_size
        if frame.format.name == self._format and (frame.width, frame.height) == (
            size.width,
            size.height,
        ):
            return frame
        self._warn_of_change(frame)
        made = self._reformatter.reformat(
            frame,
            size.width,
            size.height,
            self._format,
            interpolation=_ACCURATE,
            **_conversion(frame, self._source.colour.full_range),
        )
        made.pts, made.time_base = frame.pts, frame.time_base
        return made

    def source_frame(self, frame: av.VideoFrame, pts: int) -> SourceFrame:
        """Views of the frame's planes (or of a converted copy's)."""
        frame = self.of(frame)
        depth, step = _LAYOUTS[self._format]
        planes = [_view(plane, depth) for plane in frame.planes]
        if len(planes) == 1:
            planes += [self._neutral(depth, step)] * 2
        elif len(planes) == 2:
            pairs = _view(frame.planes[1], depth, samples=2)
            planes[1:] = [pairs[:, 0::2], pairs[:, 1::2]]
        return SourceFrame(
            pts=pts,
            planes=(planes[0], planes[1], planes[2]),
            depth=depth,
            chroma_step=step,
            chroma_offset=self._chroma_offset(step),
            owner=frame,
        )

    def _neutral(self, depth: int, step: tuple[int, int]) -> Samples:
        if self._no_chroma is None:
            size = self._source.coded_size
            shape = (-(-size.height // step[1]), -(-size.width // step[0]))
            grey = 1 << depth - 1
            self._no_chroma = (
                np.full(shape, grey, np.uint8) if depth == 8 else np.full(shape, grey, np.uint16)
            )
        return self._no_chroma

    def _chroma_offset(self, step: tuple[int, int]) -> tuple[float, float]:
        across, down = ((step - 1) / 2 for step in step)
        return (across if self._source.codec in _CENTRED_CHROMA else 0.0, down)

    def _warn_of_change(self, frame: av.VideoFrame) -> None:
        source = self._source
        first = (source.coded_size.width, source.coded_size.height, source.pixel_format)
        if self._warned or (frame.width, frame.height, frame.format.name) == first:
            return
        self._warned = True
        time_s = 0.0 if frame.pts is None else float(source.time_of(frame.pts))
        self._warn(
            f"{source.path}: from {time_s:.3f} s on frames are {frame.width}x{frame.height} "
            f"{frame.format.name}; converted to {source.coded_size} {source.pixel_format}"
        )


def _planar_format(source: SourceInfo) -> str:
    """The format handed out for a source: its own, or the nearest that loses no bits or chroma."""
    name = source.pixel_format
    if name in _LAYOUTS and not (name == "nv12" and source.interlaced):
        return name
    pixel_format = av.VideoFormat(name, 16, 16)
    across, down = (
        16 // side for side in (pixel_format.chroma_width(), pixel_format.chroma_height())
    )
    subsampled = not is_rgb(pixel_format)
    names = {step: tag for tag, step in _STEPS.items()}
    tag = names.get((across, down), "444") if subsampled else "444"
    bits = max(component.bits for component in pixel_format.components)
    depth = next((depth for depth in (8, 10, 12) if bits <= depth), 16)
    return f"yuv{tag}p" if depth == 8 else f"yuv{tag}p{depth}le"


def _conversion(frame: av.VideoFrame, full_range: bool) -> dict[str, int]:
    """RGB becomes what `probe` promised; YCbCr keeps its matrix and the first frame's range."""
    if is_rgb(frame.format):
        return {"dst_colorspace": Colorspace.ITU709, "dst_color_range": ColorRange.MPEG}
    span = ColorRange.JPEG if full_range else ColorRange.MPEG
    return {"src_color_range": span, "dst_color_range": span}


def _view(plane: av.video.plane.VideoPlane, depth: int, samples: int = 1) -> Samples:
    """A plane's samples, shape (height, width * samples), without a copy."""
    flat = memoryview(plane)
    rows: Samples = np.frombuffer(flat, np.uint8) if depth == 8 else np.frombuffer(flat, np.uint16)
    rows = rows.reshape(plane.height, -1)
    if plane.line_size < 0:
        rows = rows[::-1]  # stored from the bottom up
    return rows[:, : plane.width * samples]
