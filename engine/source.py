"""What a source file is, as a value. Knows how no file is opened (`probe.py` does)."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from fractions import Fraction
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from engine.geometry import Size


class Matrix(StrEnum):
    """Which luma and chroma weights the samples were coded with."""

    BT601 = "bt601"
    BT709 = "bt709"
    BT2020 = "bt2020"


class Transfer(StrEnum):
    """How code values relate to light: ordinary video, or one of the two HDR curves."""

    SDR = "sdr"
    HLG = "hlg"
    PQ = "pq"


@dataclass(frozen=True, slots=True)
class Colour:
    """How a file's samples are to be read.

    `assumed` is true where the file does not say and the usual guess was taken (BT.709 from
    1280 wide or more than 576 lines, else BT.601; limited range).
    """

    matrix: Matrix
    full_range: bool
    transfer: Transfer
    assumed: bool


@dataclass(frozen=True, slots=True)
class SoundInfo:
    """The file's first sound stream. `start_s`: its first sample, in source presentation time."""

    stream_index: int
    codec: str
    sample_rate_hz: int
    channels: int
    start_s: Fraction


@dataclass(frozen=True, slots=True, eq=False)
class SourceInfo:
    """A probed file.

    Source presentation time is 0 at `frame_pts[0]`, whatever the container says.
    """

    path: Path
    fingerprint: str
    """Hex digest that changes when the file's content does; independent of its path."""
    container: str
    codec: str
    pixel_format: str
    coded_size: Size
    """Samples as stored: neither turned upright nor squared."""
    display_size: Size
    """Upright, square pixels. Crop rectangles are in these."""
    rotation_deg: int
    """0, 90, 180 or 270: how far the coded picture is turned clockwise to stand upright."""
    colour: Colour
    interlaced: bool
    time_base: Fraction
    """Seconds per tick of `frame_pts`, `keyframe_pts` and `end_pts`."""
    frame_pts: NDArray[np.int64]
    """Presentation timestamps of every shown frame, ascending, shape (frames,)."""
    keyframe_pts: NDArray[np.int64]
    """Those a decoder can start from, ascending; empty where seeking is not to be trusted."""
    end_pts: int
    """When the last frame stops being shown."""
    sound: SoundInfo | None
    known_by_order: bool = False
    """Frames are told apart by their order, as their own timestamps are missing or wrong."""

    @property
    def duration_s(self) -> Fraction:
        return self.time_of(self.end_pts)

    def time_of(self, pts: int) -> Fraction:
        """Source presentation time of a timestamp, in seconds."""
        return (int(pts) - int(self.frame_pts[0])) * self.time_base
