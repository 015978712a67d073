"""Sizes, rectangles and how a crop fits a target. Pure arithmetic, in pixels."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

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
