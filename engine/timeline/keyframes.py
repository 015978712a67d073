"""Turns crop keyframes into one rectangle per output frame. Knows no file, plan or pixel value."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import NDArray

from engine.compiled import compiled
from engine.geometry import Size, largest_centred
from engine.timeline.clip import SMALLEST_SHARE, CropKeyframe, Ease

Floats = NDArray[np.float64]

_LINEAR, _SMOOTH, _CUT, _SPLINE = range(4)
_CODES = {
    Ease.LINEAR: _LINEAR,
    Ease.SMOOTH: _SMOOTH,
    Ease.CUT: _CUT,
    Ease.SPLINE: _SPLINE,
}


def crop_rects(
    keyframes: Sequence[CropKeyframe],
    times_s: Floats,
    frame: Size,
    target_aspect: float,
    ease: Ease = Ease.LINEAR,
    *,
    on_warning: Callable[[str], None] = lambda _: None,
) -> Floats:
    """The rectangle shown at each time: x, y, width, height in pixels, float64, shape (n, 4).

    `keyframes` ascend in time, as in `Clip`. `times_s` has shape (n,), in seconds of source time,
    in any order. `frame` is the size of the upright source frame.

    Before the first and after the last keyframe the rectangle holds. A keyframe's `ease` says how
    it moves on from there; `ease` is that of keyframes that have none. Nothing is rounded. A
    rectangle larger than the frame shrinks about its centre and keeps its aspect. One that leaves
    the frame is shifted inside. Without keyframes the rectangle is the largest centred one of
    `target_aspect` (width / height). `on_warning` is told of a curve that would turn the crop
    inside out; see `SMALLEST_SHARE`.
    """
    if keyframes:
        key_times_s = np.array([float(each.time_s) for each in keyframes])
        rects = [each.rect for each in keyframes]
        eases = np.array([_CODES[each.ease or ease] for each in keyframes])
    else:
        key_times_s, eases = np.zeros(1), np.zeros(1, np.int64)
        rects = [largest_centred(frame, target_aspect)]
    sides = np.array([(rect.x, rect.y, rect.width, rect.height) for rect in rects])
    shown = np.empty((len(times_s), 4))
    tangents = np.zeros(sides.shape)
    _fill_tangents(key_times_s, sides, eases, tangents)
    held_s = _sample(key_times_s, sides, eases, tangents, times_s, shown)
    if not math.isnan(held_s):
        on_warning(f"at {held_s:.3f} s the curve would make the crop too small; it is kept larger")
    _move_inside(shown, float(frame.width), float(frame.height))
    return shown


@compiled()
def _fill_tangents(
    key_times_s: Floats, sides: Floats, eases: NDArray[np.int64], tangents: Floats
) -> None:
    """Slopes at the keyframes, per second, shape (keyframes, 4), that keep a cubic monotone.

    Each is the weighted harmonic mean of the slopes on either side, and 0 where they differ in sign
    (Fritsch and Butland, "A method for constructing local monotone piecewise cubic interpolants",
    1984; the tangents of PCHIP). The slope is 0 at a cut, and at the first and the last keyframe:
    a movement starts and ends there at rest. `tangents` holds zeros before.
    """
    last = len(key_times_s) - 1
    for key in range(1, last):
        if eases[key - 1] == _CUT or eases[key] == _CUT:
            continue
        before_s = key_times_s[key] - key_times_s[key - 1]
        after_s = key_times_s[key + 1] - key_times_s[key]
        for side in range(4):
            arriving = (sides[key, side] - sides[key - 1, side]) / before_s
            leaving = (sides[key + 1, side] - sides[key, side]) / after_s
            if arriving * leaving > 0:
                weight, other = 2 * after_s + before_s, after_s + 2 * before_s
                mean = (weight + other) / (weight / arriving + other / leaving)
                tangents[key, side] = mean


@compiled()
def _sample(
    key_times_s: Floats,
    sides: Floats,
    eases: NDArray[np.int64],
    tangents: Floats,
    times_s: Floats,
    shown: Floats,
) -> float:
    """Writes the moving rectangle at each time into `shown`, shape (times, 4).

    Returns the first time at which a curve was held at `SMALLEST_SHARE`, NaN where none was.
    """
    last = len(key_times_s) - 1
    key = 0
    held_s = math.nan
    for row in range(len(times_s)):
        key = _last_at(key_times_s, times_s[row], key)
        following = min(key + 1, last)
        lasts_s = key_times_s[following] - key_times_s[key]
        since_s = times_s[row] - key_times_s[key]
        moves = since_s > 0 and lasts_s > 0 and eases[key] != _CUT
        share = since_s / lasts_s if moves else 0.0
        for side in range(4):
            start, stop = sides[key, side], sides[following, side]
            if eases[key] == _SPLINE and moves:
                before = key if key == 0 or eases[key - 1] == _CUT else key - 1
                after = following
                if following < last and eases[following] != _CUT:
                    after = following + 1
                value = _catmull_rom(sides[before, side], start, stop, sides[after, side], share)
                if side >= 2 and value < SMALLEST_SHARE * min(start, stop):  # an extent
                    value = SMALLEST_SHARE * min(start, stop)
                    held_s = times_s[row] if math.isnan(held_s) else held_s
                shown[row, side] = value
            elif eases[key] == _SMOOTH and moves:
                leaving = tangents[key, side] * lasts_s
                arriving = tangents[following, side] * lasts_s
                shown[row, side] = _hermite(start, stop, leaving, arriving, share)
            else:
                shown[row, side] = start + share * (stop - start)
    return held_s


@compiled()
def _last_at(key_times_s: Floats, time_s: float, guess: int) -> int:
    """Index of the last keyframe at or before a time, else 0. Tries `guess` first."""
    low, high = 0, len(key_times_s)
    if key_times_s[guess] <= time_s:
        if guess + 1 == high or time_s < key_times_s[guess + 1]:
            return guess
        low = guess
    while high - low > 1:
        middle = (low + high) // 2
        if key_times_s[middle] <= time_s:
            low = middle
        else:
            high = middle
    return low


@compiled()
def _hermite(start: float, stop: float, leaving: float, arriving: float, share: float) -> float:
    """The cubic with these ends and slopes, at `share` (0 to 1) of the way; never past the ends."""
    rest = 1 - share
    bend = share * rest * (leaving * rest - arriving * share)
    value = start + (stop - start) * share * share * (3 - 2 * share) + bend
    return min(max(value, min(start, stop)), max(start, stop))


@compiled()
def _catmull_rom(before: float, start: float, stop: float, after: float, share: float) -> float:
    """The uniform Catmull-Rom curve from `start` to `stop`, at `share` (0 to 1) of the way.

    `before` and `after` are the values at the keyframes around these two: Catmull and Rom, "A class
    of local interpolating splines", 1974, with tension 1/2.
    """
    square = 2 * before - 5 * start + 4 * stop - after
    cube = 3 * (start - stop) + after - before
    return start + share * ((stop - before) + share * (square + share * cube)) / 2


@compiled()
def _move_inside(rects: Floats, width: float, height: float) -> None:
    """Shrinks, then shifts, each rectangle into the frame, in place."""
    for row in range(len(rects)):
        x, y, across, down = rects[row, 0], rects[row, 1], rects[row, 2], rects[row, 3]
        scale = min(width / across, height / down)
        if scale < 1:
            x += across * (1 - scale) / 2
            y += down * (1 - scale) / 2
            across, down = min(across * scale, width), min(down * scale, height)
        rects[row, 0] = min(max(x, 0.0), width - across)
        rects[row, 1] = min(max(y, 0.0), height - down)
        rects[row, 2] = across
        rects[row, 3] = down
