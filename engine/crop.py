"""Sub-pixel crop sampling: a rectangle of a decoded frame, straight into a finished picture.

One pass of integer arithmetic per plane takes care of the crop, the scale, the rotation, the
chroma siting, the bit depth and the range, so the bytes are the same on every machine. Knows
neither edits nor files.

The resampler is the separable cubic of Keys (1981) with a = -0.6, which is also libswscale's
"bicubic". It is widened when shrinking, so that fine detail does not alias. Samples outside the
rectangle but inside the frame take part; the frame's own border is extended.

Fixed point: samples are raised to 14 bits, weights have 14 bits and sum exactly, the row between
the two passes is rounded to 14 bits, and the result is rounded once more.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numba import njit
from numpy.typing import NDArray

from engine.colour import UNIT, Levels, colour_conversion, levels
from engine.geometry import Box, Fit, Rect, Size, placed
from engine.picture import Picture, SourceFrame
from engine.source import Colour

SAMPLE_BITS = 14
"""Bits of a sample while it is resampled: an int16 with room for the cubic's overshoot."""
OUT_CHROMA_STEP = 2
OUT_CHROMA_OFFSET = (0.0, 0.5)
"""Siting of a `Picture`'s chroma, as in `SourceFrame.chroma_offset`."""

_BAND = 16
_ONE, _TWO, _THREE = np.uint64(1), np.uint64(2), np.uint64(3)  # unsigned: no wrap-around test


@dataclass(frozen=True, slots=True, eq=False)
class Taps:
    """How one axis of a plane is resampled.

    Output sample i is the weighted sum of the samples from `starts[i]` on, where those outside the
    plane stand for its border. `weights`: int16, shape (groups, outputs, 4).
    """

    starts: NDArray[np.int32]
    weights: NDArray[np.int16]
    shift: int | None
    """Where the output starts when it is a plain copy of consecutive samples, else None."""

    def __len__(self) -> int:
        return int(self.starts.size)


def taps(outputs: int, origin: float, step: float, unit: int = UNIT) -> Taps:
    """Weights for output samples centred at `origin + i * step`, in samples of the source plane.

    A negative step reads the plane backwards. The weights of each output sum to exactly `unit`.
    """
    groups = max(1, math.ceil(abs(step)))
    starts = np.empty(outputs, np.int32)
    weights = np.empty((groups, outputs, 4), np.int16)
    _fill_taps(origin, step, unit, starts, weights)
    copies = step == 1.0 and origin == math.floor(origin) and unit == UNIT
    return Taps(starts, weights, int(origin) if copies else None)


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
            _resample_plane(
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


@njit(cache=True, nogil=True)
def _keys(distance: float) -> float:
    """Keys' cubic convolution kernel with a = -0.6 (IEEE ASSP-29, 1981)."""
    a = -0.6
    d = abs(distance)
    if d < 1.0:
        return ((a + 2.0) * d - (a + 3.0)) * d * d + 1.0
    if d < 2.0:
        return a * (((d - 5.0) * d + 8.0) * d - 4.0)
    return 0.0


@njit(cache=True, nogil=True)
def _fill_taps(
    origin: float, step: float, unit: int, starts: NDArray[Any], weights: NDArray[Any]
) -> None:
    groups, outputs, _ = weights.shape
    stretch = max(1.0, abs(step))
    raw = np.empty(4 * groups, np.float64)
    for i in range(outputs):
        centre = origin + i * step
        start = math.floor(centre - 2.0 * stretch) + 1
        starts[i] = start
        total = 0.0
        for k in range(4 * groups):
            raw[k] = _keys((start + k - centre) / stretch)
            total += raw[k]
        # each weight is what the rounded running sum grows by: exact in sum, errors spread evenly
        running, before = 0.0, 0
        for k in range(4 * groups):
            running += raw[k]
            after = math.floor(running / total * unit + 0.5)
            weights[k // 4, i, k % 4] = after - before
            before = after


@njit(cache=True, nogil=True)
def _load_row(
    flat: NDArray[Any], base: int, width: int, first: int, scale: int, line: NDArray[Any]
) -> None:
    """Samples `first` ... of the row at `base`, raised to 14 bits; the border is extended."""
    lead = min(max(-first, 0), line.size)
    inside = min(max(width - first, lead), line.size)
    source = flat[base + first + lead : base + first + inside]
    middle = line[lead:inside]
    for i in range(middle.size):
        middle[i] = source[i] * scale
    for i in range(lead):
        line[i] = flat[base] * scale
    for i in range(inside, line.size):
        line[i] = flat[base + width - 1] * scale


@njit(cache=True, nogil=True)
def _gather(line: NDArray[Any], starts: NDArray[Any], k: int, quads: NDArray[Any]) -> None:
    """Lay the four samples that each output needs side by side: one 64-bit move each."""
    for x in range(starts.size):
        at = np.uint64(starts[x] + k)
        a, b, c, d = line[at], line[at + _ONE], line[at + _TWO], line[at + _THREE]
        quads[4 * x] = a
        quads[4 * x + 1] = b
        quads[4 * x + 2] = c
        quads[4 * x + 3] = d


@njit(cache=True, nogil=True)
def _filter_row(
    line: NDArray[Any],
    starts: NDArray[Any],
    weights: NDArray[Any],
    quads: NDArray[Any],
    halves: NDArray[Any],
    row: NDArray[Any],
) -> None:
    """The pass across: `row` (int16, 14 bits) from one line of samples."""
    for group in range(weights.shape[0]):
        _gather(line, starts, 4 * group, quads)
        w = weights[group]
        if group == 0:
            for j in range(halves.size):
                halves[j] = (
                    np.int32(quads[2 * j]) * np.int32(w[2 * j])
                    + np.int32(quads[2 * j + 1]) * np.int32(w[2 * j + 1])
                )  # fmt: skip
        else:
            for j in range(halves.size):
                halves[j] += (
                    np.int32(quads[2 * j]) * np.int32(w[2 * j])
                    + np.int32(quads[2 * j + 1]) * np.int32(w[2 * j + 1])
                )  # fmt: skip
    for x in range(row.size):
        row[x] = np.int32(halves[2 * x] + halves[2 * x + 1] + 8192) >> 14


@njit(cache=True, nogil=True)
def _add_rows(
    a: NDArray[Any], b: NDArray[Any], c: NDArray[Any], d: NDArray[Any],
    w: NDArray[Any], start: bool, sums: NDArray[Any],
) -> None:  # fmt: skip
    """The pass down, four rows at a time."""
    wa, wb, wc, wd = w[0], w[1], w[2], w[3]
    if start:
        for x in range(sums.size):
            sums[x] = (
                np.int32(a[x]) * np.int32(wa) + np.int32(b[x]) * np.int32(wb)
                + np.int32(c[x]) * np.int32(wc) + np.int32(d[x]) * np.int32(wd)
            )  # fmt: skip
    else:
        for x in range(sums.size):
            sums[x] += (
                np.int32(a[x]) * np.int32(wa) + np.int32(b[x]) * np.int32(wb)
                + np.int32(c[x]) * np.int32(wc) + np.int32(d[x]) * np.int32(wd)
            )  # fmt: skip


@njit(cache=True, nogil=True)
def _store(sums: NDArray[Any], bias: int, fine: bool, out: NDArray[Any]) -> None:
    """Round and clip 28-bit sums to 8-bit codes, or to codes with 6 bits more."""
    if fine:
        rounding = np.int32(bias + 8192)
        for x in range(out.size):
            value = np.int32(np.int32(sums[x] + rounding) >> 14)
            out[x] = min(max(value, np.int32(0)), np.int32(16383))
    else:
        rounding = np.int32(bias + 524288)
        for x in range(out.size):
            value = np.int32(np.int32(sums[x] + rounding) >> 20)
            out[x] = min(max(value, np.int32(0)), np.int32(255))


@njit(cache=True, nogil=True)
def _turn(
    band: NDArray[Any], rows: int, lanes: NDArray[Any], out: NDArray[Any], top: int, left: int
) -> None:
    """Rows of the band become columns of the output.

    Four rows are interleaved into a lane at a time, so that four samples move as one word.
    """
    if rows < _BAND:
        for x in range(band.shape[1]):
            for y in range(rows):
                out[top + x, left + y] = band[y, x]
        return
    for group in range(_BAND // 4):
        a, b, c, d = band[4 * group], band[4 * group + 1], band[4 * group + 2], band[4 * group + 3]
        lane = lanes[group]
        for x in range(a.size):
            lane[4 * x] = a[x]
            lane[4 * x + 1] = b[x]
            lane[4 * x + 2] = c[x]
            lane[4 * x + 3] = d[x]
    for x in range(band.shape[1]):
        row = out[top + x, left : left + _BAND]
        for group in range(_BAND // 4):
            lane = lanes[group]
            e, f, g, h = lane[4 * x], lane[4 * x + 1], lane[4 * x + 2], lane[4 * x + 3]
            row[4 * group] = e
            row[4 * group + 1] = f
            row[4 * group + 2] = g
            row[4 * group + 3] = h


@njit(cache=True, nogil=True)
def _resample_plane(
    flat: NDArray[Any], pitch: int, width: int, height: int, scale: int,
    x_starts: NDArray[Any], x_weights: NDArray[Any],
    y_starts: NDArray[Any], y_weights: NDArray[Any],
    bias: int, fine: bool, turned: bool, out: NDArray[Any], left: int, top: int,
) -> None:  # fmt: skip
    """Resample a plane into `out` at (left, top), transposed when `turned`.

    A ring holds the filtered source rows that the current output row needs; rows follow each other
    in either direction, so each is filtered once.
    """
    columns, rows = x_starts.size, y_starts.size
    first = min(x_starts[0], x_starts[-1])
    starts = x_starts - np.int32(first)
    across = x_weights.reshape(x_weights.shape[0], 4 * columns)
    needed = 4 * y_weights.shape[0]
    line = np.empty(max(starts[0], starts[-1]) + 4 * x_weights.shape[0], np.int16)
    quads = np.empty(4 * columns, np.int16)
    halves = np.empty(2 * columns, np.int32)
    ring = np.empty((needed, columns), np.int16)
    held = np.full(needed, -1, np.int64)
    sums = np.empty(columns, np.int32)
    band = np.empty((_BAND if turned else 0, columns), out.dtype)
    lanes = np.empty((band.shape[0] // 4, 4 * columns), out.dtype)
    for y in range(rows):
        for k in range(needed):
            source = min(max(y_starts[y] + k, 0), height - 1)
            if held[source % needed] != source:
                _load_row(flat, source * pitch, width, first, scale, line)
                _filter_row(line, starts, across, quads, halves, ring[source % needed])
                held[source % needed] = source
        for group in range(y_weights.shape[0]):
            at = y_starts[y] + 4 * group
            a = min(max(at, 0), height - 1) % needed
            b = min(max(at + 1, 0), height - 1) % needed
            c = min(max(at + 2, 0), height - 1) % needed
            d = min(max(at + 3, 0), height - 1) % needed
            _add_rows(
                ring[a], ring[b], ring[c], ring[d], y_weights[group, y], group == 0, sums
            )  # fmt: skip
        if not turned:
            _store(sums, bias, fine, out[top + y, left : left + columns])
            continue
        _store(sums, bias, fine, band[y % _BAND])
        if y % _BAND == _BAND - 1 or y == rows - 1:
            _turn(band, y % _BAND + 1, lanes, out, top, left + y - y % _BAND)
