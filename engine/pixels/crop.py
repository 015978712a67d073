"""Sub-pixel crop sampling: a rectangle of a decoded frame, straight into a finished picture.

One pass of integer arithmetic per plane does the crop, the scale, the rotation, the chroma siting,
the bit depth and the range, so the bytes are the same on every machine. Samples outside the
rectangle but inside the frame take part. The frame's own border is extended. Knows neither edits
nor files.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from engine.geometry import Box, Fit, Rect, Size, placed
from engine.pixels.colour import UNIT, Levels, colour_conversion, levels
from engine.pixels.picture import Picture, SourceFrame
from engine.pixels.resample import SAMPLE_BITS, Taps, resample_plane, taps
from engine.source import Colour

OUT_CHROMA_STEP = 2
OUT_CHROMA_OFFSET = (0.0, 0.5)
"""Siting of a `Picture`'s chroma, as in `SourceFrame.chroma_offset`."""


@dataclass(frozen=True, slots=True, eq=False)
class _Aim:
    """Everything that follows from the rectangle and the layout of the frame's planes."""

    key: tuple[object, ...]
    box: Box
    planes: tuple[_PlaneAim, _PlaneAim, _PlaneAim]


@dataclass(frozen=True, slots=True, eq=False)
class _PlaneAim:
    """How one coded plane is resampled; `bias` is the offset of its levels."""

    across: Taps
    down: Taps
    bias: int


class CropSampler:
    """Samples crop rectangles of one source's frames. Not to be shared between threads.

    `display_size` and `rotation_deg` are those of `SourceInfo`; a frame of any size is taken to be
    the display, turned back and stretched. Raises ValueError for other rotations.
    """

    def __init__(
        self, *, display_size: Size, rotation_deg: int, colour: Colour, target: Size, fit: Fit
    ) -> None:
        if rotation_deg not in (0, 90, 180, 270):
            raise ValueError(f"a picture is turned by quarter turns, not {rotation_deg} degrees")
        self._display = display_size
        self._rotation_deg = rotation_deg
        self._colour = colour
        self._target = target
        self._fit = fit
        self._convert = colour_conversion(colour)
        self._aim: _Aim | None = None
        self._fine: tuple[NDArray[np.uint16], ...] = ()

    def sample(self, frame: SourceFrame, rect: NDArray[np.float64], out: Picture) -> None:
        """Fill `out` with what `rect` shows; what the fit leaves free is black.

        `rect` is (x, y, width, height) in display pixels, of which nothing needs to be whole.
        Raises ValueError where `out` is not of the target's size.
        """
        if out.size != self._target:
            raise ValueError(f"the picture is {out.size}, the target {self._target}")
        aim = self._aimed(frame, rect)
        box = aim.box
        if (box.width, box.height) != (out.size.width, out.size.height):
            out.fill_black()
        if self._convert is None:
            self._resample(frame, aim, out.planes, (box.x, box.y))
        else:
            fine = self._fine_planes(box)
            self._resample(frame, aim, fine, (0, 0))
            self._convert(fine, out, box)

    def _aimed(self, frame: SourceFrame, rect: NDArray[np.float64]) -> _Aim:
        """The taps of this rectangle, kept while it stands still."""
        layout = (frame.size, frame.depth, frame.chroma_step, frame.chroma_offset)
        key = (rect.tobytes(), *layout)
        if self._aim is None or self._aim.key != key:
            x, y, width, height = (float(value) for value in rect)
            shown, box = placed(Rect(x, y, width, height), self._target, self._fit)
            view = _View(shown, box, self._display, frame.size, self._rotation_deg)
            luma, chroma = levels(self._colour.full_range, frame.depth)
            of_luma = view.plane((1, 1), (0.0, 0.0), 1, (0.0, 0.0), luma)
            of_chroma = view.plane(
                frame.chroma_step, frame.chroma_offset, OUT_CHROMA_STEP, OUT_CHROMA_OFFSET, chroma
            )
            self._aim = _Aim(key, box, (of_luma, of_chroma, of_chroma))
        return self._aim

    def _resample(
        self,
        frame: SourceFrame,
        aim: _Aim,
        out: Sequence[NDArray[Any]],
        corner: tuple[int, int],
    ) -> None:
        """All three planes into `out`, where the luma box has its top left at `corner`."""
        turned = self._rotation_deg in (90, 270)
        for plane, how, whole, step in zip(frame.planes, aim.planes, out, (1, 2, 2), strict=True):
            left, top = corner[0] // step, corner[1] // step
            shift = None if turned else _whole_shift(plane, how, whole)
            if shift is not None:
                x, y = shift
                columns, rows = len(how.across), len(how.down)
                whole[top : top + rows, left : left + columns] = plane[
                    y : y + rows, x : x + columns
                ]
                continue
            depth = min(frame.depth, SAMPLE_BITS)
            samples = plane if depth == frame.depth else plane >> (frame.depth - SAMPLE_BITS)
            flat, pitch = _flat(samples)
            height, width = plane.shape
            resample_plane(
                flat, pitch, width, height, 1 << (SAMPLE_BITS - depth),
                how.across.starts, how.across.weights, how.down.starts, how.down.weights,
                how.bias, whole.dtype != np.uint8, turned, whole, left, top,
            )  # fmt: skip

    def _fine_planes(self, box: Box) -> tuple[NDArray[np.uint16], ...]:
        whole, half = (box.height, box.width), (box.height // 2, box.width // 2)
        if not self._fine or self._fine[0].shape != whole:
            self._fine = tuple(np.empty(shape, np.uint16) for shape in (whole, half, half))
        return self._fine


@dataclass(frozen=True, slots=True)
class _View:
    """What is seen of a frame: the way from output pixels back to coded samples."""

    shown: Rect
    box: Box
    display: Size
    coded: Size
    rotation_deg: int

    def plane(
        self,
        step: tuple[int, int],
        offset: tuple[float, float],
        out_step: int,
        out_offset: tuple[float, float],
        level: Levels,
    ) -> _PlaneAim:
        """Taps across and down one coded plane; the gain of its levels goes with the second pass.

        The coded picture turned clockwise is the display, so at 90 degrees a coded row runs down a
        display column, and the coded columns stand from right to left.
        """
        x = (self.shown.x, self.shown.width, self.box.width, self.display.width, out_offset[0])
        y = (self.shown.y, self.shown.height, self.box.height, self.display.height, out_offset[1])
        turned = self.rotation_deg in (90, 270)
        across = _axis(
            *(y if turned else x), out_step, self.coded.width, step[0], offset[0],
            self.rotation_deg in (180, 270), UNIT,
        )  # fmt: skip
        down = _axis(
            *(x if turned else y), out_step, self.coded.height, step[1], offset[1],
            self.rotation_deg in (90, 180), level.unit,
        )  # fmt: skip
        return _PlaneAim(across, down, level.bias)


def _axis(
    start: float, extent: float, pixels: int, display: int, out_offset: float, out_step: int,
    coded: int, step: int, offset: float, backwards: bool, unit: int,
) -> Taps:  # fmt: skip
    """Taps of one axis: `[start, start + extent)` of `display` pixels fill `pixels` of output.

    A chroma sample stands for `step` samples of luma, the first at `offset` luma spacings from luma
    sample 0, whose centre is half a pixel inside the frame; and the same for the output.
    """
    edge = (start + (out_offset + 0.5) * (extent / pixels)) * (coded / display)
    pace = extent / pixels * (coded / display) * out_step / step
    origin = ((coded - edge if backwards else edge) - 0.5 - offset) / step
    return taps(pixels // out_step, origin, -pace if backwards else pace, unit)


def _whole_shift(plane: NDArray[Any], how: _PlaneAim, out: NDArray[Any]) -> tuple[int, int] | None:
    """Where to copy from, if a copy of 8-bit samples is what resampling would give."""
    x, y = how.across.shift, how.down.shift
    if x is None or y is None or x < 0 or y < 0 or plane.dtype != np.uint8 or out.dtype != np.uint8:
        return None
    height, width = plane.shape
    return (x, y) if x + len(how.across) <= width and y + len(how.down) <= height else None


def _flat(plane: NDArray[Any]) -> tuple[NDArray[Any], int]:
    """A read-only 1-D view of a plane and its padding, and the samples from row to row."""
    height, width = plane.shape
    row_bytes, sample_bytes = plane.strides
    if (
        sample_bytes != plane.itemsize
        or row_bytes < width * sample_bytes
        or row_bytes % sample_bytes
    ):
        return _flat(np.ascontiguousarray(plane))
    pitch = row_bytes // sample_bytes
    shape = ((height - 1) * pitch + width,)
    return np.lib.stride_tricks.as_strided(plane, shape, (sample_bytes,), writeable=False), pitch


# The kernels. Everything that counts is a loop over contiguous memory without branches, which LLVM
# turns into vector code; numba widens integers to 64 bits at every step, hence the np.int32.
