"""Which whole pixels of a source frame a network is given. Knows no network."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from engine.geometry import Rect, Size, tilted_to_upright

if TYPE_CHECKING:
    from torch import Tensor

BUCKET_PX = 16
"""Sides are rounded up to a multiple of this, so that a zoom gives batches of few sizes."""

MARGIN_PX = 8
"""Source pixels around the rectangles: a network sees nothing beyond the edge of its input."""


@dataclass(frozen=True, slots=True)
class Region:
    """A whole-pixel rectangle of the upright, displayed frame.

    Its corner and sides are even, so it holds whole pixels of 4:2:0 chroma, too.
    """

    x: int
    y: int
    width: int
    height: int

    @property
    def size(self) -> Size:
        """Its width and height."""
        return Size(self.width, self.height)


@dataclass(frozen=True, slots=True, eq=False)
class UpscaleRegion:
    """A region of a source frame, upright and in BT.709, with the rectangles shown of it."""

    region: Region
    pixels: Tensor
    """I420, uint8 (h * 3 / 2, w), in host memory or on the device."""
    rects: list[NDArray[np.float64]]
    """Each of shape (4,): x, y, width, height in display pixels of the source frame, tilted."""
    frame: Size
    """The source frame's, in display pixels."""

    def enlarged(self, rect: NDArray[np.float64], scale: int) -> Rect:
        """A rectangle of the source frame in the region enlarged `scale` times."""
        x, y, width, height = (float(value) for value in rect)
        inside = (x - self.region.x, y - self.region.y, width, height)
        return Rect(*(value * scale for value in inside))

    def enlarged_frame(self, scale: int) -> Rect:
        """Where the whole source frame lies in the region enlarged `scale` times."""
        return self.enlarged(np.array([0.0, 0.0, self.frame.width, self.frame.height]), scale)


def covering(
    rects: NDArray[np.float64], frame: Size, multiple: int = 1, tilt_deg: float = 0.0
) -> Region:
    """The region that holds all `rects` of one frame: shape (n, 4), x, y, width, height.

    They are rectangles of the tilted frame (see `Framing`); the region is one of the upright frame.
    It has `MARGIN_PX` around them, and its sides are rounded up to a multiple of `BUCKET_PX` and of
    the network's `multiple`. It is moved inside the frame. Where the frame is smaller than that,
    the side is the frame's, rounded up to what is even and a multiple of `multiple`, so a region
    may extend a little beyond the frame on the right and below.
    """
    if tilt_deg:
        rects = np.array([_upright(rect, frame, tilt_deg) for rect in rects])
    even = math.lcm(2, multiple)
    x, width = _axis(rects[:, 0], rects[:, 2], frame.width, even)
    y, height = _axis(rects[:, 1], rects[:, 3], frame.height, even)
    return Region(x, y, width, height)


def _upright(
    rect: NDArray[np.float64], frame: Size, tilt_deg: float
) -> tuple[float, float, float, float]:
    """What lies inside the frame of the upright rectangle around a tilted one."""
    to_frame = tilted_to_upright(tilt_deg, Rect(0, 0, frame.width, frame.height))
    x, y, width, height = (float(value) for value in rect)
    corners = [to_frame.at(cx, cy) for cx in (x, x + width) for cy in (y, y + height)]
    (left, right), (top, bottom) = (
        (min(max(min(values), 0.0), side), min(max(max(values), 0.0), side))
        for values, side in zip(
            zip(*corners, strict=True), (frame.width, frame.height), strict=True
        )
    )
    return left, top, right - left, bottom - top


def _axis(
    starts: NDArray[np.float64], extents: NDArray[np.float64], side: int, multiple: int
) -> tuple[int, int]:
    first = max(0, math.floor(starts.min()) // 2 * 2 - MARGIN_PX)
    last = min(side, math.ceil((starts + extents).max()) + MARGIN_PX)
    bucket = math.lcm(BUCKET_PX, multiple)
    bucketed = -(-(last - first) // bucket) * bucket
    extent = min(bucketed, -(-side // multiple) * multiple)
    last_start = -(-(side - extent) // 2) * 2
    return max(0, min(first, last_start)), extent
