"""Where the samples of a picture lie in a coded frame: crop, tilt, quarter turn, siting, stretch.

Pure arithmetic. Knows no kernel but the taps that they need.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from engine.geometry import Affine, Box, Rect, Size, tilted_to_upright
from engine.pixels.colour import UNIT
from engine.pixels.resample import Taps, taps
from engine.pixels.tilted import TiltedTaps, tilted_taps


@dataclass(frozen=True, slots=True)
class Grid:
    """How a plane's samples lie in a frame or a picture.

    A sample stands for `step` luma samples across and down. The first one sits `offset` luma
    spacings from luma sample 0, whose centre is half a pixel inside the frame.
    """

    step: tuple[int, int]
    offset: tuple[float, float]


LUMA = Grid((1, 1), (0.0, 0.0))
PICTURE_CHROMA = Grid((2, 2), (0.0, 0.5))
"""A `Picture`'s."""


@dataclass(frozen=True, slots=True, eq=False)
class PlaneTaps:
    """How one coded plane is resampled along its own axes."""

    across: Taps
    down: Taps


@dataclass(frozen=True, slots=True)
class Mapping:
    """Maps output pixels back to the samples of a coded frame."""

    shown: Rect
    box: Box
    """What `shown` fills, in output pixels."""
    display: Size
    coded: Size
    """The luma plane's. It stands for the whole display, turned back and stretched."""
    rotation_deg: int = 0
    mirrored: bool = False

    def plane_taps(self, coded: Grid, out: Grid, unit: int = UNIT) -> PlaneTaps:
        """Taps across and down one coded plane. The weights down sum to `unit`, the others to UNIT.

        The coded picture turned clockwise is the display. So at 90 degrees a coded row is a display
        column from top to bottom, and the coded columns run from right to left. Mirroring turns
        coded rows round.
        """
        x = (self.shown.x, self.shown.width, self.box.width, self.display.width, out.offset[0])
        y = (self.shown.y, self.shown.height, self.box.height, self.display.height, out.offset[1])
        columns_backwards, rows_backwards = self._backwards
        across = _axis_taps(
            *(y if self._transposed else x), out.step[0], self.coded.width, coded.step[0],
            coded.offset[0], columns_backwards, UNIT,
        )  # fmt: skip
        down = _axis_taps(
            *(x if self._transposed else y), out.step[1], self.coded.height, coded.step[1],
            coded.offset[1], rows_backwards, unit,
        )  # fmt: skip
        return PlaneTaps(across, down)

    def tilted_taps(
        self, coded: Grid, out: Grid, tilt_deg: float, frame: Rect, unit: int = UNIT
    ) -> TiltedTaps:
        """Taps of one coded plane where the upright frame is turned before the crop.

        It is turned counter-clockwise about the centre of `frame`: where all of the frame lies, in
        display pixels. Beyond it is black. The weights down sum to `unit`.
        """
        pace_x = self.shown.width / self.box.width
        pace_y = self.shown.height / self.box.height
        to_crop = Affine(
            pace_x * out.step[0], 0.0, self.shown.x + (out.offset[0] + 0.5) * pace_x,
            0.0, pace_y * out.step[1], self.shown.y + (out.offset[1] + 0.5) * pace_y,
        )  # fmt: skip
        to_samples = self._to_samples(coded)
        corners = (
            to_samples.at(frame.x, frame.y),
            to_samples.at(frame.x + frame.width, frame.y + frame.height),
        )
        columns, rows = (_between(*sorted(ends)) for ends in zip(*corners, strict=True))
        return tilted_taps(
            to_crop.then(tilted_to_upright(tilt_deg, frame)).then(to_samples),
            self.box.width // out.step[0],
            self.box.height // out.step[1],
            (columns, rows),
            unit,
        )

    @property
    def _transposed(self) -> bool:
        """Whether coded rows are display columns."""
        return self.rotation_deg in (90, 270)

    @property
    def _backwards(self) -> tuple[bool, bool]:
        """Whether coded columns, and coded rows, run from right to left or from the bottom up."""
        return (self.rotation_deg in (180, 270)) != self.mirrored, self.rotation_deg in (90, 180)

    def _to_samples(self, plane: Grid) -> Affine:
        """From display pixels to samples of a coded plane, counted from the first one's centre."""
        display = (self.display.width, self.display.height)
        along_x, along_y = display[::-1] if self._transposed else display
        columns_backwards, rows_backwards = self._backwards
        pace_x, x0 = _axis_map(
            along_x, self.coded.width, plane.step[0], plane.offset[0], columns_backwards
        )
        pace_y, y0 = _axis_map(
            along_y, self.coded.height, plane.step[1], plane.offset[1], rows_backwards
        )
        if self._transposed:
            return Affine(0.0, pace_x, x0, pace_y, 0.0, y0)
        return Affine(pace_x, 0.0, x0, 0.0, pace_y, y0)


def _axis_taps(
    start: float, extent: float, pixels: int, display: int, out_offset: float, out_step: int,
    coded: int, step: int, offset: float, backwards: bool, unit: int,
) -> Taps:  # fmt: skip
    """Taps of one axis: `[start, start + extent)` of `display` pixels fill `pixels` of output."""
    edge = (start + (out_offset + 0.5) * (extent / pixels)) * (coded / display)
    pace = extent / pixels * (coded / display) * out_step / step
    origin = ((coded - edge if backwards else edge) - 0.5 - offset) / step
    return taps(pixels // out_step, origin, -pace if backwards else pace, unit)


def _axis_map(
    display: int, coded: int, step: int, offset: float, backwards: bool
) -> tuple[float, float]:
    """Samples per display pixel along one axis, and the sample at display place 0."""
    pace = coded / display / step
    origin = ((coded if backwards else 0) - 0.5 - offset) / step
    return -pace if backwards else pace, origin


def _between(first: float, last: float) -> range:
    """The samples whose centres are from `first` to `last`."""
    return range(math.ceil(first), math.floor(last) + 1)
