"""Resampling of one plane by a separable cubic, in fixed point: the kernels behind a crop.

The cubic is that of Keys (1981) with a = -0.6, which is also libswscale's "bicubic". It is widened
when it shrinks a picture, so that fine detail does not alias.

Samples are scaled up to 14 bits. Weights have 14 bits and sum exactly. The row between the two
passes is rounded to 14 bits, and the result is rounded once more.

The kernels' inner loops run over contiguous memory without branches, which LLVM turns into vector
code. numba widens integers to 64 bits at every step, hence the np.int32.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from engine.compiled import compiled
from engine.pixels.colour import UNIT

SAMPLE_BITS = 14
"""Bits of a sample during resampling: an int16 with room for the cubic's overshoot."""

_BAND = 16
"""Rows that are transposed together."""
_ONE, _TWO, _THREE = np.uint64(1), np.uint64(2), np.uint64(3)  # unsigned: no wrap-around test


@dataclass(frozen=True, slots=True, eq=False)
class Taps:
    """How one axis of a plane is resampled.

    Output sample i is the weighted sum of 4 * groups source samples from `starts[i]` on. Samples
    outside the plane repeat its border. `weights`: int16, shape (groups, outputs, 4).
    """

    starts: NDArray[np.int32]
    weights: NDArray[np.int16]
    shift: int | None
    """The first source sample where the output is a copy of consecutive samples, else None."""

    def __len__(self) -> int:
        return int(self.starts.size)


def taps(outputs: int, origin: float, step: float, unit: int = UNIT) -> Taps:
    """Taps for output samples centred at `origin + i * step`, in samples of the source plane.

    A negative step reads the plane backwards. The weights of each output sum to exactly `unit`.
    """
    groups = max(1, math.ceil(abs(step)))
    starts = np.empty(outputs, np.int32)
    weights = np.empty((groups, outputs, 4), np.int16)
    _fill_taps(origin, step, unit, starts, weights)
    copies = step == 1.0 and origin == math.floor(origin) and unit == UNIT
    return Taps(starts, weights, int(origin) if copies else None)


@compiled()
def _keys(distance: float) -> float:
    """Keys' cubic convolution kernel with a = -0.6 (IEEE ASSP-29, 1981)."""
    a = -0.6
    d = abs(distance)
    if d < 1.0:
        return ((a + 2.0) * d - (a + 3.0)) * d * d + 1.0
    if d < 2.0:
        return a * (((d - 5.0) * d + 8.0) * d - 4.0)
    return 0.0


@compiled()
def _fill_taps(
    origin: float, step: float, unit: int, starts: NDArray[Any], weights: NDArray[Any]
) -> None:
    stretch = max(1.0, abs(step))
    for i in range(starts.size):
        centre = origin + i * step
        starts[i] = math.floor(centre - 2.0 * stretch) + 1
        fill_weights(starts[i], centre, stretch, unit, weights[:, i])


@compiled()
def fill_weights(
    start: int, centre: float, stretch: float, unit: int, weights: NDArray[Any]
) -> None:
    """The weights of the source samples from `start` on for an output sample at `centre`.

    The cubic is `stretch` times as wide as it is. `weights` has shape (groups, 4).
    """
    count = weights.size
    raw = np.empty(count, np.float64)
    total = 0.0
    for k in range(count):
        raw[k] = _keys((start + k - centre) / stretch)
        total += raw[k]
    # each weight is the growth of the rounded running sum: the sum is exact and the errors spread
    # evenly
    running, before = 0.0, 0
    for k in range(count):
        running += raw[k]
        after = math.floor(running / total * unit + 0.5)
        weights[k // 4, k % 4] = after - before
        before = after


@compiled()
def load_row(
    flat: NDArray[Any], base: int, width: int, first: int, scale: int, line: NDArray[Any]
) -> None:
    """Fills `line` with the row at `base` from sample `first` on, times `scale`.

    Samples outside the row repeat its border.
    """
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


@compiled()
def copy_quads(line: NDArray[Any], starts: NDArray[Any], k: int, quads: NDArray[Any]) -> None:
    """Puts the four samples that each output needs side by side: one 64-bit move each."""
    for x in range(starts.size):
        at = np.uint64(starts[x] + k)
        a, b, c, d = line[at], line[at + _ONE], line[at + _TWO], line[at + _THREE]
        quads[4 * x] = a
        quads[4 * x + 1] = b
        quads[4 * x + 2] = c
        quads[4 * x + 3] = d


@compiled()
def filter_row(
    line: NDArray[Any],
    starts: NDArray[Any],
    weights: NDArray[Any],
    quads: NDArray[Any],
    halves: NDArray[Any],
    row: NDArray[Any],
) -> None:
    """The horizontal pass: `row` (int16, 14 bits) from one line of samples."""
    for group in range(weights.shape[0]):
        copy_quads(line, starts, 4 * group, quads)
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


@compiled()
def _add_rows(
    a: NDArray[Any], b: NDArray[Any], c: NDArray[Any], d: NDArray[Any],
    w: NDArray[Any], start: bool, sums: NDArray[Any],
) -> None:  # fmt: skip
    """The vertical pass: adds four weighted rows to `sums`, or sets it where `start`."""
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


@compiled()
def store(sums: NDArray[Any], bias: int, fine: bool, out: NDArray[Any]) -> None:
    """Rounds and clips 28-bit sums to 8-bit codes, or to codes with 6 bits more where `fine`."""
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


@compiled()
def _transpose_band(
    band: NDArray[Any], rows: int, lanes: NDArray[Any], out: NDArray[Any], top: int, left: int
) -> None:
    """Writes the rows of a band as columns of the output.

    Four rows at a time are interleaved into a lane, so that four samples move as one word.
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


@compiled()
def resample_plane(
    flat: NDArray[Any], pitch: int, width: int, height: int, scale: int,
    x_starts: NDArray[Any], x_weights: NDArray[Any],
    y_starts: NDArray[Any], y_weights: NDArray[Any],
    bias: int, fine: bool, transposed: bool, out: NDArray[Any], left: int, top: int,
) -> None:  # fmt: skip
    """Resamples a plane into `out` at (left, top), transposed where `transposed`.

    `flat` holds the plane's rows, `pitch` samples apart; `scale` raises a sample to 14 bits. `bias`
    is added to the sums, in 2**-20 codes. `fine`: `out` holds codes with 6 bits more.

    A ring holds the filtered source rows that the current output row needs. The rows needed only
    move in one direction, so each is filtered once.
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
    band = np.empty((_BAND if transposed else 0, columns), out.dtype)
    lanes = np.empty((band.shape[0] // 4, 4 * columns), out.dtype)
    for y in range(rows):
        for k in range(needed):
            source = min(max(y_starts[y] + k, 0), height - 1)
            if held[source % needed] != source:
                load_row(flat, source * pitch, width, first, scale, line)
                filter_row(line, starts, across, quads, halves, ring[source % needed])
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
        if not transposed:
            store(sums, bias, fine, out[top + y, left : left + columns])
            continue
        store(sums, bias, fine, band[y % _BAND])
        if y % _BAND == _BAND - 1 or y == rows - 1:
            _transpose_band(band, y % _BAND + 1, lanes, out, top, left + y - y % _BAND)
