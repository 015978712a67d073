"""Pixels in memory: decoded source frames and finished pictures. Knows no file and no codec."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from engine.geometry import Size

Samples = NDArray[np.uint8] | NDArray[np.uint16]

BLACK = (16, 128, 128)
"""Y, Cb, Cr of black in 8-bit limited range."""


@dataclass(frozen=True, slots=True)
class SourceFrame:
    """One decoded frame, in coded orientation, planar YCbCr.

    `planes` are 2-D views of Y, Cb and Cr, shape (height, width): uint8 where `depth` is 8, else
    uint16 with the value in the low bits. Chroma planes are `ceil(width / chroma_step[0])` samples
    wide and `ceil(height / chroma_step[1])` high. `owner` keeps the memory behind the views alive.
    """

    pts: int
    planes: tuple[Samples, Samples, Samples]
    depth: int
    chroma_step: tuple[int, int]
    """Luma samples per chroma sample, across and down: (2, 2) for 4:2:0, (2, 1), (1, 1)."""
    chroma_offset: tuple[float, float]
    """Where chroma sample 0 sits, in luma sample spacings from luma sample 0: (0, 0.5) is the
    usual "left" siting of 4:2:0, (0.5, 0.5) the JPEG "centre", (0, 0) for 4:4:4."""
    owner: object

    @property
    def size(self) -> Size:
        """The luma plane's, in samples."""
        height, width = self.planes[0].shape
        return Size(width, height)


class DeviceSurface(Protocol):
    """A decoded frame that stays on a device; only `gpu` knows its layout there."""

    @property
    def pts(self) -> int:
        """Timestamp of the source frame, an element of `SourceInfo.frame_pts`."""


class FinishedPicture(Protocol):
    """A finished picture, in host memory or on a device."""

    @property
    def size(self) -> Size:
        """In pixels; both sides are even."""

    def on_host(self) -> Picture:
        """The picture in host memory: a copy, or itself if it is there already."""


class Picture:
    """A finished picture: 8-bit BT.709 limited-range 4:2:0 in one contiguous buffer.

    `buffer` has shape (height * 3 / 2, width), dtype uint8, in I420 layout. `y`, `u` and `v` are
    writable views of it. `u` and `v` have half the width and height, sited "left".
    """

    __slots__ = ("buffer", "size", "u", "v", "y")

    def __init__(self, size: Size, buffer: NDArray[np.uint8] | None = None) -> None:
        """A picture around a contiguous I420 `buffer`, by default a new one of undefined content.

        Raises ValueError for odd sides and for a buffer of another shape.
        """
        if size.width % 2 or size.height % 2:
            raise ValueError(f"a 4:2:0 picture has even sides, not {size}")
        shape = (size.height * 3 // 2, size.width)
        self.size = size
        self.buffer: NDArray[np.uint8] = np.empty(shape, np.uint8) if buffer is None else buffer
        if self.buffer.shape != shape or not self.buffer.flags.c_contiguous:
            raise ValueError(f"the buffer of a picture of {size} is contiguous, of shape {shape}")
        flat = self.buffer.reshape(-1)
        luma, chroma = size.width * size.height, size.width * size.height // 4
        half = (size.height // 2, size.width // 2)
        self.y = flat[:luma].reshape(size.height, size.width)
        self.u = flat[luma : luma + chroma].reshape(half)
        self.v = flat[luma + chroma :].reshape(half)

    @property
    def planes(self) -> tuple[NDArray[np.uint8], NDArray[np.uint8], NDArray[np.uint8]]:
        """`y`, `u` and `v`."""
        return self.y, self.u, self.v

    def on_host(self) -> Picture:
        """See `FinishedPicture`."""
        return self

    def fill_black(self) -> None:
        """Sets every sample to black."""
        for plane, value in zip(self.planes, BLACK, strict=True):
            plane.fill(value)
