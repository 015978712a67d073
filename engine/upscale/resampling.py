"""Resampling of enlarged pictures in torch, on their device: `pixels/resample.py` in floats.

An axis is a band of weights: each output is the sum of a few neighbouring samples. 64 outputs
together need few samples more than one of them. So the band is cut into blocks, each a small dense
matrix, and one batched product does all blocks. That is a fifteenth to a thirtieth of the
multiplications of one dense matrix, in the same float32.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from engine.pixels.colour import UNIT
from engine.pixels.mapping import PlaneTaps
from engine.pixels.resample import Taps
from engine.pixels.tilted import PHASE_BITS, PHASE_SHIFT, PHASES, TiltedTaps

BLOCK = 64
"""Outputs of one block. More would multiply more zeros, fewer would copy more samples twice."""


@dataclass(frozen=True, slots=True, eq=False)
class AxisTable:
    """The taps of one axis in whole blocks. What lies beyond the last output has no weight."""

    outputs: int
    starts: NDArray[np.int32]
    """The first tap of each output: (blocks * BLOCK,), rising."""
    weights: NDArray[np.int16]
    """In 1 / UNIT: (groups, blocks * BLOCK, 4)."""

    @property
    def arrays(self) -> list[NDArray[np.generic]]:
        """What is needed on the device."""
        return [self.starts, self.weights]

    def window(self, side: int, scale: int) -> int:
        """The most samples that a block needs of an axis of `side` samples.

        `scale`: how many taps' places stand for one of them.
        """
        blocks = self.starts.reshape(-1, BLOCK)
        taps = 4 * len(self.weights)
        ends = np.stack([blocks[:, 0], blocks[:, -1] + taps - 1]).clip(0, side * scale - 1)
        if scale > 1:  # two samples stand around a place
            lower = np.maximum((ends + 0.5) / scale - 0.5, 0).astype(np.int64)
            ends = lower + np.array([[0], [1]])
        return int((ends[1] - ends[0]).max()) + 1


def axis_table(taps: Taps) -> AxisTable:
    """The table of taps whose step is not negative."""
    lacking = -len(taps) % BLOCK
    starts = np.pad(taps.starts, (0, lacking), mode="edge")
    return AxisTable(len(taps), starts, np.pad(taps.weights, ((0, 0), (0, lacking), (0, 0))))


@dataclass(frozen=True, slots=True, eq=False)
class Band:
    """An axis of the device: which samples each block needs, and with what weights."""

    outputs: int
    samples: Tensor
    """Places along the axis, int64 (blocks * window,)."""
    blocks: Tensor
    """Weights, float32 (blocks, BLOCK, window)."""


def band(table: AxisTable, starts: Tensor, weights: Tensor, side: int, scale: int = 1) -> Band:
    """The band along an axis of `side` samples. `starts` and `weights`: the table's, on the device.

    `scale`: the taps are for the axis enlarged so many times, linearly as `interpolate` does it.
    """
    reach = torch.arange(4 * len(weights), device=starts.device)
    at = (starts[:, None].long() + reach).clamp_(0, side * scale - 1)
    weight = weights.transpose(0, 1).flatten(1).float() / UNIT
    if scale > 1:
        place = ((at + 0.5) / scale - 0.5).clamp_(min=0)
        at = place.long()
        upper = place - at
        weight = torch.cat([weight * (1 - upper), weight * upper], 1)
        at = torch.cat([at, (at + 1).clamp_(max=side - 1)], 1)
    window = table.window(side, scale)
    of_block = at.view(-1, BLOCK, at.shape[1])
    first = of_block[:, :1, :1]
    blocks = weight.new_zeros((len(of_block), BLOCK, window))
    blocks.scatter_add_(2, of_block - first, weight.view_as(of_block))
    samples = first.view(-1, 1) + torch.arange(window, device=starts.device)
    return Band(table.outputs, samples.clamp_(max=side - 1).flatten(), blocks)


def resampled(planes: Tensor, down: Band, across: Band) -> Tensor:
    """Planes (n, h, w) of any float type along both axes: float32 (n, outputs, outputs)."""
    count = len(planes)
    rows = planes.index_select(1, down.samples).view(count, len(down.blocks), -1, planes.shape[2])
    made = (down.blocks @ rows.float()).flatten(1, 2)[:, : down.outputs]
    columns = made.flatten(0, 1).index_select(1, across.samples)
    of_block = columns.view(len(columns), len(across.blocks), -1).transpose(0, 1)
    finished = (of_block @ across.blocks.mT).transpose(0, 1).flatten(1)[:, : across.outputs]
    return finished.reshape(count, down.outputs, across.outputs)


def resampled_densely(planes: Tensor, taps: PlaneTaps, sent: list[Tensor]) -> Tensor:
    """`resampled` by two dense matrices. `sent`: starts and weights of `down`, then of `across`."""
    down = _matrix(taps.down, sent[0], sent[1], planes.shape[-2])
    across = _matrix(taps.across, sent[2], sent[3], planes.shape[-1])
    return down @ planes @ across.T


def _matrix(how: Taps, starts: Tensor, weights: Tensor, side: int) -> Tensor:
    """The weight of each of `side` samples in each output: float32 (outputs, side)."""
    reach = torch.arange(4 * len(weights), device=starts.device)
    at = (starts[:, None].long() + reach).clamp_(0, side - 1)
    matrix = torch.zeros((len(how), side), device=starts.device)
    return matrix.scatter_add_(1, at, weights.transpose(0, 1).flatten(1).float() / UNIT)


def resampled_tilted(plane: Tensor, how: TiltedTaps, black: int, sent: list[Tensor]) -> Tensor:
    """`tilted.resample_tilted_plane` on a tensor (h, w): the same places and weights, in floats.

    `sent`: the weights `how.across` and `how.down` on the device.
    """
    window, pitch = _window(plane, how, black).flatten(), len(how.window_x)
    x, x_phase, across = _axis(how, 0, sent[0])
    y, y_phase, down = _axis(how, 1, sent[1])
    first = (y * pitch + x).int()
    made = plane.new_zeros(len(first))
    for row, of_row in enumerate(down):
        line = torch.zeros_like(made)
        for column, of_column in enumerate(across):
            samples = window[row * pitch + column :].index_select(0, first)
            line.addcmul_(samples, of_column.index_select(0, x_phase))
        made.addcmul_(line, of_row.index_select(0, y_phase))
    return made.view(how.rows, how.columns)


def _axis(how: TiltedTaps, axis: int, per_phase: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Of every output sample, its first tap along an axis of the window and its phase; the weights.

    Those are of shape (taps, phases).
    """
    by_column, by_row, origin = how.places[axis].tolist()
    column = torch.arange(how.columns, device=per_phase.device)
    row = torch.arange(how.rows, device=per_phase.device)[:, None]
    place = (column * by_column + row * by_row + origin).flatten() >> PHASE_SHIFT
    weights = per_phase.transpose(1, 2).flatten(0, 1).float() / UNIT
    return place >> PHASE_BITS, (place & PHASES - 1).int(), weights


def _window(plane: Tensor, how: TiltedTaps, black: int) -> Tensor:
    """The samples that are needed, with black around the frame."""
    height, width = plane.shape
    x = torch.arange(how.window_x.start, how.window_x.stop, device=plane.device)
    y = torch.arange(how.window_y.start, how.window_y.stop, device=plane.device)[:, None]
    inside = (x >= how.inside_x.start) & (x < how.inside_x.stop)
    inside = inside & (y >= how.inside_y.start) & (y < how.inside_y.stop)
    return plane[y.clamp(0, height - 1), x.clamp(0, width - 1)].where(inside, black)
