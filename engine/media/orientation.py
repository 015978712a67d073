"""Reads how a picture is turned upright from its display matrix."""

from __future__ import annotations

from math import atan2, degrees, hypot
from struct import unpack
from typing import Any, NamedTuple

import av
from av.sidedata.sidedata import Type

_TOLERANCE_DEG = 1.0
_TOLERANCE = 0.01


class Orientation(NamedTuple):
    """How a coded picture becomes upright: mirrored first, then turned clockwise."""

    rotation_deg: int = 0
    """0, 90, 180 or 270."""
    mirrored: bool = False
    """Left and right change places."""
    note: str | None = None
    """What else the file asks for, which is not done."""


def orientation_of(frame: av.VideoFrame) -> Orientation:
    """The orientation that a decoded frame asks for.

    A matrix `(a, b, u, c, d, v, x, y, w)` maps a point of the coded picture, y downwards, to
    `(a x + c y, b x + d y)` (ISO/IEC 14496-12, 8.3.2.3). A negative determinant mirrors. A matrix
    that maps the picture to a line or a point, such as the zeros of some muxers, says nothing.
    """
    side_data: Any = frame.side_data  # av declares another type
    try:
        found = side_data[Type.DISPLAYMATRIX]
    except KeyError:
        return Orientation()
    a, b, _, c, d = (cell / 65536 for cell in unpack("=5i", bytes(found)[:20]))
    across, down = hypot(a, b), hypot(c, d)
    determinant = a * d - b * c
    if abs(determinant) <= _TOLERANCE * max(across, down, _TOLERANCE) ** 2:
        return Orientation()
    mirrored = determinant < 0
    turn_deg = degrees(atan2(-b, -a) if mirrored else atan2(b, a)) % 360
    rotation_deg = 90 * round(turn_deg / 90) % 360
    return Orientation(rotation_deg, mirrored, _note(turn_deg, (a, b, c, d), rotation_deg))


def _note(
    turn_deg: float, matrix: tuple[float, float, float, float], rotation_deg: int
) -> str | None:
    a, b, c, d = matrix
    across, down = hypot(a, b), hypot(c, d)
    off_deg = abs((turn_deg - rotation_deg + 180) % 360 - 180)
    if off_deg > _TOLERANCE_DEG:
        return (
            f"it asks to be turned by {turn_deg:.0f} degrees and is turned by {rotation_deg}: only "
            "quarter turns are shown"
        )
    if abs(across - down) > _TOLERANCE * max(across, down):
        return "it asks to be stretched; it is shown as it is stored"
    if abs(a * c + b * d) > _TOLERANCE * across * down:
        return "it asks to be slanted; it is shown as it is stored"
    return None
