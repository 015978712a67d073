"""Composes pictures with an alpha channel over black. Integer arithmetic only."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from engine.compiled import compiled
from engine.pixels.picture import Samples

Planes = tuple[Samples, Samples, Samples]


def over_black(
    planes: Planes, alpha: Samples, *, depth: int, full_range: bool, chroma_step: tuple[int, int]
) -> Planes:
    """Y, Cb and Cr over black, where `alpha` is how much of them is seen: 0 to 2**depth - 1.

    The planes hold colours as they are where nothing is transparent ("straight" alpha). A chroma
    sample is seen as much as the luma samples that it stands for are on the average. Each result is
    rounded once, to the nearest.
    """
    zero = 0 if full_range else 16 << depth - 8
    # without gaps between rows, so that one compiled function does for all
    luma, *chroma, seen = (np.ascontiguousarray(plane) for plane in (*planes, alpha))
    y, cb, cr = (np.empty_like(plane) for plane in (luma, *chroma))
    _compose(luma, seen, depth, zero, 1, 1, y)
    for plane, out in zip(chroma, (cb, cr), strict=True):
        _compose(plane, seen, depth, 1 << depth - 1, *chroma_step, out)
    return y, cb, cr


@compiled()
def _compose(
    plane: NDArray[Any], alpha: NDArray[Any], depth: int, black: int,
    across: int, down: int, out: NDArray[Any],
) -> None:  # fmt: skip
    height, width = plane.shape
    last_row, last_column = alpha.shape[0] - 1, alpha.shape[1] - 1
    whole = ((1 << depth) - 1) * across * down
    for y in range(height):
        for x in range(width):
            seen = np.int64(0)
            for row in range(y * down, y * down + down):
                for column in range(x * across, x * across + across):
                    seen += np.int64(alpha[min(row, last_row), min(column, last_column)])
            mixed = np.int64(plane[y, x]) * seen + black * (whole - seen)
            out[y, x] = (mixed + whole // 2) // whole
