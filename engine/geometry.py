"""Sizes, rectangles and how a crop fits a target. Pure arithmetic, in pixels."""

from __future__ import annotations

import math
from dataclasses import dataclass
from enum import StrEnum
from typing import NamedTuple

STRETCH_TOLERANCE = 0.01
"""A crop whose aspect is within this share of the target's is stretched to fill it."""


@dataclass(frozen=True, slots=True)
class Size:
    """Width and height in whole pixels."""

    width: int
    height: int

    @property
    def aspect(self) -> float:
        """Width / height."""
        return self.width / self.height

    def __str__(self) -> str:
        return f"{self.width}x{self.height}"


@dataclass(frozen=True, slots=True)
class Rect:
    """A sub-pixel rectangle: top-left corner and extent, in pixels."""

    x: float
    y: float
    width: float
    height: float

    @property
    def aspect(self) -> float:
        """Width / height."""
        return self.width / self.height


@dataclass(frozen=True, slots=True)
class Box:
    """A whole-pixel rectangle. Corner and extent are even, so that it has a 4:2:0 chroma box."""

    x: int
    y: int
    width: int
    height: int


class Fit(StrEnum):
    """What happens to a crop whose aspect is not the target's."""

    CONTAIN = "contain"
    COVER = "cover"
    STRETCH = "stretch"


@dataclass(frozen=True, slots=True)
class Framing:
    """How the crops of a clip become pictures."""

    target: Size
    """The pictures' size."""
    fit: Fit
    tilt_deg: float = 0.0
    """The upright frame is turned counter-clockwise about its centre by so many degrees, before the
    crop. What then lies outside of it is black."""


class Affine(NamedTuple):
    """A map of the plane: (x, y) goes to (xx * x + xy * y + x0, yx * x + yy * y + y0).

    Its sums are written out, since a library's matrix product rounds differently on each CPU.
    """

    xx: float
    xy: float
    x0: float
    yx: float
    yy: float
    y0: float

    def at(self, x: float, y: float) -> tuple[float, float]:
        """Where (x, y) goes."""
        return self.xx * x + self.xy * y + self.x0, self.yx * x + self.yy * y + self.y0

    def then(self, after: Affine) -> Affine:
        """The map that does this one first."""
        return Affine(
            after.xx * self.xx + after.xy * self.yx,
            after.xx * self.xy + after.xy * self.yy,
            after.xx * self.x0 + after.xy * self.y0 + after.x0,
            after.yx * self.xx + after.yy * self.yx,
            after.yx * self.xy + after.yy * self.yy,
            after.yx * self.x0 + after.yy * self.y0 + after.y0,
        )


def tilted_to_upright(tilt_deg: float, frame: Rect) -> Affine:
    """From places in a picture turned counter-clockwise about the centre of `frame` to the frame's.

    y points down. The cosine and the sine are rounded to 2**-30, so that the last bit of a
    mathematics library does not matter.
    """
    angle, steps = math.radians(tilt_deg), 1 << 30
    cos, sin = round(math.cos(angle) * steps) / steps, round(math.sin(angle) * steps) / steps
    x, y = frame.x + frame.width / 2, frame.y + frame.height / 2
    return Affine(cos, -sin, x - cos * x + sin * y, sin, cos, y - sin * x - cos * y)


def largest_centred(frame: Size, aspect: float) -> Rect:
    """The largest rectangle of `aspect` (width / height) inside `frame`, at its centre."""
    width = min(float(frame.width), frame.height * aspect)
    height = width / aspect
    return Rect((frame.width - width) / 2, (frame.height - height) / 2, width, height)


def fit_crop(rect: Rect, target: Size, fit: Fit) -> tuple[Rect, Box]:
    """The part of a crop that is shown, and the box of `target` that it fills.

    `contain` shows all of it between black bars. `cover` fills the target with its middle.
    `stretch` distorts it. A rectangle within `STRETCH_TOLERANCE` of the target's aspect is always
    stretched.
    """
    whole = Box(0, 0, target.width, target.height)
    ratio = rect.aspect / target.aspect
    if fit is Fit.STRETCH or abs(ratio - 1) <= STRETCH_TOLERANCE:
        return rect, whole
    if fit is Fit.COVER:
        width = rect.width if ratio < 1 else rect.height * target.aspect
        height = rect.height if ratio > 1 else rect.width / target.aspect
        shown = Rect(
            rect.x + (rect.width - width) / 2, rect.y + (rect.height - height) / 2, width, height
        )
        return shown, whole
    width_px = _even(target.width if ratio > 1 else target.height * rect.aspect, target.width)
    height_px = _even(target.height if ratio < 1 else target.width / rect.aspect, target.height)
    x, y = (target.width - width_px) // 4 * 2, (target.height - height_px) // 4 * 2
    return rect, Box(x, y, width_px, height_px)


def _even(value: float, limit: int) -> int:
    """The nearest even number from 2 to `limit`."""
    return min(limit, max(2, 2 * round(value / 2)))
