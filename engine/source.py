"""What a source file is, as a value. It opens no file; `media/probe.py` does."""

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

DOCUMENT_VERSION = 2
"""Raised whenever the format of `SourceInfo.to_document` changes."""


class Matrix(StrEnum):
    """How the samples are made of red, green and blue: a luma and two colour differences."""

    BT601 = "bt601"
    BT709 = "bt709"
    BT2020 = "bt2020"
    FCC = "fcc"
    SMPTE240M = "smpte240m"
    YCGCO = "ycgco"
    ICTCP = "ictcp"


class Primaries(StrEnum):
    """The colours of the light that red, green and blue stand for."""

    BT709 = "bt709"
    """Also those of BT.601, which no player tells from them."""
    BT2020 = "bt2020"
    DISPLAY_P3 = "displayP3"
    DCI_P3 = "dciP3"


class Transfer(StrEnum):
    """The relation of code values to light: ordinary video, or one of the two HDR curves."""

    SDR = "sdr"
    HLG = "hlg"
    PQ = "pq"


class FieldOrder(StrEnum):
    """Which field of an interlaced picture is shown first: the one with its top line, or not."""

    TOP_FIRST = "tff"
    BOTTOM_FIRST = "bff"


@dataclass(frozen=True, slots=True)
class Colour:
    """The meaning of a file's samples.

    `assumed` is true where the file does not say and the usual values are taken: BT.709 from 1280
    pixels width or more than 576 lines on, else BT.601; limited range.
    """

    matrix: Matrix
    full_range: bool
    transfer: Transfer
    assumed: bool
    primaries: Primaries | None = None
    """Where they are not the usual ones; see `gamut`."""

    @property
    def gamut(self) -> Primaries:
        """Its primaries: usually BT.2020's for HDR and for BT.2020's matrix, else BT.709's."""
        wide = self.transfer is not Transfer.SDR or self.matrix is Matrix.BT2020
        return self.primaries or (Primaries.BT2020 if wide else Primaries.BT709)


class ChromaSiting(StrEnum):
    """Where the first chroma sample of a subsampled picture lies among the first luma samples.

    The names are those of ITU-T H.273 and FFmpeg. 4:2:2 has no siting from top to bottom: each row
    has chroma.
    """

    LEFT = "left"
    CENTER = "center"
    TOP_LEFT = "topleft"
    TOP = "top"
    BOTTOM_LEFT = "bottomleft"
    BOTTOM = "bottom"

    @property
    def offset(self) -> tuple[float, float]:
        """In luma sample spacings right of luma sample 0 and below it, for 4:2:0."""
        return {
            ChromaSiting.LEFT: (0.0, 0.5),
            ChromaSiting.CENTER: (0.5, 0.5),
            ChromaSiting.TOP_LEFT: (0.0, 0.0),
            ChromaSiting.TOP: (0.5, 0.0),
            ChromaSiting.BOTTOM_LEFT: (0.0, 1.0),
            ChromaSiting.BOTTOM: (0.5, 1.0),
        }[self]


@dataclass(frozen=True, slots=True)
class SoundInfo:
    """The sound of a file. Its first sample is at `start_s`, source presentation time."""

    stream_index: int
    codec: str
    sample_rate_hz: int
    channels: int
    start_s: Fraction
    origin_s: Fraction
    """The time in the file, as sound is stamped there, at which the first frame is shown."""


@dataclass(frozen=True, slots=True, eq=False)
class SourceInfo:
    """A probed file.

    Source presentation time is 0 at `frame_pts[0]`, whatever the container says.
    """

    location: SourceLocation
    fingerprint: str
    """Hex digest that changes with the file's content and does not depend on its path."""
    container: str
    codec: str
    pixel_format: str
    coded_size: Size
    """Size of the stored picture: not rotated, pixels not necessarily square."""
    display_size: Size
    """Size of the upright picture in square pixels, the unit of crop rectangles."""
    rotation_deg: int
    """0, 90, 180 or 270: clockwise rotation that turns the coded picture upright."""
    colour: Colour
    interlaced: bool
    time_base: Fraction
    """Seconds per tick of `frame_pts`, `keyframe_pts` and `end_pts`."""
    frame_pts: NDArray[np.int64]
    """Presentation timestamps of every shown frame, ascending, shape (frames,)."""
    keyframe_pts: NDArray[np.int64]
    """Timestamps that a decoder can start from, ascending; empty where seeks cannot be trusted."""
    end_pts: int
    """When the last frame stops being shown, in ticks."""
    sound: SoundInfo | None
    chroma_siting: ChromaSiting = ChromaSiting.LEFT
    known_by_order: bool = False
    """Frames are identified by their order, as their own timestamps are missing or wrong."""
    keyframe_bytes: NDArray[np.int64] | None = None
    """The bytes at which the frames of `keyframe_pts` begin, where the file is sought by bytes."""
    field_order: FieldOrder | None = None
    """Set for interlaced pictures that do not say themselves that they are: the container does."""
    mirrored: bool = False
    """Left and right of the coded picture change places before it is turned."""
    clock_shifts_s: tuple[Fraction, ...] = ()
    """Where the file's clock starts again or jumps: what is added to its times after each of these
    places, so that picture and sound go on."""
    repairs: tuple[str, ...] = ()
    """What is damaged in the file, and how it was repaired. One sentence each, without its name."""
    probed_etag: str | None = None
    """The version of the object that was probed, None where a file was: that version has this
    fingerprint."""
    notes: tuple[str, ...] = ()
    """What of an undamaged file is not shown or heard as it asks for. One sentence each."""

    @property
    def duration_s(self) -> Fraction:
        """From the first frame to the end of the last, in seconds."""
        return self.time_of(self.end_pts)

    def time_of(self, pts: int) -> Fraction:
        """Source presentation time of a timestamp, in seconds."""
        return (int(pts) - int(self.frame_pts[0])) * self.time_base

    def to_document(self) -> dict[str, Any]:
        """Everything except `location`, as JSON: the file may be somewhere else when it is read."""
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
            "mirrored": self.mirrored,
            "colour": {
                "matrix": str(self.colour.matrix),
                "fullRange": self.colour.full_range,
                "transfer": str(self.colour.transfer),
                "assumed": self.colour.assumed,
                "primaries": self.colour.primaries,
            },
            "chromaSiting": str(self.chroma_siting),
            "interlaced": self.interlaced,
            "fieldOrder": self.field_order,
            "timeBase": str(self.time_base),
            "framePts": _runs(self.frame_pts),
            "keyframePts": _runs(self.keyframe_pts),
            "keyframeBytes": None if self.keyframe_bytes is None else self.keyframe_bytes.tolist(),
            "endPts": self.end_pts,
            "sound": sound
            and {
                "streamIndex": sound.stream_index,
                "codec": sound.codec,
                "sampleRateHz": sound.sample_rate_hz,
                "channels": sound.channels,
                "start": str(sound.start_s),
                "origin": str(sound.origin_s),
            },
            "knownByOrder": self.known_by_order,
            "clockShifts": [str(shift_s) for shift_s in self.clock_shifts_s],
            "probedEtag": self.probed_etag,
            "repairs": list(self.repairs),
            "notes": list(self.notes),
        }

    @classmethod
    def from_document(cls, document: dict[str, Any], location: SourceLocation) -> SourceInfo:
        """Reads a document of `to_document` as the description of the file at `location`.

        Opens nothing: compare the fingerprint to know whether it is still the same file. Raises
        SourceError for a document of another version or form.
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
                mirrored=bool(document["mirrored"]),
                colour=Colour(
                    Matrix(colour["matrix"]),
                    bool(colour["fullRange"]),
                    Transfer(colour["transfer"]),
                    bool(colour["assumed"]),
                    primaries=None
                    if (primaries := colour.get("primaries")) is None
                    else Primaries(primaries),
                ),
                chroma_siting=ChromaSiting(document.get("chromaSiting", ChromaSiting.LEFT)),
                interlaced=bool(document["interlaced"]),
                keyframe_bytes=None
                if (places := document["keyframeBytes"]) is None
                else np.array(places, np.int64),
                field_order=FieldOrder(order) if (order := document["fieldOrder"]) else None,
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
                    origin_s=Fraction(sound["origin"]),
                ),
                known_by_order=bool(document["knownByOrder"]),
                clock_shifts_s=tuple(map(Fraction, document["clockShifts"])),
                probed_etag=document.get("probedEtag"),
                repairs=tuple(map(str, document["repairs"])),
                notes=tuple(map(str, document["notes"])),
            )
        except (LookupError, TypeError, ValueError) as error:
            raise SourceError(location, f"is described in a way not known here: {error}") from None


def _runs(ticks: NDArray[np.int64]) -> list[list[int]]:
    """Ticks as runs of equal steps, `[step, count]` each; the first step is from 0."""
    steps = np.diff(ticks, prepend=0)
    borders = [0, *(np.flatnonzero(np.diff(steps)) + 1).tolist(), len(steps)]
    return [[int(steps[first]), last - first] for first, last in pairwise(borders) if first < last]


def _ticks(runs: list[list[int]]) -> NDArray[np.int64]:
    """The inverse of `_runs`."""
    steps = [np.full(count, step, np.int64) for step, count in runs]
    return np.cumsum(np.concatenate([np.empty(0, np.int64), *steps]))
