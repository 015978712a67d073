"""Turns decoded frames into planes of samples, all in the first frame's size and format."""

from __future__ import annotations

from collections.abc import Callable

import av
import numpy as np
from av.video.reformatter import ColorRange, Colorspace, Interpolation, VideoReformatter

from engine.geometry import Box, Fit, Rect, fit_crop
from engine.pixels.alpha import over_black
from engine.pixels.picture import Samples, SourceFrame
from engine.source import Matrix, SourceInfo

_DEPTHS = (9, 10, 12, 14, 16)
_STEPS = {"420": (2, 2), "422": (2, 1), "444": (1, 1)}
_LAYOUTS = {  # pixel formats whose planes need no conversion: bit depth, chroma step
    **{f"yuv{j}{name}p": (8, step) for name, step in _STEPS.items() for j in ("", "j")},
    **{f"yuv{name}p{depth}le": (depth, step) for name, step in _STEPS.items() for depth in _DEPTHS},
    **{f"yuva{name}p": (8, step) for name, step in _STEPS.items()},
    **{
        f"yuva{name}p{depth}le": (depth, step) for name, step in _STEPS.items() for depth in _DEPTHS
    },
    **{f"gray{depth}le": (depth, (2, 2)) for depth in _DEPTHS},
    "gray": (8, (2, 2)),
    "nv12": (8, (2, 2)),
}
NV12_LIKE = ("nv12", "yuv420p", "yuvj420p")
"""NV12, and the formats that become NV12 by interleaving two planes."""
_ACCURATE = Interpolation.BICUBIC | Interpolation.ACCURATE_RND | Interpolation.FULL_CHR_H_INT

RGB_MATRIX = Matrix.BT709
"""The matrix with which `PlaneConverter` turns RGB into limited-range YCbCr."""


class PlaneConverter:
    """Turns decoded frames into planes of one size and format: the source's own, or the nearest."""

    def __init__(self, source: SourceInfo, on_warning: Callable[[str], None]) -> None:
        self._source = source
        self._warn = on_warning
        self._format = _planar_format(source)
        self._reformatter = VideoReformatter()
        self._grey_chroma: Samples | None = None
        self._warned = False

    def convert(self, frame: av.VideoFrame) -> av.VideoFrame:
        """The frame itself where it has the size and format already, else a converted copy."""
        size = self._source.coded_size
        if frame.format.name == self._format and (frame.width, frame.height) == (
            size.width,
            size.height,
        ):
            return frame
        self._warn_of_change(frame)
        box = fit_crop(Rect(0, 0, frame.width, frame.height), size, Fit.CONTAIN)[1]
        converted = self._reformatter.reformat(
            frame,
            box.width,
            box.height,
            self._format,
            interpolation=_ACCURATE,
            **_conversion(frame, self._source.colour.full_range),
        )
        if (box.width, box.height) != (size.width, size.height):
            converted = self._on_black(converted, box)
        converted.pts, converted.time_base = frame.pts, frame.time_base
        return converted

    def _on_black(self, picture: av.VideoFrame, box: Box) -> av.VideoFrame:
        """A picture of another shape, whole, in the middle of a black one of the source's size."""
        size, full_range = self._source.coded_size, self._source.colour.full_range
        depth, step = _LAYOUTS[self._format]
        canvas = av.VideoFrame(size.width, size.height, self._format)
        grey = 1 << depth - 1
        blacks = (0 if full_range else 16 << depth - 8, grey, grey, (1 << depth) - 1)
        for number, (plane, part) in enumerate(zip(canvas.planes, picture.planes, strict=True)):
            pairs = 2 if len(canvas.planes) == 2 and number == 1 else 1
            out, shown = _view(plane, depth, pairs), _view(part, depth, pairs)
            across, down = step if number in (1, 2) else (1, 1)
            left, top = box.x // across * pairs, box.y // down
            out[:] = blacks[number]
            out[top : top + shown.shape[0], left : left + shown.shape[1]] = shown
        return canvas

    def source_frame(self, frame: av.VideoFrame, pts: int) -> SourceFrame:
        """Views of the frame's planes, or of those of a converted copy."""
        frame = self.convert(frame)
        depth, step = _LAYOUTS[self._format]
        planes = [_view(plane, depth) for plane in frame.planes]
        if len(planes) == 1:
            planes += [self._grey_plane(depth, step)] * 2
        elif len(planes) == 2:
            pairs = _view(frame.planes[1], depth, samples=2)
            planes[1:] = [pairs[:, 0::2], pairs[:, 1::2]]
        shown = planes[0], planes[1], planes[2]
        if len(planes) == 4:
            full_range = self._source.colour.full_range
            shown = over_black(
                shown, planes[3], depth=depth, full_range=full_range, chroma_step=step
            )
        return SourceFrame(
            pts=pts,
            planes=shown,
            depth=depth,
            chroma_step=step,
            chroma_offset=self._chroma_offset(step),
            owner=frame,
        )

    def _grey_plane(self, depth: int, step: tuple[int, int]) -> Samples:
        if self._grey_chroma is None:
            size = self._source.coded_size
            shape = (-(-size.height // step[1]), -(-size.width // step[0]))
            grey = 1 << depth - 1
            self._grey_chroma = (
                np.full(shape, grey, np.uint8) if depth == 8 else np.full(shape, grey, np.uint16)
            )
        return self._grey_chroma

    def _chroma_offset(self, step: tuple[int, int]) -> tuple[float, float]:
        across, down = self._source.chroma_siting.offset
        return across if step[0] == 2 else 0.0, down if step[1] == 2 else 0.0

    def _warn_of_change(self, frame: av.VideoFrame) -> None:
        source = self._source
        first = (source.coded_size.width, source.coded_size.height, source.pixel_format)
        if self._warned or (frame.width, frame.height, frame.format.name) == first:
            return
        self._warned = True
        time_s = 0.0 if frame.pts is None else float(source.time_of(frame.pts))
        self._warn(
            f"{source.location}: from {time_s:.3f} s on frames are {frame.width}x{frame.height} "
            f"{frame.format.name}; fitted into {source.coded_size} {source.pixel_format}"
        )


def _planar_format(source: SourceInfo) -> str:
    """The pixel format for a source: its own, or the nearest that loses no bits or chroma."""
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
    name = f"yuv{'a' if _is_transparent(source, pixel_format) else ''}{tag}p"
    return name if depth == 8 else f"{name}{depth}le"


def _is_transparent(source: SourceInfo, pixel_format: av.VideoFormat) -> bool:
    """Whether the pictures have an alpha channel. In uncompressed AVI its bytes mean nothing."""
    if (source.container, source.codec) == ("avi", "rawvideo"):
        return False
    return pixel_format.has_palette or any(each.is_alpha for each in pixel_format.components)


def _conversion(frame: av.VideoFrame, full_range: bool) -> dict[str, int]:
    """RGB becomes BT.709 limited range, as `probe` says. YCbCr keeps its matrix and the range."""
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


def is_rgb(pixel_format: av.VideoFormat) -> bool:
    """Whether frames of this format must be converted to YCbCr (with `RGB_MATRIX`)."""
    return pixel_format.is_rgb or pixel_format.has_palette or pixel_format.is_bayer
