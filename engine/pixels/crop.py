"""Sub-pixel crop sampling: a rectangle of a decoded frame, written into a finished picture.

One pass of integer arithmetic per plane does the crop, the scale, the rotation, the chroma siting,
the bit depth and the range. So the bytes are the same on every machine. Samples outside the
rectangle but inside the frame take part. The frame's border is repeated outward. Knows neither
edits nor files.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from engine.geometry import Box, Fit, Rect, Size, fit_crop
from engine.pixels.colour import UNIT, Levels, levels
from engine.pixels.picture import Picture, SourceFrame
from engine.pixels.recolour import colour_conversion
from engine.pixels.resample import SAMPLE_BITS, Taps, resample_plane, taps
from engine.source import Colour

OUT_CHROMA_STEP = 2
OUT_CHROMA_OFFSET = (0.0, 0.5)
"""Siting of a `Picture`'s chroma, as in `SourceFrame.chroma_offset`."""


@dataclass(frozen=True, slots=True, eq=False)
class _CropTaps:
    """How one rectangle is resampled from frames of one plane layout."""

    key: tuple[object, ...]
    """The rectangle and the layout."""
    box: Box
    """The part of the picture that it fills."""
    planes: tuple[_PlaneTaps, _PlaneTaps, _PlaneTaps]


@dataclass(frozen=True, slots=True, eq=False)
class _PlaneTaps:
    """How one coded plane is resampled; `bias` is the offset of its levels."""

    across: Taps
    down: Taps
    bias: int


class CropSampler:
    """Samples crop rectangles of one source's frames. Threads must not share one.

    `display_size`, `rotation_deg` and `mirrored` are those of `SourceInfo`. A frame of any size
    stands for the whole display, turned back and stretched. Raises ValueError where `rotation_deg`
    is not 0, 90, 180 or 270.
    """

    def __init__(
        self,
        *,
        display_size: Size,
        rotation_deg: int,
        colour: Colour,
        target: Size,
        fit: Fit,
        mirrored: bool = False,
    ) -> None:
        if rotation_deg not in (0, 90, 180, 270):
            raise ValueError(f"a picture is turned by quarter turns, not {rotation_deg} degrees")
        self._display = display_size
        self._rotation_deg = rotation_deg
        self._mirrored = mirrored
        self._colour = colour
        self._target = target
        self._fit = fit
        self._convert = colour_conversion(colour)
        self._taps: _CropTaps | None = None
        self._fine: tuple[NDArray[np.uint16], ...] = ()

    def sample(self, frame: SourceFrame, rect: NDArray[np.float64], out: Picture) -> None:
        """Fills `out` with what `rect` shows; the rest of `out` becomes black.

        `rect` is (x, y, width, height) in display pixels, float64, not necessarily whole. Raises
        ValueError where `out` is not of the target's size.
        """
        if out.size != self._target:
            raise ValueError(f"the picture is {out.size}, the target {self._target}")
        crop_taps = self._taps_for(frame, rect)
        box = crop_taps.box
        if (box.width, box.height) != (out.size.width, out.size.height):
            out.fill_black()
        if self._convert is None:
            self._resample(frame, crop_taps, out.planes, (box.x, box.y))
        else:
            fine = self._fine_planes(box)
            self._resample(frame, crop_taps, fine, (0, 0))
            self._convert(fine, out, box)

    def _taps_for(self, frame: SourceFrame, rect: NDArray[np.float64]) -> _CropTaps:
        """The taps of this rectangle, kept as long as it stays the same."""
        layout = (frame.size, frame.depth, frame.chroma_step, frame.chroma_offset)
        key = (rect.tobytes(), *layout)
        if self._taps is None or self._taps.key != key:
            x, y, width, height = (float(value) for value in rect)
            shown, box = fit_crop(Rect(x, y, width, height), self._target, self._fit)
            mapping = _Mapping(
                shown, box, self._display, frame.size, self._rotation_deg, self._mirrored
            )
            luma, chroma = levels(self._colour.full_range, frame.depth)
            luma_taps = mapping.plane_taps((1, 1), (0.0, 0.0), 1, (0.0, 0.0), luma)
            chroma_taps = mapping.plane_taps(
                frame.chroma_step, frame.chroma_offset, OUT_CHROMA_STEP, OUT_CHROMA_OFFSET, chroma
            )
            self._taps = _CropTaps(key, box, (luma_taps, chroma_taps, chroma_taps))
        return self._taps

    def _resample(
        self,
        frame: SourceFrame,
        crop_taps: _CropTaps,
        out: Sequence[NDArray[Any]],
        corner: tuple[int, int],
    ) -> None:
        """Resamples all three planes into `out`; the luma box has its top left at `corner`."""
        transposed = self._rotation_deg in (90, 270)
        for plane, plane_taps, target, step in zip(
            frame.planes, crop_taps.planes, out, (1, 2, 2), strict=True
        ):
            across, down = plane_taps.across, plane_taps.down
            left, top = corner[0] // step, corner[1] // step
            copy_from = None if transposed else _copy_corner(plane, plane_taps, target)
            if copy_from is not None:
                x, y = copy_from
                columns, rows = len(across), len(down)
                target[top : top + rows, left : left + columns] = plane[
                    y : y + rows, x : x + columns
                ]
                continue
            depth = min(frame.depth, SAMPLE_BITS)
            samples = plane if depth == frame.depth else plane >> (frame.depth - SAMPLE_BITS)
            flat, pitch = _flat_view(samples)
            height, width = plane.shape
            resample_plane(
                flat, pitch, width, height, 1 << (SAMPLE_BITS - depth),
                across.starts, across.weights, down.starts, down.weights,
                plane_taps.bias, target.dtype != np.uint8, transposed, target, left, top,
            )  # fmt: skip

    def _fine_planes(self, box: Box) -> tuple[NDArray[np.uint16], ...]:
        whole, half = (box.height, box.width), (box.height // 2, box.width // 2)
        if not self._fine or self._fine[0].shape != whole:
            self._fine = tuple(np.empty(shape, np.uint16) for shape in (whole, half, half))
        return self._fine


@dataclass(frozen=True, slots=True)
class _Mapping:
    """Maps output pixels back to the samples of a coded frame."""

    shown: Rect
    box: Box
    display: Size
    coded: Size
    rotation_deg: int
    mirrored: bool

    def plane_taps(
        self,
        step: tuple[int, int],
        offset: tuple[float, float],
        out_step: int,
        out_offset: tuple[float, float],
        level: Levels,
    ) -> _PlaneTaps:
        """Taps across and down one coded plane; the second pass applies the gain of its levels.

        The coded picture turned clockwise is the display. So at 90 degrees a coded row is a display
        column from top to bottom, and the coded columns run from right to left. Mirroring turns
        coded rows round.
        """
        x = (self.shown.x, self.shown.width, self.box.width, self.display.width, out_offset[0])
        y = (self.shown.y, self.shown.height, self.box.height, self.display.height, out_offset[1])
        transposed = self.rotation_deg in (90, 270)
        across = _axis_taps(
            *(y if transposed else x), out_step, self.coded.width, step[0], offset[0],
            (self.rotation_deg in (180, 270)) != self.mirrored, UNIT,
        )  # fmt: skip
        down = _axis_taps(
            *(x if transposed else y), out_step, self.coded.height, step[1], offset[1],
            self.rotation_deg in (90, 180), level.unit,
        )  # fmt: skip
        return _PlaneTaps(across, down, level.bias)


def _axis_taps(
    start: float, extent: float, pixels: int, display: int, out_offset: float, out_step: int,
    coded: int, step: int, offset: float, backwards: bool, unit: int,
) -> Taps:  # fmt: skip
    """Taps of one axis: `[start, start + extent)` of `display` pixels fill `pixels` of output.

    A chroma sample stands for `step` luma samples. The first one sits `offset` luma spacings from
    luma sample 0, whose centre is half a pixel inside the frame. The same holds for the output.
    """
    edge = (start + (out_offset + 0.5) * (extent / pixels)) * (coded / display)
    pace = extent / pixels * (coded / display) * out_step / step
    origin = ((coded - edge if backwards else edge) - 0.5 - offset) / step
    return taps(pixels // out_step, origin, -pace if backwards else pace, unit)


def _copy_corner(
    plane: NDArray[Any], plane_taps: _PlaneTaps, out: NDArray[Any]
) -> tuple[int, int] | None:
    """The top left sample to copy from, where resampling would give a copy of 8-bit samples."""
    across, down = plane_taps.across, plane_taps.down
    x, y = across.shift, down.shift
    if x is None or y is None or x < 0 or y < 0 or plane.dtype != np.uint8 or out.dtype != np.uint8:
        return None
    height, width = plane.shape
    return (x, y) if x + len(across) <= width and y + len(down) <= height else None


def _flat_view(plane: NDArray[Any]) -> tuple[NDArray[Any], int]:
    """A read-only 1-D view of a plane and its padding, and the pitch: samples from row to row."""
    height, width = plane.shape
    row_bytes, sample_bytes = plane.strides
    if (
        sample_bytes != plane.itemsize
        or row_bytes < width * sample_bytes
        or row_bytes % sample_bytes
    ):
        return _flat_view(np.ascontiguousarray(plane))
    pitch = row_bytes // sample_bytes
    shape = ((height - 1) * pitch + width,)
    return np.lib.stride_tricks.as_strided(plane, shape, (sample_bytes,), writeable=False), pitch
