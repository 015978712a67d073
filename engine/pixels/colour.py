"""What code values mean: levels, matrices, curves, and the way from any of them to BT.709 SDR.

Published formulas in float64. `recolour.py` makes integer tables of them and converts pictures.
Knows no geometry.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from engine.source import Colour, Matrix, Primaries, Transfer

UNIT = 1 << 14
"""The fixed-point weight of 1."""
FINE_BITS = 6
"""Bits below an 8-bit code value in planes that are recoloured."""

SDR_WHITE_NIT = 203.0
"""HDR reference white (ITU-R BT.2408), taken as the peak of the SDR display."""
HDR_PEAK_NIT = 1000.0
"""Peak of the HDR display to adapt from: HLG's nominal peak, and the peak most PQ is graded at."""
PQ_TOP_NIT = 10_000.0
"""The light of the highest PQ signal."""
SDR_GAMMA = 2.4
"""Display gamma (ITU-R BT.1886 with a black of 0)."""
SDR_HEADROOM = (256 - 16) / 219
"""Signal of the highest code: whites above 235 in an SDR source are kept."""

LUMA_SPAN, CHROMA_SPAN = 219.0, 224.0
"""8-bit limited-range codes from black to white, and from one end of a colour difference to the
other."""

Floats = NDArray[np.float64]

_LUMA_WEIGHTS = {
    Matrix.BT601: (0.299, 0.114),
    Matrix.BT709: (0.2126, 0.0722),
    Matrix.BT2020: (0.2627, 0.0593),
    Matrix.FCC: (0.30, 0.11),
    Matrix.SMPTE240M: (0.212, 0.087),
}
"""Kr and Kb (ITU-T H.273, table 4)."""

_CHANNELS = {
    (Matrix.YCGCO, None): [[1, -1, 1], [1, 1, 0], [1, -1, -1]],
    (Matrix.ICTCP, Transfer.PQ): [
        [1, 0.00860904, 0.11102963],
        [1, -0.00860904, -0.11102963],
        [1, 0.56003134, -0.32062717],
    ],
    (Matrix.ICTCP, Transfer.HLG): [
        [1, 0.01571858, 0.20958107],
        [1, -0.01571858, -0.20958107],
        [1, 1.02127108, -0.60527449],
    ],
}
"""From (Y, Cg, Co) to R'G'B', and from (I, Ct, Cp) to L'M'S' (ITU-R BT.2100, tables 6 and 7)."""

TO_BT709 = {
    Primaries.BT709: np.eye(3),
    Primaries.BT2020: np.array(
        [
            [1.660491, -0.587641, -0.072850],
            [-0.124550, 1.132900, -0.008350],
            [-0.018151, -0.100579, 1.118730],
        ]
    ),
    Primaries.DISPLAY_P3: np.array(
        [[1.224940, -0.224940, 0], [-0.042057, 1.042057, 0], [-0.019638, -0.078636, 1.098274]]
    ),
    Primaries.DCI_P3: np.array(
        [
            [1.157516, -0.154962, -0.002554],
            [-0.041500, 1.045568, -0.004068],
            [-0.018050, -0.078578, 1.096628],
        ]
    ),
}
"""Linear RGB to linear RGB of BT.709, from the chromaticities in ITU-T H.273, table 2. The white of
DCI P3 is adapted to D65 (Bradford). Rows sum to 1, so that grey stays grey."""

_LMS_TO_BT709 = np.array(
    [
        [6.173363, -5.320381, 0.147018],
        [-1.324312, 2.560227, -0.235915],
        [-0.011817, -0.264672, 1.276489],
    ]
)
"""Linear L, M, S of BT.2100 to linear RGB of BT.709."""


@dataclass(frozen=True, slots=True)
class Levels:
    """Gain and offset from a plane's samples to 8-bit limited-range codes.

    The gain is `unit / UNIT`. The offset, `bias`, is in 2**-20 codes, the scale of the resampler's
    sums.
    """

    unit: int
    bias: int

    def sample_of(self, code: int) -> int:
        """The 14-bit sample that becomes an 8-bit limited-range code."""
        return round(((code << 20) - self.bias) / self.unit)


def levels(full_range: bool, depth: int) -> tuple[Levels, Levels]:
    """Levels of luma and of chroma (ITU-T H.273, 8.3: full range is 0 ... 2**depth - 1)."""
    if not full_range:
        return Levels(UNIT, 0), Levels(UNIT, 0)
    peak = (2**depth - 1) / 2 ** (depth - 8)
    luma, chroma = round(LUMA_SPAN / peak * UNIT), round(CHROMA_SPAN / peak * UNIT)
    return Levels(luma, 16 << 20), Levels(chroma, (128 << 20) - 128 * 64 * chroma)


# Sums of three are written out, since a library's matrix product rounds differently on each CPU.


def applied(weights: Floats, values: Floats) -> Floats:
    """A matrix, shape (3, 3), times each colour, shape (..., 3)."""
    a, b, c = values[..., 0], values[..., 1], values[..., 2]
    return np.stack([x * a + y * b + z * c for x, y, z in weights], -1)


def ycc_to_rgb(ycc: Floats, matrix: Matrix) -> Floats:
    """(E'Y, E'Cb, E'Cr) to (E'R, E'G, E'B), shape (..., 3); chroma -0.5 to 0.5, others 0 to 1."""
    if (matrix, None) in _CHANNELS:
        return applied(np.array(_CHANNELS[matrix, None], np.float64), ycc)
    kr, kb = _LUMA_WEIGHTS[matrix]
    y, cb, cr = ycc[..., 0], ycc[..., 1], ycc[..., 2]
    red, blue = y + 2 * (1 - kr) * cr, y + 2 * (1 - kb) * cb
    return np.stack((red, (y - kr * red - kb * blue) / (1 - kr - kb), blue), -1)


def rgb_to_ycc(rgb: Floats, matrix: Matrix = Matrix.BT709) -> Floats:
    """The inverse of `ycc_to_rgb`, for a matrix that has weights of red, green and blue in luma."""
    kr, kb = _LUMA_WEIGHTS[matrix]
    y = luminance(rgb, matrix)
    return np.stack((y, (rgb[..., 2] - y) / (2 - 2 * kb), (rgb[..., 0] - y) / (2 - 2 * kr)), -1)


def luminance(rgb: Floats, matrix: Matrix = Matrix.BT709) -> Floats:
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
    span = np.array([LUMA_SPAN, CHROMA_SPAN, CHROMA_SPAN])
    unit_chroma = np.array([[0.0, 1.0, 0.0], [0.0, 0.0, 1.0]]) / span
    change = rgb_to_ycc(ycc_to_rgb(unit_chroma, matrix)) * span
    return np.asarray(np.floor(change.T.reshape(-1) * UNIT + 0.5), np.int32)


def channel_weights(colour: Colour) -> Floats:
    """From the codes Y, Cb - 128, Cr - 128 and 1 to the signals of three channels: shape (3, 4).

    The codes are 8-bit limited-range ones. A signal is 0 at black and 1 at white. The channels are
    R'G'B', for ICtCp L'M'S'.
    """
    weights = np.full((3, 4), -16 / LUMA_SPAN)
    if colour.matrix is Matrix.ICTCP:
        by_code = np.array(_CHANNELS[colour.matrix, colour.transfer], np.float64)
    else:
        by_code = ycc_to_rgb(np.eye(3), colour.matrix).T
    weights[:, :3] = by_code / (LUMA_SPAN, CHROMA_SPAN, CHROMA_SPAN)
    return weights


def linear_weights(colour: Colour) -> Floats:
    """From the linear channels of `channel_weights` to linear RGB of BT.709: shape (3, 3)."""
    return _LMS_TO_BT709 if colour.matrix is Matrix.ICTCP else TO_BT709[colour.gamut]


# Light. Formulas of ITU-R BT.2100-2 unless another source is named.


def hlg_to_scene(signal: Floats) -> Floats:
    """The inverse OETF of HLG: signal to the scene's light, both 0 to 1."""
    a, b, c = 0.17883277, 0.28466892, 0.55991073
    signal = np.clip(signal, 0.0, 1.0)
    return np.where(signal <= 0.5, signal * signal / 3, (np.exp((signal - c) / a) + b) / 12)


def hlg_system_gain(luminance_of_scene: Floats) -> Floats:
    """The OOTF of HLG at 1000 cd/m2: what all three channels of the scene are multiplied by.

    Both are 1 at the peak. It follows luminance, so it does not change the hue.
    """
    return np.asarray(np.maximum(luminance_of_scene, 0.0) ** 0.2)


_PQ_M1, _PQ_M2 = 2610 / 16384, 2523 / 4096 * 128
_PQ_C1, _PQ_C2, _PQ_C3 = 3424 / 4096, 2413 / 4096 * 32, 2392 / 4096 * 32


def pq_to_nit(signal: Floats) -> Floats:
    """The PQ EOTF: signal 0 to 1 to light in cd/m2."""
    root = np.clip(signal, 0.0, 1.0) ** (1 / _PQ_M2)
    return PQ_TOP_NIT * (np.maximum(root - _PQ_C1, 0.0) / (_PQ_C2 - _PQ_C3 * root)) ** (1 / _PQ_M1)


def nit_to_pq(light: Floats) -> Floats:
    """The inverse of the PQ EOTF: light in cd/m2 to signal 0 to 1."""
    power = (np.maximum(light, 0.0) / PQ_TOP_NIT) ** _PQ_M1
    return ((_PQ_C1 + _PQ_C2 * power) / (1 + _PQ_C3 * power)) ** _PQ_M2


def tone_curve(nit: Floats) -> Floats:
    """Light of a 1000 cd/m2 display to that of a 203 cd/m2 one: EETF of ITU-R BT.2390-9, 5.4.1.

    Dark and middle tones keep their light, and a Hermite spline compresses the rest. Black is 0 on
    both.
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


def light_of_signal(signal: Floats, transfer: Transfer) -> Floats:
    """The light of one channel as a part of the most that it can have.

    That is the display's light for SDR and PQ, and the scene's for HLG.
    """
    if transfer is Transfer.HLG:
        return hlg_to_scene(signal)
    if transfer is Transfer.PQ:
        return pq_to_nit(signal) / PQ_TOP_NIT
    return np.asarray((np.clip(signal, 0.0, SDR_HEADROOM) / SDR_HEADROOM) ** SDR_GAMMA)


def shown_signal(light: Floats, transfer: Transfer) -> Floats:
    """The SDR signal of a grey of that display light, as a part of the most; see
    `light_of_signal`."""
    if transfer is Transfer.SDR:
        return np.minimum(light, 1.0) ** (1 / SDR_GAMMA) * SDR_HEADROOM
    nit = tone_curve(light * _top_nit(transfer))
    return np.asarray((nit / SDR_WHITE_NIT) ** (1 / SDR_GAMMA))


def kept_tint(light: Floats, transfer: Transfer) -> Floats:
    """How much of a colour's tint is kept, 0 to 1, by the light of its brightest channel.

    As much as of that channel's signal. So colours grow paler the more they are dimmed, as on film.
    """
    if transfer is Transfer.SDR:
        return np.ones_like(light)
    own_signal = (light * _top_nit(transfer) / SDR_WHITE_NIT) ** (1 / SDR_GAMMA)
    return shown_signal(light, transfer) / np.maximum(own_signal, 1e-30)


def _top_nit(transfer: Transfer) -> float:
    return PQ_TOP_NIT if transfer is Transfer.PQ else HDR_PEAK_NIT


def without_negatives(rgb: Floats) -> Floats:
    """Linear BT.709 RGB (..., 3) of which no channel is negative.

    A colour outside the gamut moves towards the grey of its own luminance until it is inside. This
    keeps its lightness and, in linear light, its hue.
    """
    grey = np.maximum(luminance(rgb), 0.0)[..., None]
    low = np.minimum(rgb.min(-1, keepdims=True), 0.0)
    share = grey / np.maximum(grey - low, 1e-30)
    return np.maximum(grey + (rgb - grey) * np.where(low < 0, share, 1.0), 0.0)


def to_bt709(code: Floats, colour: Colour) -> Floats:
    """8-bit limited-range codes Y, Cb, Cr (..., 3) of `colour` to those of BT.709 SDR, not rounded.

    The curve dims the brightest channel. The others keep their places between it and grey, except
    that all tint grows paler alike. So the hue stays. A curve on each channel would turn a bright
    blue sky cyan, and one on luminance would leave bright colours that the display does not have.

    Slow: what `recolour.py` does is tested against it.
    """
    weights = channel_weights(colour)
    by_code = applied(weights[:, :3], code - (0, 128, 128))
    light = light_of_signal(by_code + weights[:, 3], colour.transfer)
    rgb = applied(linear_weights(colour), light)
    if colour.transfer is Transfer.HLG:
        rgb = rgb * hlg_system_gain(luminance(rgb))[..., None]
    rgb = without_negatives(rgb)
    most = np.maximum(rgb.max(-1, keepdims=True), 1e-30)
    tint = 1 - (rgb / most) ** (1 / SDR_GAMMA)
    most_signal = shown_signal(most, colour.transfer)
    signal = most_signal * (1 - tint * kept_tint(most, colour.transfer))
    span, zero = (LUMA_SPAN, CHROMA_SPAN, CHROMA_SPAN), (16, 128, 128)
    return np.asarray(rgb_to_ycc(signal) * span + zero)
