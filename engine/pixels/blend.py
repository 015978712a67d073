"""Blending finished pictures: crossfades, and fades through black. Integer arithmetic only."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from engine.compiled import compiled
from engine.pixels.picture import BLACK, FinishedPicture, Picture

WEIGHT_STEPS = 1 << 16
"""Weights are whole numbers of 1 / WEIGHT_STEPS."""


class Compositor(Protocol):
    """Blends the layers of each frame of a chunk, in host memory or on the encoder's device."""

    def to_device(self, picture: FinishedPicture) -> FinishedPicture:
        """The picture where this compositor works: in host memory or on its device."""

    def blend(self, layers: Sequence[tuple[FinishedPicture, float]]) -> FinishedPicture:
        """The weighted sum of one or two pictures, valid until the next call. See `blend`."""


class HostCompositor:
    """The `Compositor` in host memory."""

    def __init__(self) -> None:
        self._blended: Picture | None = None

    def to_device(self, picture: FinishedPicture) -> Picture:
        """See `Compositor`."""
        return picture.on_host()

    def blend(self, layers: Sequence[tuple[FinishedPicture, float]]) -> Picture:
        """See `Compositor`."""
        self._blended = self._blended or Picture(layers[0][0].size)
        blend([(picture.on_host(), weight) for picture, weight in layers], self._blended)
        return self._blended


def blend(layers: Sequence[tuple[Picture, float]], out: Picture) -> None:
    """Fills `out` with the weighted sum of one or two pictures; black gets the rest of the weight.

    Each sum is rounded once, to the nearest. `out` may be one of the layers. Raises ValueError for
    no layer or more than two, for a layer of another size than `out`, for weights below 0, and for
    weights that sum to more than 1.
    """
    if not 1 <= len(layers) <= 2:
        raise ValueError(f"a frame has one or two layers, not {len(layers)}")
    for picture, _ in layers:
        if picture.size != out.size:
            raise ValueError(f"a layer is {picture.size}, the picture {out.size}")
    first, second = layers[0][0], layers[-1][0]
    of_first, of_second = fixed_point_weights([weight for _, weight in layers])
    rest = WEIGHT_STEPS - of_first - of_second
    height = out.size.height
    for rows, black in ((slice(height), BLACK[0]), (slice(height, None), BLACK[1])):
        _blend(
            first.buffer[rows].reshape(-1), of_first, second.buffer[rows].reshape(-1), of_second,
            rest * black, out.buffer[rows].reshape(-1),
        )  # fmt: skip


def fixed_point_weights(weights: Sequence[float]) -> tuple[int, int]:
    """One or two weights in 1 / WEIGHT_STEPS. Those that sum to 1 sum to exactly WEIGHT_STEPS.

    The second is 0 for one weight. Raises ValueError as `blend` does.
    """
    first, total = (round(sum(weights[:count]) * WEIGHT_STEPS) for count in (1, 2))
    if not 0 <= first <= total <= WEIGHT_STEPS:
        raise ValueError(f"weights must be at least 0 and sum to at most 1, not {list(weights)}")
    return first, total - first


@compiled()
def _blend(
    a: NDArray[Any], of_a: int, b: NDArray[Any], of_b: int, rest: int, out: NDArray[Any]
) -> None:
    wa, wb, rounding = np.int32(of_a), np.int32(of_b), np.int32(rest + 32768)
    for i in range(out.size):
        out[i] = np.int32(np.int32(a[i]) * wa + np.int32(b[i]) * wb + rounding) >> 16
