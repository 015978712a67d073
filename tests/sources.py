"""Source files that exist only as values, for tests that decide and open nothing."""

from __future__ import annotations

from collections.abc import Sequence
from fractions import Fraction
from pathlib import Path

import numpy as np

from engine.geometry import Size
from engine.source import Colour, Matrix, SourceInfo, Transfer

FULL_HD = Size(1920, 1080)


def a_source(
    name: str = "a.mp4",
    *,
    frames: int = 300,
    fps: Fraction | int = 30,
    size: Size = FULL_HD,
    time_base: Fraction = Fraction(1, 90_000),
    first_pts: int = 0,
    times_s: Sequence[Fraction] | None = None,
) -> SourceInfo:
    """`frames` frames at `fps`, or frames at `times_s` of which the last lasts as the first."""
    shown_s = times_s or [Fraction(k) / fps for k in range(frames + 1)]
    pts = np.array([first_pts + round(second / time_base) for second in shown_s], np.int64)
    end = int(pts[-1]) if times_s is None else int(pts[-1] + pts[1] - pts[0])
    return SourceInfo(
        location=Path(name),
        fingerprint=f"print of {name}",
        container="mp4",
        codec="h264",
        pixel_format="yuv420p",
        coded_size=size,
        display_size=size,
        rotation_deg=0,
        colour=Colour(Matrix.BT709, full_range=False, transfer=Transfer.SDR, assumed=False),
        interlaced=False,
        time_base=time_base,
        frame_pts=pts[:-1] if times_s is None else pts,
        keyframe_pts=pts[:1],
        end_pts=end,
        sound=None,
    )
