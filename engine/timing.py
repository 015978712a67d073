"""Exact time: frame rates, rounding, half-open ranges. Knows no edit, no file and no pixel.

Times are `Fraction` seconds or integer ticks. Floats come in only through `exact_seconds`, and go
out only into the arrays of crop rectangles.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from fractions import Fraction

SAMPLE_RATE_HZ = 48_000
"""Sample rate of every sound track the engine writes."""

MICROSECOND = Fraction(1, 1_000_000)

TIMESTAMP_TOLERANCE_S = Fraction(1, 1000)
"""Containers round timestamps, so a frame counts as shown from 1 ms before its timestamp."""

KEY_INTERVALS_S = (Fraction(1, 10), Fraction(60))
"""The shortest and the longest time from one key frame of a film to the next."""

DEFAULT_KEY_INTERVAL_S = Fraction(2)
"""Short enough to scrub, and what platforms ask for."""

MAX_RATE_DENOMINATOR = 1001 * 1000
"""A frame rate is kept as the nearest fraction with a denominator up to this."""

NTSC_RATES = {
    round(rate, decimals).limit_denominator(MAX_RATE_DENOMINATOR): rate
    for rate in (Fraction(nominal * 1000, 1001) for nominal in (24, 30, 48, 60, 120, 240))
    for decimals in range(2, 10)
}
"""What the decimal numbers of the NTSC family mean: its rates, each rounded to 2 to 9 decimals.

23.98, 23.976 and 23.976024 are 24000/1001. With more decimals a number is nearest to it anyway.
"""


@dataclass(frozen=True, slots=True, order=True)
class FrameRange:
    """Half-open range `[start, stop)` of frames."""

    start: int
    stop: int

    def __post_init__(self) -> None:
        if self.stop < self.start:
            raise ValueError(f"range stops before it starts: [{self.start}, {self.stop})")

    def __len__(self) -> int:
        return self.stop - self.start

    def __iter__(self) -> Iterator[int]:
        return iter(range(self.start, self.stop))

    def __str__(self) -> str:
        return f"[{self.start}, {self.stop})"


def round_half_up(value: Fraction) -> int:
    """Nearest integer, halves towards +infinity (unlike `round`, which goes to even)."""
    return math.floor(value + Fraction(1, 2))


def exact_seconds(value: float | int | Fraction) -> Fraction:
    """A time as written by a user, resolved to 1 microsecond.

    Raises ValueError for NaN and infinities.
    """
    if isinstance(value, float) and not math.isfinite(value):
        raise ValueError("is not a finite number")
    exact = value if isinstance(value, Fraction) else Fraction(str(value))
    return round_half_up(exact / MICROSECOND) * MICROSECOND


def exact_rate(value: float | int | str | Fraction) -> Fraction:
    """A frame rate as written by a user: `30`, `29.97`, `"30000/1001"`.

    The decimal numbers of the NTSC family (29.97, 59.94, 23.976 ...) mean n*1000/1001; a ratio is
    exactly what it says. Raises ValueError for anything that is not a positive finite rate.
    """
    text = str(value).strip()
    try:
        rate = Fraction(text).limit_denominator(MAX_RATE_DENOMINATOR)
    except (ValueError, ZeroDivisionError):
        raise ValueError(f"{value!r} is not a frame rate") from None
    if rate <= 0:
        raise ValueError("must be above 0")
    return rate if "/" in text else NTSC_RATES.get(rate, rate)


def frame_time_s(frame: int, fps: Fraction) -> Fraction:
    """Presentation time of output frame `frame`, in seconds."""
    return frame / fps


def first_sample(frame: int, fps: Fraction) -> int:
    """The 48 kHz sample at which output frame `frame` starts (nearest, halves up).

    Every frame gets its samples through this one function, so sound and picture cannot drift.
    """
    return round_half_up(frame * SAMPLE_RATE_HZ / fps)
