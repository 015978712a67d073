"""Converts a source's code values to 8-bit BT.709 limited range.

Range and bit depth are a gain and an offset per plane (`levels`), which the resampler applies.
Everything else works on resampled planes that have 6 bits more than the picture:

- BT.601: one matrix on Y, Cb, Cr, in the gamma domain, as every player and libswscale do.
- BT.2020, HLG, PQ: a table over (Y, Cb, Cr), built once from the published formulas in float64
  and interpolated in integers, so one kernel serves them all.

All of them keep grey grey and black black. Knows no geometry except the box that it fills.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache, partial
from typing import Any

import numpy as np
from numba import njit
from numpy.typing import NDArray

from engine.geometry import Box
from engine.pixels.picture import Picture
from engine.source import Colour, Matrix, Transfer

FINE_BITS = 6
"""Bits below an 8-bit code value in the uint16 planes that a `Conversion` takes."""
UNIT = 1 << 14
"""The fixed-point weight of 1."""

SDR_WHITE_NIT = 203.0
"""HDR reference white (ITU-R BT.2408), taken as the peak of the SDR display."""
HDR_PEAK_NIT = 1000.0
"""Peak of the HDR display to adapt from: HLG's nominal peak, and the peak most PQ is graded at."""
SDR_GAMMA = 2.4
"""Display gamma (ITU-R BT.1886 with a black of 0)."""
SDR_HEADROOM = (256 - 16) / 219
"""Signal of the highest code: whites above 235 in an SDR source are kept."""

Conversion = Callable[[Sequence[NDArray[np.uint16]], Picture, Box], None]
"""Fills the box from 4:2:0 planes of its size, in limited-range codes * 2**FINE_BITS."""

_LUMA_WEIGHTS = {
    Matrix.BT601: (0.299, 0.114),
    Matrix.BT709: (0.2126, 0.0722),
    Matrix.BT2020: (0.2627, 0.0593),
}
"""Kr and Kb of BT.601, BT.709 and BT.2020."""

BT2020_TO_BT709 = np.array(
    [[1.6605, -0.5877, -0.0728], [-0.1246, 1.1330, -0.0084], [-0.0182, -0.1006, 1.1188]]
)
"""Linear RGB, ITU-R BT.2407, to four digits; the last digit is set so that rows sum to 1."""

_ZERO, _SPAN = np.array([16.0, 128.0, 128.0]), np.array([219.0, 224.0, 224.0])
"""Limited-range codes of zero, and the codes from zero to the peak."""

_NODES = 65
"""Table nodes along each of Y, Cb and Cr: one every 4 codes."""
_Y_STEP, _CB_STEP = _NODES * _NODES, _NODES


@dataclass(frozen=True, slots=True)
class Levels:
    """Gain and offset from a plane's samples to 8-bit limited-range codes.

    The gain is `unit / UNIT`. The offset, `bias`, is in 2**-20 codes, the scale of the resampler's
    sums.
    """

    unit: int
    bias: int


def levels(full_range: bool, depth: int) -> tuple[Levels, Levels]:
    """Levels of luma and of chroma (ITU-T H.273, 8.3: full range is 0 ... 2**depth - 1)."""
    if not full_range:
        return Levels(UNIT, 0), Levels(UNIT, 0)
    peak = (2**depth - 1) / 2 ** (depth - 8)
    luma, chroma = round(219 / peak * UNIT), round(224 / peak * UNIT)
    return Levels(luma, 16 << 20), Levels(chroma, (128 << 20) - 128 * 64 * chroma)


def colour_conversion(colour: Colour) -> Conversion | None:
    """Converts limited-range planes of this colour to BT.709 SDR; None where they already are."""
    if colour.transfer is Transfer.SDR and colour.matrix is Matrix.BT709:
        return None
    if colour.transfer is Transfer.SDR and colour.matrix is Matrix.BT601:
        return partial(_apply_matrix, matrix_weights(colour.matrix))
    return partial(_apply_table, conversion_table(colour.matrix, colour.transfer))


# Sums of three are written out, since a library's matrix product rounds differently on each CPU.


def ycc_to_rgb(ycc: NDArray[np.float64], matrix: Matrix) -> NDArray[np.float64]:
    """(E'Y, E'Cb, E'Cr) to (E'R, E'G, E'B), shape (..., 3); chroma -0.5 to 0.5, others 0 to 1."""
    kr, kb = _LUMA_WEIGHTS[matrix]
    y, cb, cr = ycc[..., 0], ycc[..., 1], ycc[..., 2]
    red, blue = y + 2 * (1 - kr) * cr, y + 2 * (1 - kb) * cb
    return np.stack((red, (y - kr * red - kb * blue) / (1 - kr - kb), blue), -1)


def rgb_to_ycc(rgb: NDArray[np.float64], matrix: Matrix) -> NDArray[np.float64]:
    """The inverse of `ycc_to_rgb`."""
    kr, kb = _LUMA_WEIGHTS[matrix]
    y = luminance(rgb, matrix)
    return np.stack((y, (rgb[..., 2] - y) / (2 - 2 * kb), (rgb[..., 0] - y) / (2 - 2 * kr)), -1)


def luminance(rgb: NDArray[np.float64], matrix: Matrix) -> NDArray[np.float64]:
    """Luma of R'G'B', or luminance of linear RGB in the primaries that go with `matrix`.

    `rgb` has shape (..., 3), the result (...).
    """
    kr, kb = _LUMA_WEIGHTS[matrix]
    return np.asarray(kr * rgb[..., 0] + (1 - kr - kb) * rgb[..., 1] + kb * rgb[..., 2])


def matrix_weights(matrix: Matrix) -> NDArray[np.int32]:
    """Weights from `matrix` to BT.709 without a change of primaries, in 1 / UNIT, shape (6,).

    In order: Cb and Cr into Y, Cb and Cr into Cb, Cb and Cr into Cr. Y goes into Y unchanged and
    not into chroma, because both matrices make grey of equal red, green and blue.
    """
    unit_chroma = np.array([[0.0, 1.0, 0.0], [0.0, 0.0, 1.0]]) / _SPAN
    change = rgb_to_ycc(ycc_to_rgb(unit_chroma, matrix), Matrix.BT709) * _SPAN
    return np.asarray(np.floor(change.T.reshape(-1) * UNIT + 0.5), np.int32)


# Display light. Formulas of ITU-R BT.2100-2 unless another source is named.


def hlg_to_nit(signal: NDArray[np.float64]) -> NDArray[np.float64]:
    """HLG R'G'B' (..., 3) to light in cd/m2 on a 1000 cd/m2 display: inverse OETF, then OOTF."""
    a, b, c = 0.17883277, 0.28466892, 0.55991073
    signal = np.maximum(signal, 0.0)
    scene = np.where(signal <= 0.5, signal * signal / 3, (np.exp((signal - c) / a) + b) / 12)
    return HDR_PEAK_NIT * luminance(scene, Matrix.BT2020)[..., None] ** 0.2 * scene


_PQ_M1, _PQ_M2 = 2610 / 16384, 2523 / 4096 * 128
_PQ_C1, _PQ_C2, _PQ_C3 = 3424 / 4096, 2413 / 4096 * 32, 2392 / 4096 * 32


def pq_to_nit(signal: NDArray[np.float64]) -> NDArray[np.float64]:
    """The PQ EOTF: signal 0 to 1 to light in cd/m2."""
    root = np.clip(signal, 0.0, 1.0) ** (1 / _PQ_M2)
    return 10000.0 * (np.maximum(root - _PQ_C1, 0.0) / (_PQ_C2 - _PQ_C3 * root)) ** (1 / _PQ_M1)


def nit_to_pq(light: NDArray[np.float64]) -> NDArray[np.float64]:
    """The inverse of the PQ EOTF: light in cd/m2 to signal 0 to 1."""
    power = (np.maximum(light, 0.0) / 10000.0) ** _PQ_M1
    return ((_PQ_C1 + _PQ_C2 * power) / (1 + _PQ_C3 * power)) ** _PQ_M2


def tone_map(nit: NDArray[np.float64]) -> NDArray[np.float64]:
    """Light of a 1000 cd/m2 display to that of a 203 cd/m2 one: EETF of ITU-R BT.2390-9, 5.4.1.

    Dark and middle tones keep their light, and a Hermite spline compresses the rest. Black is 0 on
    both. It works on red, green and blue separately, so highlights go white as on film. Applied to
    luminance it would turn a faint tint in a bright sky into a strong one.
    """
    peak = nit_to_pq(np.array(HDR_PEAK_NIT))
    limit = nit_to_pq(np.array(SDR_WHITE_NIT)) / peak
    e1 = np.minimum(nit_to_pq(nit) / peak, 1.0)
    knee = 1.5 * limit - 0.5
    t = np.maximum(e1 - knee, 0.0) / (1 - knee)
    t2, t3 = t * t, t * t * t
    spline = (
        (2 * t3 - 3 * t2 + 1) * knee + (t3 - 2 * t2 + t) * (1 - knee) + (3 * t2 - 2 * t3) * limit
    )
    return pq_to_nit(np.where(e1 < knee, e1, spline) * peak)


def map_to_gamut(rgb: NDArray[np.float64], top: float = 1.0) -> NDArray[np.float64]:
    """Linear BT.709 RGB (..., 3) with every channel moved into 0 to `top`.

    A colour outside moves towards the grey of its own luminance until it fits. This keeps its hue
    and its lightness; clipping each channel would not.
    """
    grey = np.clip(luminance(rgb, Matrix.BT709), 0.0, top)[..., None]
    tint = rgb - grey
    room = np.where(tint > 0, top - grey, grey)
    reach = np.abs(tint)
    share = np.min(np.where(reach > room, room / np.maximum(reach, 1e-12), 1.0), -1, keepdims=True)
    return np.asarray(np.clip(grey + share * tint, 0.0, top))


def to_bt709(code: NDArray[np.float64], matrix: Matrix, transfer: Transfer) -> NDArray[np.float64]:
    """8-bit limited-range codes Y, Cb, Cr (..., 3) to those of BT.709 SDR, not rounded.

    The source's primaries are those of BT.2020. Display light is kept where the SDR display can
    show it. Slow: `conversion_table` is made from it and tested against it.
    """
    signal = ycc_to_rgb((code - _ZERO) / _SPAN, matrix)
    top = 1.0
    if transfer is Transfer.SDR:
        top = SDR_HEADROOM**SDR_GAMMA
        light = np.maximum(signal, 0.0) ** SDR_GAMMA
    else:
        nit = hlg_to_nit(signal) if transfer is Transfer.HLG else pq_to_nit(signal)
        light = tone_map(nit) / SDR_WHITE_NIT
    red, green, blue = light[..., 0], light[..., 1], light[..., 2]
    narrow = np.stack([r * red + g * green + b * blue for r, g, b in BT2020_TO_BT709], -1)
    encoded = map_to_gamut(narrow, top) ** (1 / SDR_GAMMA)
    return np.asarray(rgb_to_ycc(encoded, Matrix.BT709) * _SPAN + _ZERO)


def unrounded_table(matrix: Matrix, transfer: Transfer) -> NDArray[np.float64]:
    """The values that `conversion_table` rounds down, shape (Y, Cb, Cr, 3).

    Slightly more than a half is added. So a value that is half way by construction always rounds
    up, although mathematics libraries differ in its last bit.
    """
    codes = np.arange(_NODES) * 4.0
    code = np.stack(np.meshgrid(codes, codes, codes, indexing="ij"), -1)
    return np.asarray(to_bt709(code, matrix, transfer) * 2**FINE_BITS + 0.500001)


@cache
def conversion_table(matrix: Matrix, transfer: Transfer) -> tuple[NDArray[np.uint16], ...]:
    """`to_bt709` on a grid over Y, Cb, Cr: one flat table for each of Y, Cb, Cr.

    Nodes are 4 codes apart; values are codes * 2**FINE_BITS.
    """
    table = np.floor(unrounded_table(matrix, transfer)).astype(np.uint16)
    return tuple(table[..., plane].reshape(-1).copy() for plane in range(3))


def _apply_matrix(
    weights: NDArray[np.int32], planes: Sequence[NDArray[np.uint16]], out: Picture, box: Box
) -> None:
    y, u, v = planes
    _matrix_kernel(y, u, v, weights, *out.planes, box.x, box.y)


def _apply_table(
    tables: tuple[NDArray[np.uint16], ...],
    planes: Sequence[NDArray[np.uint16]],
    out: Picture,
    box: Box,
) -> None:
    y, u, v = planes
    to_y, to_u, to_v = tables
    _table_kernel(y, u, v, to_y, to_u, to_v, *out.planes, box.x, box.y)


@njit(cache=True, nogil=True)
def _chroma_at_luma(near: NDArray[Any], far: NDArray[Any], line: NDArray[Any]) -> None:
    """Left-sited chroma at the sites of a row of luma; the nearer chroma row is 1/4 step away."""
    last = near.size - 1
    for i in range(last):
        here = np.int32(near[i]) * 3 + np.int32(far[i])
        right = np.int32(near[i + 1]) * 3 + np.int32(far[i + 1])
        line[2 * i] = (2 * here + 4) >> 3
        line[2 * i + 1] = (here + right + 4) >> 3
    line[2 * last] = line[2 * last + 1] = (np.int32(near[last]) * 3 + np.int32(far[last]) + 2) >> 2


@njit(cache=True, nogil=True)
def _far_row(y: int, rows: int) -> int:
    """The second nearest chroma row to luma row `y`."""
    return min(max(y // 2 + (1 if y % 2 else -1), 0), rows - 1)


@njit(cache=True, nogil=True)
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


@njit(cache=True, nogil=True)
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


@njit(cache=True, nogil=True)
def _find_tetrahedra(
    y: NDArray[Any], cb: NDArray[Any], cr: NDArray[Any], index: NDArray[Any], weight: NDArray[Any]
) -> None:
    """For each colour, the four corners of the tetrahedron around it, and weights that sum to 256.

    From the cell's lowest corner to its highest, the corners follow the axes in the order of the
    colour's remainders, largest first.
    """
    for x in range(y.size):
        lightness, blue, red = np.int32(y[x]), np.int32(cb[x]), np.int32(cr[x])
        a, b, c = np.int32(lightness & 255), np.int32(blue & 255), np.int32(red & 255)
        step_a, step_b, step_c = np.int32(_Y_STEP), np.int32(_CB_STEP), np.int32(1)
        a, b, step_a, step_b = (
            a if a >= b else b, b if a >= b else a,
            step_a if a >= b else step_b, step_b if a >= b else step_a,
        )  # fmt: skip
        b, c, step_b, step_c = (
            b if b >= c else c, c if b >= c else b,
            step_b if b >= c else step_c, step_c if b >= c else step_b,
        )  # fmt: skip
        a, b, step_a, step_b = (
            a if a >= b else b, b if a >= b else a,
            step_a if a >= b else step_b, step_b if a >= b else step_a,
        )  # fmt: skip
        first = np.int32((lightness >> 8) * _Y_STEP + (blue >> 8) * _CB_STEP + (red >> 8))
        index[0, x] = first
        index[1, x] = first + step_a
        index[2, x] = first + step_a + step_b
        index[3, x] = first + step_a + step_b + step_c
        weight[0, x] = 256 - a
        weight[1, x] = a - b
        weight[2, x] = b - c
        weight[3, x] = c


@njit(cache=True, nogil=True)
def _interpolate(
    table: NDArray[Any], index: NDArray[Any], weight: NDArray[Any], out: NDArray[Any]
) -> None:
    """Interpolates one row of the table's values, rounded to whole codes."""
    for x in range(out.size):
        total = np.int32(8192)
        for corner in range(4):
            at = np.uint64(index[corner, x])  # unsigned: no wrap-around test
            total += np.int32(table[at]) * weight[corner, x]
        out[x] = min(total >> 14, 255)


@njit(cache=True, nogil=True)
def _table_kernel(
    y: NDArray[Any], u: NDArray[Any], v: NDArray[Any],
    to_y: NDArray[Any], to_u: NDArray[Any], to_v: NDArray[Any],
    out_y: NDArray[Any], out_u: NDArray[Any], out_v: NDArray[Any], left: int, top: int,
) -> None:  # fmt: skip
    height, width = y.shape
    rows, columns = u.shape
    cb = np.empty(width, np.uint16)
    cr = np.empty(width, np.uint16)
    index = np.empty((4, width), np.int32)
    weight = np.empty((4, width), np.int32)
    for row in range(height):
        far = _far_row(row, rows)
        _chroma_at_luma(u[row // 2], u[far], cb)
        _chroma_at_luma(v[row // 2], v[far], cr)
        _find_tetrahedra(y[row], cb, cr, index, weight)
        _interpolate(to_y, index, weight, out_y[top + row, left : left + width])
    top, left = top // 2, left // 2
    lightness = np.empty(columns, np.uint16)
    for row in range(rows):
        _luma_at_chroma(y[2 * row], y[2 * row + 1], lightness)
        _find_tetrahedra(lightness, u[row], v[row], index, weight)
        _interpolate(to_u, index, weight, out_u[top + row, left : left + columns])
        _interpolate(to_v, index, weight, out_v[top + row, left : left + columns])


@njit(cache=True, nogil=True)
def _luma_at_chroma(above: NDArray[Any], below: NDArray[Any], line: NDArray[Any]) -> None:
    """Luma at the sites of a row of left-sited chroma, from the two luma rows around it."""
    for x in range(line.size):
        before = max(2 * x - 1, 0)
        total = np.int32(above[before]) + np.int32(below[before])
        total += 2 * (np.int32(above[2 * x]) + np.int32(below[2 * x]))
        line[x] = (total + above[2 * x + 1] + below[2 * x + 1] + 4) >> 3
