"""The exact rectangles of a network's result, where it is: finished pictures on its device.

What the host has to work out for a batch is worked out before, so that it goes up in one piece:

    plans of all rectangles ─▶ their arrays, sent ─▶ finished, rectangle by rectangle
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from itertools import islice

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from engine.geometry import Box, Framing, Rect, Size, fit_crop
from engine.pixels.mapping import LUMA, PICTURE_CHROMA, Mapping, PlaneTaps
from engine.pixels.picture import BLACK
from engine.pixels.tilted import TiltedTaps
from engine.upscale.regions import UpscaleRegion
from engine.upscale.resampling import (
    AxisTable,
    Band,
    axis_table,
    band,
    resampled,
    resampled_densely,
    resampled_tilted,
)
from engine.upscale.tensors import chroma_of_rgb, join_range, luma_of_rgb, ycc_of_rgb

GRIDS = (LUMA, PICTURE_CHROMA)
"""Of the target's samples: luma, and both chroma planes."""


class PicturePlan(ABC):
    """How one rectangle of an enlarged region becomes a picture of the target."""

    def __init__(self, target: Size, box: Box) -> None:
        self._target = target
        self._box = box
        """What the rectangle fills of the target. Around it is black."""

    @property
    @abstractmethod
    def arrays(self) -> list[NDArray[np.generic]]:
        """What `picture` needs on the device, in this order."""

    @abstractmethod
    def _planes(self, made: Tensor, outside: Tensor, sent: Iterator[Tensor]) -> list[Tensor]:
        """Codes of the box, not rounded: luma (1, h, w) and chroma (2, h / 2, w / 2)."""

    def picture(self, made: Tensor, outside: Tensor, sent: Iterator[Tensor]) -> Tensor:
        """The I420 buffer, uint8 (h * 3 / 2, w).

        `made`: a network's result (3, h * scale, w * scale) in [0, 1]. `outside`: float32
        (3, h, w), what lay outside of its input's range. `sent`: `arrays`.
        """
        width, height = self._target.width, self._target.height
        out = torch.empty((height * 3 // 2, width), dtype=torch.uint8, device=made.device)
        luma, chroma = out[:height], out[height:].view(2, height // 2, width // 2)
        codes = self._planes(made, outside, sent)
        for planes, of_box, black, grid in zip(
            (luma[None], chroma), codes, BLACK, GRIDS, strict=False
        ):
            left, top = self._box.x // grid.step[0], self._box.y // grid.step[1]
            rows, columns = of_box.shape[1:]
            planes.fill_(black)
            planes[:, top : top + rows, left : left + columns] = of_box.round_().clamp_(0, 255)
        return out


class BandedPlan(PicturePlan):
    """Resamples red, green and blue, and makes codes of what comes out: a fifth of the samples.

    Both are linear, so their order does not matter, but that the result is kept in the codes' range
    once and not twice. What lay outside of the range is enlarged and resampled in one step.
    """

    def __init__(self, target: Size, box: Box, taps: Sequence[PlaneTaps]) -> None:
        super().__init__(target, box)
        self._tables = [axis_table(axis) for each in taps for axis in (each.down, each.across)]

    @property
    def arrays(self) -> list[NDArray[np.generic]]:
        """See `PicturePlan`."""
        return [array for table in self._tables for array in table.arrays]

    def _planes(self, made: Tensor, outside: Tensor, sent: Iterator[Tensor]) -> list[Tensor]:
        scale = made.shape[-1] // outside.shape[-1]
        rgb = []
        for of_down, of_across in (self._tables[:2], self._tables[2:]):
            down, small_down = _bands(of_down, sent, outside.shape[-2], scale)
            across, small_across = _bands(of_across, sent, outside.shape[-1], scale)
            enlarged = resampled(made, down, across)
            rgb.append(enlarged.add_(resampled(outside, small_down, small_across)))
        return [luma_of_rgb(rgb[0]), chroma_of_rgb(rgb[1])]


def _bands(table: AxisTable, sent: Iterator[Tensor], side: int, scale: int) -> tuple[Band, Band]:
    """The band for an enlarged axis, and the one that enlarges the axis as well."""
    starts, weights = islice(sent, 2)
    return (
        band(table, starts, weights, side * scale),
        band(table, starts, weights, side, scale),
    )


def _codes_of_all(made: Tensor, outside: Tensor) -> Tensor:
    """Y, Cb and Cr of the whole enlarged region: float32 (3, h * scale, w * scale)."""
    return ycc_of_rgb(join_range(made[None], outside[None])[0].float())


class DensePlan(PicturePlan):
    """Makes codes of the whole region, and resamples those by dense matrices."""

    def __init__(self, target: Size, box: Box, taps: Sequence[PlaneTaps]) -> None:
        super().__init__(target, box)
        self._taps = taps

    @property
    def arrays(self) -> list[NDArray[np.generic]]:
        """See `PicturePlan`."""
        axes = [axis for each in self._taps for axis in (each.down, each.across)]
        return [array for axis in axes for array in (axis.starts, axis.weights)]

    def _planes(self, made: Tensor, outside: Tensor, sent: Iterator[Tensor]) -> list[Tensor]:
        codes = _codes_of_all(made, outside)
        return [
            resampled_densely(planes, taps, list(islice(sent, 4)))
            for planes, taps in zip((codes[:1], codes[1:]), self._taps, strict=True)
        ]


class TiltedPlan(PicturePlan):
    """Makes codes of the whole region, and resamples those where each output sample lies."""

    def __init__(self, target: Size, box: Box, taps: Sequence[TiltedTaps]) -> None:
        super().__init__(target, box)
        self._taps = taps

    @property
    def arrays(self) -> list[NDArray[np.generic]]:
        """See `PicturePlan`."""
        return [array for each in self._taps for array in (each.across, each.down)]

    def _planes(self, made: Tensor, outside: Tensor, sent: Iterator[Tensor]) -> list[Tensor]:
        codes = _codes_of_all(made, outside)
        finished = []
        for planes, black, taps in zip((codes[:1], codes[1:]), BLACK, self._taps, strict=False):
            weights = list(islice(sent, 2))
            tilted = [resampled_tilted(plane, taps, black, weights) for plane in planes]
            finished.append(torch.stack(tilted))
        return finished


def picture_plans(
    region: UpscaleRegion, framing: Framing, scale: int, *, banded: bool
) -> list[PicturePlan]:
    """The plans of all rectangles of a region that is enlarged `scale` times."""
    size = Size(region.region.width * scale, region.region.height * scale)
    whole = region.enlarged_frame(scale)
    return [
        _plan(region.enlarged(rect, scale), size, whole, framing, banded=banded)
        for rect in region.rects
    ]


def _plan(rect: Rect, size: Size, frame: Rect, framing: Framing, *, banded: bool) -> PicturePlan:
    """As `crop.CropSampler` does it on planes: bicubic, widened when shrinking.

    `rect` and the whole frame's place are in samples of the enlarged region.
    """
    shown, box = fit_crop(rect, framing.target, framing.fit)
    mapping = Mapping(shown, box, display=size, coded=size)
    if framing.tilt_deg != 0:
        tilted = [mapping.tilted_taps(LUMA, grid, framing.tilt_deg, frame) for grid in GRIDS]
        return TiltedPlan(framing.target, box, tilted)
    taps = [mapping.plane_taps(LUMA, grid) for grid in GRIDS]
    return (BandedPlan if banded else DensePlan)(framing.target, box, taps)
