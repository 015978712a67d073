"""A network's result in host memory, RGB in floats, as codes for the integer sampler.

One compiled pass does what takes torch some twenty.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from engine.compiled import compiled
from engine.pixels.colour import CHROMA_SPAN, LUMA_SPAN
from engine.pixels.picture import BLACK
from engine.upscale.tensors import KB, KG, KR

DEPTH = 14
"""Bits of a code: 8, and 6 more for the sampler."""

# single precision, as torch computes with: a number of Python would make it double
_KR, _KG, _KB = np.float32(KR), np.float32(KG), np.float32(KB)
_CB_STEP, _CR_STEP = np.float32(2 * (1 - KB)), np.float32(2 * (1 - KR))
_LUMA_SPAN, _CHROMA_SPAN = np.float32(LUMA_SPAN), np.float32(CHROMA_SPAN)
_LUMA_BLACK, _NO_CHROMA = np.float32(BLACK[0]), np.float32(BLACK[1])
_ZERO, _HALF, _ONE, _TOP = np.float32(0), np.float32(0.5), np.float32(1), np.float32(255)
_FINE = np.float32(1 << DEPTH - 8)
_TO_WHOLE = np.float32(3 << 22)
"""Added and taken away again, it leaves a float32 below 2**22 rounded to even."""
_INFINITY_BITS = 0x7F800000


def fine_codes(made: Tensor, outside: Tensor) -> NDArray[np.uint16] | None:
    """Y, Cb and Cr of a network's result, or None where it is not finite.

    `made`: RGB (3, h * scale, w * scale), float32, in any memory format; it is kept in [0, 1].
    `outside`: what lay outside of that in the network's input, (3, h, w); see
    `tensors.split_range`. It is enlarged linearly and added. The codes are BT.709's in limited
    range, with 6 bits more than 8, of the shape of `made`.
    """
    codes = np.empty(made.shape, np.uint16)
    beyond = outside.numpy() if outside.any() else np.empty((3, 0, 0), np.float32)
    return codes if _codes_of_rgb(made.numpy(), beyond, codes) else None


@compiled()
def _codes_of_rgb(rgb: NDArray[Any], outside: NDArray[Any], codes: NDArray[Any]) -> bool:
    """Fills `codes` row by row; see `fine_codes`. Gives whether `rgb` is finite.

    Every step is a single operation on float32, in the order of `tensors.ycc_of_rgb`.
    """
    height, width = codes.shape[1:]
    row = np.empty((3, width), np.float32)
    two_rows = np.empty((2, 3, width), np.float32)
    held = np.full(2, -1, np.int64)
    finite = True
    for y in range(height):
        for channel in range(3):
            finite = _load_inside(rgb[channel, y], row[channel]) and finite
        if outside.size:
            above, below, share = _neighbours(y, height // outside.shape[1], outside.shape[1])
            for source in (above, below):
                if held[source % 2] != source:
                    held[source % 2] = source
                    for channel in range(3):
                        _enlarge(outside[channel, source], two_rows[source % 2, channel])
            for channel in range(3):
                _add_between(
                    two_rows[above % 2, channel], two_rows[below % 2, channel], share, row[channel]
                )
        _row_codes(row[0], row[1], row[2], codes[0, y], codes[1, y], codes[2, y])
    return finite


@compiled()
def _load_inside(samples: NDArray[Any], line: NDArray[Any]) -> bool:
    """Fills `line` with the samples, kept in [0, 1]. Gives whether all of them are finite."""
    for x in range(line.size):
        line[x] = samples[x]
    bits, most = line.view(np.int32), np.int32(0)
    for x in range(bits.size):
        most = max(most, np.int32(bits[x] & np.int32(0x7FFFFFFF)))
    for x in range(line.size):
        line[x] = min(max(line[x], _ZERO), _ONE)
    return bool(most < _INFINITY_BITS)


@compiled()
def _neighbours(at: int, scale: int, side: int) -> tuple[int, int, Any]:
    """The two of `side` samples around sample `at` of their enlargement, and the second's share.

    Samples are centred, as in torch's bilinear interpolation without aligned corners.
    """
    place = (np.float32(at) + _HALF) * (_ONE / np.float32(scale)) - _HALF
    place = max(place, _ZERO)
    first = int(place)
    return first, min(first + 1, side - 1), np.float32(place - np.float32(first))


@compiled()
def _enlarge(samples: NDArray[Any], line: NDArray[Any]) -> None:
    """Fills `line` with a row of samples, interpolated linearly."""
    scale = line.size // samples.size
    for x in range(line.size):
        first, second, share = _neighbours(x, scale, samples.size)
        line[x] = samples[first] * (_ONE - share) + samples[second] * share


@compiled()
def _add_between(above: NDArray[Any], below: NDArray[Any], share: Any, line: NDArray[Any]) -> None:
    """Adds what lies between two rows, at `share` of the way, to `line`."""
    rest = _ONE - share
    for x in range(line.size):
        line[x] += above[x] * rest + below[x] * share


@compiled()
def _row_codes(
    red: NDArray[Any], green: NDArray[Any], blue: NDArray[Any],
    y: NDArray[Any], cb: NDArray[Any], cr: NDArray[Any],
) -> None:  # fmt: skip
    """The fine codes of a row, rounded to even."""
    for x in range(y.size):
        luma = _KR * red[x] + _KG * green[x] + _KB * blue[x]
        y[x] = _fine_code(luma * _LUMA_SPAN + _LUMA_BLACK)
        cb[x] = _fine_code((blue[x] - luma) / _CB_STEP * _CHROMA_SPAN + _NO_CHROMA)
        cr[x] = _fine_code((red[x] - luma) / _CR_STEP * _CHROMA_SPAN + _NO_CHROMA)


@compiled()
def _fine_code(code: Any) -> Any:
    """A code of 0 to 255 in 1 / 64 of one, as a whole number."""
    fine = min(max(code, _ZERO), _TOP) * _FINE
    return np.int32((fine + _TO_WHOLE) - _TO_WHOLE)
