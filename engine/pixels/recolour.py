"""Recolours resampled planes: any source's code values become 8-bit BT.709 SDR.

Range and bit depth are done before, by the resampler (`colour.levels`). The planes have 6 bits more
than the picture. There are two ways:

- **By a matrix**, in the gamma domain, as every player and libswscale do: SDR whose primaries are
  taken as those of BT.709.
- **Through light**: HDR and wide gamuts. Codes become three channels, light, light of BT.709's
  primaries, the signal of the brightest channel and what the others lack of it, and codes again.

Every step is a table, arithmetic on whole numbers, or a single operation on float32, which IEEE
754 defines to the last bit. numba neither fuses nor reorders these, so the bits are the same
everywhere. The tables are made from the formulas in `colour.py`. Both ways keep grey grey and black
black. Knows no geometry except the box that it fills.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache, partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from engine.compiled import compiled
from engine.geometry import Box
from engine.pixels.colour import (
    CHROMA_SPAN,
    FINE_BITS,
    LUMA_SPAN,
    SDR_GAMMA,
    UNIT,
    channel_weights,
    hlg_system_gain,
    kept_tint,
    light_of_signal,
    linear_weights,
    luminance,
    matrix_weights,
    rgb_to_ycc,
    shown_signal,
)
from engine.pixels.picture import Picture
from engine.source import Colour, Matrix, Primaries, Transfer

Conversion = Callable[[Sequence[NDArray[np.uint16]], Picture, Box], None]
"""Fills the box from 4:2:0 planes of its size, in limited-range codes * 2**FINE_BITS."""

_FINE = 1 << FINE_BITS
_INDEX_BITS = 14
"""Fine codes, and roots without their last 2 bits, index tables by this many bits."""
_ROOT_TOP = (1 << 16) - 1
_LIGHT_BITS = 26
"""The most light of a channel is 2**26; mixed to other primaries it can become twice that."""
_FIRST_DOUBLING, _LAST_DOUBLING = -4, _LIGHT_BITS + 1
_STEP_BITS = 9
"""Steps of the table of roots for a doubling of light: one is 0.2 %, a twelfth of a code."""
_SHIFT = 23 - _STEP_BITS
_FIRST_STEP = (127 + _FIRST_DOUBLING) << _STEP_BITS
"""The exponent and the upper bits of a float32 count the steps."""
_LEAST_LIGHT, _MOST_LIGHT = 2.0**_FIRST_DOUBLING, 2.0**_LAST_DOUBLING * (1 - 2.0**-24)


@dataclass(frozen=True, slots=True, eq=False)
class LightTables:
    """What the way through light needs for one colour."""

    to_signal: NDArray[np.int32]
    """From fine Y, Cb, Cr and 1 to the fine codes of three channels, in 1 / UNIT: shape (3, 4)."""
    light: NDArray[np.float32]
    """Light of a fine code, as a whole number."""
    to_linear: NDArray[np.float32]
    """From light of three channels to light of BT.709's primaries, and to luminance: (4, 3)."""
    root: NDArray[np.uint16]
    """The 1 / 2.4th power of light, by steps; it is proportional to an SDR signal."""
    peak: NDArray[np.uint16]
    """From the largest root of a colour to the SDR signal of that channel, a fine code from 0."""
    gain: NDArray[np.uint16]
    """By the same: from what the other roots lack of it to what their signals lack, in 1 / UNIT."""
    system_gain: NDArray[np.uint16]
    """HLG's OOTF on roots, by steps of the scene's luminance; empty for other transfers."""
    to_code: NDArray[np.int32]
    """From signals to Y, Cb and Cr, in 1 / UNIT: shape (3, 3)."""


def colour_conversion(colour: Colour) -> Conversion | None:
    """Converts limited-range planes of this colour to BT.709 SDR; None where they already are."""
    if colour.transfer is not Transfer.SDR or colour.gamut is not Primaries.BT709:
        return partial(_apply_light, light_tables(colour))
    if colour.matrix is Matrix.BT709:
        return None
    return partial(_apply_matrix, matrix_weights(colour.matrix))


@cache
def light_tables(colour: Colour) -> LightTables:
    """The tables of a colour. See `unrounded_tables`."""
    light, root, peak, gain, system_gain = map(np.floor, unrounded_tables(colour.transfer))
    linear = linear_weights(colour)
    weights = channel_weights(colour) * LUMA_SPAN * UNIT
    to_signal = np.floor(weights + 0.5)
    centre = to_signal[:, 1:3].sum(1) * 128  # the planes hold chroma from 0 on
    to_signal[:, 3] = np.floor((weights[:, 3] + 16 * UNIT - centre) * _FINE + UNIT / 2 + 0.5)
    to_code = rgb_to_ycc(np.eye(3)).T
    to_code[1:] *= CHROMA_SPAN / LUMA_SPAN
    return LightTables(
        to_signal=to_signal.astype(np.int32),
        light=light.astype(np.float32),
        to_linear=np.vstack([linear, luminance(linear.T)]).astype(np.float32),
        root=root.astype(np.uint16),
        peak=peak.astype(np.uint16),
        gain=gain.astype(np.uint16),
        system_gain=system_gain.astype(np.uint16),
        to_code=_summing_to(to_code, UNIT, (1, 0, 0)).astype(np.int32),
    )


def unrounded_tables(transfer: Transfer) -> tuple[NDArray[np.float64], ...]:
    """The values that `light_tables` rounds down: light, root, peak, gain, system gain.

    Slightly more than a half is added. So a value that is half way by construction always rounds
    up, although mathematics libraries differ in its last bit.
    """
    index = np.arange(1 << _INDEX_BITS)
    light = light_of_signal((index / _FINE - 16) / LUMA_SPAN, transfer) * (1 << _LIGHT_BITS)
    steps = np.arange((_LAST_DOUBLING - _FIRST_DOUBLING) << _STEP_BITS)
    bits = ((steps + _FIRST_STEP) << _SHIFT) + (1 << _SHIFT - 1)
    of_most = bits.astype(np.int32).view(np.float32).astype(float) / 2.0**_LAST_DOUBLING
    root = _ROOT_TOP * of_most ** (1 / SDR_GAMMA)
    root[0] = 0
    share = (index * 4 + 2) / _ROOT_TOP
    at_root = 2 * share**SDR_GAMMA
    peak = shown_signal(at_root, transfer) * (LUMA_SPAN * _FINE)
    gain = peak * kept_tint(at_root, transfer) / (share * _ROOT_TOP) * UNIT
    system_gain = np.empty(0)
    if transfer is Transfer.HLG:
        of_root = hlg_system_gain(np.minimum(of_most * 2, 1.0)) ** (1 / SDR_GAMMA)
        system_gain = _ROOT_TOP * of_root
    return tuple(each + 0.500001 for each in (light, root, peak, gain, system_gain))


def _summing_to(
    weights: NDArray[np.float64], unit: int, sums: tuple[int, int, int]
) -> NDArray[np.float64]:
    """Weights in 1 / `unit`; the largest of each row takes up what rounding changed of its sum."""
    rounded = np.floor(weights * unit + 0.5)
    for row, total in zip(rounded, sums, strict=True):
        row[np.argmax(np.abs(row))] += total * unit - row.sum()
    return rounded


def _apply_matrix(
    weights: NDArray[np.int32], planes: Sequence[NDArray[np.uint16]], out: Picture, box: Box
) -> None:
    y, u, v = planes
    _matrix_kernel(y, u, v, weights, *out.planes, box.x, box.y)


def _apply_light(
    tables: LightTables, planes: Sequence[NDArray[np.uint16]], out: Picture, box: Box
) -> None:
    y, u, v = planes
    _light_kernel(
        y, u, v,
        tables.to_signal, tables.light, tables.to_linear, tables.root,
        tables.peak, tables.gain, tables.system_gain, tables.to_code,
        *out.planes, box.x, box.y,
    )  # fmt: skip


# Sites


@compiled()
def _chroma_at_luma(near: NDArray[Any], far: NDArray[Any], line: NDArray[Any]) -> None:
    """Left-sited chroma at the sites of a row of luma; the nearer chroma row is 1/4 step away."""
    last = near.size - 1
    for i in range(last):
        here = np.int32(near[i]) * 3 + np.int32(far[i])
        right = np.int32(near[i + 1]) * 3 + np.int32(far[i + 1])
        line[2 * i] = (2 * here + 4) >> 3
        line[2 * i + 1] = (here + right + 4) >> 3
    line[2 * last] = line[2 * last + 1] = (np.int32(near[last]) * 3 + np.int32(far[last]) + 2) >> 2


@compiled()
def _far_row(y: int, rows: int) -> int:
    """The second nearest chroma row to luma row `y`."""
    return min(max(y // 2 + (1 if y % 2 else -1), 0), rows - 1)


@compiled()
def _luma_at_chroma(above: NDArray[Any], below: NDArray[Any], line: NDArray[Any]) -> None:
    """Luma at the sites of a row of left-sited chroma, from the two luma rows around it."""
    for x in range(line.size):
        before = max(2 * x - 1, 0)
        total = np.int32(above[before]) + np.int32(below[before])
        total += 2 * (np.int32(above[2 * x]) + np.int32(below[2 * x]))
        line[x] = (total + above[2 * x + 1] + below[2 * x + 1] + 4) >> 3


# By a matrix


@compiled()
def _add_chroma(
    base: NDArray[Any], cb: NDArray[Any], cr: NDArray[Any], wb: int, wr: int, out: NDArray[Any]
) -> None:
    """out = base + wb * (cb - 128) + wr * (cr - 128), rounded to whole codes."""
    wb32, wr32 = np.int32(wb), np.int32(wr)
    for i in range(out.size):
        total = np.int32(
            (np.int32(base[i]) << 14)
            + (np.int32(cb[i]) - 8192) * wb32
            + (np.int32(cr[i]) - 8192) * wr32
            + 524288
        )
        out[i] = min(max(np.int32(total >> 20), np.int32(0)), np.int32(255))


@compiled()
def _matrix_kernel(
    y: NDArray[Any], u: NDArray[Any], v: NDArray[Any], weights: NDArray[Any],
    out_y: NDArray[Any], out_u: NDArray[Any], out_v: NDArray[Any], left: int, top: int,
) -> None:  # fmt: skip
    height, width = y.shape
    rows, columns = u.shape
    cb = np.empty(width, np.uint16)
    cr = np.empty(width, np.uint16)
    for row in range(height):
        far = _far_row(row, rows)
        _chroma_at_luma(u[row // 2], u[far], cb)
        _chroma_at_luma(v[row // 2], v[far], cr)
        _add_chroma(y[row], cb, cr, weights[0], weights[1], out_y[top + row, left : left + width])
    neutral = np.full(columns, 8192, np.uint16)
    top, left = top // 2, left // 2
    for row in range(rows):
        there = slice(left, left + columns)
        _add_chroma(neutral, u[row], v[row], weights[2], weights[3], out_u[top + row, there])
        _add_chroma(neutral, u[row], v[row], weights[4], weights[5], out_v[top + row, there])


# Through light. Loops that only look up, and loops that only compute, each become vector code.


@compiled()
def _channel(
    y: NDArray[Any], cb: NDArray[Any], cr: NDArray[Any], w: NDArray[Any], out: NDArray[Any]
) -> None:
    """The fine codes of one channel."""
    wy, wb, wr, offset = np.int32(w[0]), np.int32(w[1]), np.int32(w[2]), np.int32(w[3])
    for x in range(out.size):
        code = np.int32(
            np.int32(y[x]) * wy + np.int32(cb[x]) * wb + np.int32(cr[x]) * wr + offset
        ) >> np.int32(14)
        out[x] = min(max(np.int32(code), np.int32(0)), np.int32(16383))


@compiled()
def _look_up(table: NDArray[Any], index: NDArray[Any], out: NDArray[Any]) -> None:
    for x in range(out.size):
        out[x] = table[np.uint64(index[x])]  # unsigned: no wrap-around test


@compiled()
def _weighted(
    a: NDArray[Any], b: NDArray[Any], c: NDArray[Any], w: NDArray[Any], out: NDArray[Any]
) -> None:
    wa, wb, wc = w[0], w[1], w[2]
    for x in range(out.size):
        out[x] = wa * a[x] + wb * b[x] + wc * c[x]


@compiled()
def _remove_negatives(
    a: NDArray[Any], b: NDArray[Any], c: NDArray[Any], luminance: NDArray[Any]
) -> None:
    """`colour.without_negatives` on a row."""
    none, one = np.float32(0), np.float32(1)
    for x in range(a.size):
        grey = max(luminance[x], none)
        low = min(min(a[x], min(b[x], c[x])), none)
        share = grey / max(grey - low, one)
        share = share if low < none else one
        a[x] = max(grey + (a[x] - grey) * share, none)
        b[x] = max(grey + (b[x] - grey) * share, none)
        c[x] = max(grey + (c[x] - grey) * share, none)


@compiled()
def _by_light(
    light: NDArray[Any], table: NDArray[Any], kept: NDArray[Any], out: NDArray[Any]
) -> None:
    """Looks up a table by steps of light. `kept`: a buffer for light that it covers."""
    least, most = np.float32(_LEAST_LIGHT), np.float32(_MOST_LIGHT)
    for x in range(kept.size):
        kept[x] = min(max(light[x], least), most)
    steps = kept.view(np.int32)
    for x in range(steps.size):
        steps[x] = (steps[x] >> _SHIFT) - _FIRST_STEP
    _look_up(table, steps, out)


@compiled()
def _largest(a: NDArray[Any], b: NDArray[Any], c: NDArray[Any], out: NDArray[Any]) -> None:
    for x in range(out.size):
        out[x] = max(a[x], max(b[x], c[x]))


@compiled()
def _by_root(table: NDArray[Any], roots: NDArray[Any], out: NDArray[Any]) -> None:
    for x in range(out.size):
        out[x] = table[np.uint64(roots[x] >> 2)]


@compiled()
def _scale(row: NDArray[Any], factor: NDArray[Any]) -> None:
    for x in range(row.size):
        row[x] = np.uint32(np.uint32(row[x]) * np.uint32(factor[x])) >> np.uint32(16)


@compiled()
def _luma(
    roots: NDArray[Any], largest: NDArray[Any], peaks: NDArray[Any], gains: NDArray[Any],
    w: NDArray[Any], out: NDArray[Any],
) -> None:  # fmt: skip
    """Y, from the roots of red, green and blue, rounded to whole codes."""
    a, b, c = roots[0], roots[1], roots[2]
    wa, wb, wc = np.int32(w[0]), np.int32(w[1]), np.int32(w[2])
    for x in range(out.size):
        root = np.int32(
            np.int32(a[x]) * wa + np.int32(b[x]) * wb + np.int32(c[x]) * wc
        ) >> np.int32(14)
        lacking = np.int32((np.int32(largest[x]) - root) * np.int32(gains[x])) >> np.int32(14)
        code = np.int32(np.int32(peaks[x]) - lacking + np.int32(64 * 16 + 32)) >> np.int32(6)
        out[x] = min(max(np.int32(code), np.int32(0)), np.int32(255))


@compiled()
def _chroma(roots: NDArray[Any], gains: NDArray[Any], w: NDArray[Any], out: NDArray[Any]) -> None:
    """Cb or Cr, from the roots of red, green and blue, rounded to whole codes."""
    a, b, c = roots[0], roots[1], roots[2]
    wa, wb, wc = np.int32(w[0]), np.int32(w[1]), np.int32(w[2])
    for x in range(out.size):
        root = np.int32(
            np.int32(a[x]) * wa + np.int32(b[x]) * wb + np.int32(c[x]) * wc
        ) >> np.int32(14)
        fine = np.int32(root * np.int32(gains[x])) >> np.int32(14)
        code = np.int32(fine + np.int32(64 * 128 + 32)) >> np.int32(6)
        out[x] = min(max(np.int32(code), np.int32(0)), np.int32(255))


@compiled()
def _to_roots(
    y: NDArray[Any], cb: NDArray[Any], cr: NDArray[Any],
    to_signal: NDArray[Any], light: NDArray[Any], to_linear: NDArray[Any], root: NDArray[Any],
    gain: NDArray[Any], system_gain: NDArray[Any],
    lights: NDArray[Any], linear: NDArray[Any],
    roots: NDArray[Any], largest: NDArray[Any], gains: NDArray[Any],
) -> None:  # fmt: skip
    """A row of colours as roots of BT.709 light, the largest of each, and its gain.

    `lights` and `linear` are buffers of float32, shape (4, columns).
    """
    for channel in range(3):
        _channel(y, cb, cr, to_signal[channel], gains)
        _look_up(light, gains, lights[channel])
    for channel in range(4):
        _weighted(lights[0], lights[1], lights[2], to_linear[channel], linear[channel])
    _remove_negatives(linear[0], linear[1], linear[2], linear[3])
    for channel in range(3):
        _by_light(linear[channel], root, lights[3], roots[channel])
    if system_gain.size:
        _by_light(linear[3], system_gain, lights[3], gains)
        for channel in range(3):
            _scale(roots[channel], gains)
    _largest(roots[0], roots[1], roots[2], largest)
    _by_root(gain, largest, gains)


@compiled()
def _light_kernel(
    y: NDArray[Any], u: NDArray[Any], v: NDArray[Any],
    to_signal: NDArray[Any], light: NDArray[Any], to_linear: NDArray[Any], root: NDArray[Any],
    peak: NDArray[Any], gain: NDArray[Any], system_gain: NDArray[Any], to_code: NDArray[Any],
    out_y: NDArray[Any], out_u: NDArray[Any], out_v: NDArray[Any], left: int, top: int,
) -> None:  # fmt: skip
    height, width = y.shape
    rows, columns = u.shape
    cb, cr = np.empty(width, np.uint16), np.empty(width, np.uint16)
    lights, linear = np.empty((4, width), np.float32), np.empty((4, width), np.float32)
    roots, peaks = np.empty((3, width), np.uint16), np.empty(width, np.uint16)
    largest, gains = np.empty(width, np.uint16), np.empty(width, np.uint16)
    for row in range(height):
        far = _far_row(row, rows)
        _chroma_at_luma(u[row // 2], u[far], cb)
        _chroma_at_luma(v[row // 2], v[far], cr)
        _to_roots(
            y[row], cb, cr, to_signal, light, to_linear, root, gain, system_gain,
            lights, linear, roots, largest, gains,
        )  # fmt: skip
        _by_root(peak, largest, peaks)
        _luma(roots, largest, peaks, gains, to_code[0], out_y[top + row, left : left + width])
    top, left = top // 2, left // 2
    lightness, largest, gains = cb[:columns], largest[:columns], gains[:columns]
    lights, linear = np.empty((4, columns), np.float32), np.empty((4, columns), np.float32)
    roots = np.empty((3, columns), np.uint16)
    for row in range(rows):
        _luma_at_chroma(y[2 * row], y[2 * row + 1], lightness)
        _to_roots(
            lightness, u[row], v[row],
            to_signal, light, to_linear, root, gain, system_gain,
            lights, linear, roots, largest, gains,
        )  # fmt: skip
        _chroma(roots, gains, to_code[1], out_u[top + row, left : left + columns])
        _chroma(roots, gains, to_code[2], out_v[top + row, left : left + columns])
