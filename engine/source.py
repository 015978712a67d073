"""What a source file is, as a value. Knows how no file is opened (`probe.py` does)."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from fractions import Fraction
from itertools import pairwise
from typing import Any

import numpy as np
from numpy.typing import NDArray

from engine.errors import SourceError
from engine.geometry import Size
from engine.location import SourceLocation

DOCUMENT_VERSION = 1
"""Raised whenever `SourceInfo.to_document` would be written or read differently."""


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

    location: SourceLocation
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

    def to_document(self) -> dict[str, Any]:
        """All but `location`, as JSON: for whoever finds the same file elsewhere."""
        sound = self.sound
        return {
            "version": DOCUMENT_VERSION,
            "fingerprint": self.fingerprint,
            "container": self.container,
            "codec": self.codec,
            "pixelFormat": self.pixel_format,
            "codedSize": [self.coded_size.width, self.coded_size.height],
            "displaySize": [self.display_size.width, self.display_size.height],
            "rotationClockwise": self.rotation_deg,
            "colour": {
                "matrix": str(self.colour.matrix),
                "fullRange": self.colour.full_range,
                "transfer": str(self.colour.transfer),
                "assumed": self.colour.assumed,
            },
            "interlaced": self.interlaced,
            "timeBase": str(self.time_base),
            "framePts": _runs(self.frame_pts),
            "keyframePts": _runs(self.keyframe_pts),
            "endPts": self.end_pts,
            "sound": sound
            and {
                "streamIndex": sound.stream_index,
                "codec": sound.codec,
                "sampleRateHz": sound.sample_rate_hz,
                "channels": sound.channels,
                "start": str(sound.start_s),
            },
            "knownByOrder": self.known_by_order,
        }

    @classmethod
    def from_document(cls, document: dict[str, Any], location: SourceLocation) -> SourceInfo:
        """What `to_document` wrote, of the file at `location`; nothing is opened.

        Whether that is still the same file is for its fingerprint to say. Raises SourceError for a
        document of another version, or none.
        """
        try:
            if document["version"] != DOCUMENT_VERSION:
                raise ValueError(f"version {document['version']}")
            colour, sound = document["colour"], document["sound"]
            return cls(
                location=location,
                fingerprint=str(document["fingerprint"]),
                container=str(document["container"]),
                codec=str(document["codec"]),
                pixel_format=str(document["pixelFormat"]),
                coded_size=Size(*map(int, document["codedSize"])),
                display_size=Size(*map(int, document["displaySize"])),
                rotation_deg=int(document["rotationClockwise"]),
                colour=Colour(
                    Matrix(colour["matrix"]),
                    bool(colour["fullRange"]),
                    Transfer(colour["transfer"]),
                    bool(colour["assumed"]),
                ),
                interlaced=bool(document["interlaced"]),
                time_base=Fraction(document["timeBase"]),
                frame_pts=_ticks(document["framePts"]),
                keyframe_pts=_ticks(document["keyframePts"]),
                end_pts=int(document["endPts"]),
                sound=sound
                and SoundInfo(
                    stream_index=int(sound["streamIndex"]),
                    codec=str(sound["codec"]),
                    sample_rate_hz=int(sound["sampleRateHz"]),
                    channels=int(sound["channels"]),
                    start_s=Fraction(sound["start"]),
                ),
                known_by_order=bool(document["knownByOrder"]),
            )
        except (LookupError, TypeError, ValueError) as error:
            raise SourceError(location, f"is described in a way not known here: {error}") from None


def _runs(ticks: NDArray[np.int64]) -> list[list[int]]:
    """Ticks as runs of equal steps, `[step, count]` each; the first step is from 0."""
    steps = np.diff(ticks, prepend=0)
    borders = [0, *(np.flatnonzero(np.diff(steps)) + 1).tolist(), len(steps)]
    return [[int(steps[first]), last - first] for first, last in pairwise(borders) if first < last]


def _ticks(runs: list[list[int]]) -> NDArray[np.int64]:
    """What `_runs` was made of."""
    steps = [np.full(count, step, np.int64) for step, count in runs]
    return np.cumsum(np.concatenate([np.empty(0, np.int64), *steps]))
