"""Change of tempo without change of pitch, exact in place and length. Knows no file and no span.

WSOLA (W. Verhelst, M. Roelands, "An overlap-add technique based on waveform similarity (WSOLA) for
high quality time-scale modification of speech", ICASSP 1993): the output is a row of overlapping
grains of the source, one every `HOP` samples. Each is taken near the place that the speed asks for,
where it best continues the grain before it. Every grain is placed anew from the output's clock, so
errors do not add up and lengths are exact.

Attacks are kept whole. Cut into grains, a click would be heard several times in slow motion and not
at all in a fast one; here the two grains that play over an attack are laid so that it sounds once,
unstretched, exactly when it should (the aim of S. Grofit, Y. Lavner, "Time-scale modification of
audio signals using enhanced WSOLA with management of transients", IEEE TASLP 16(1), 2008).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from fractions import Fraction

import numpy as np
from numba import njit
from numpy.typing import NDArray

from engine.timing import SAMPLE_RATE_HZ, round_half_up

Stereo = NDArray[np.float32]

HOP = 512
"""Samples from grain to grain; a grain is two hops (21 ms) long."""

_GRAINS = 16
"""Grains per call of the kernel."""

_REACH_S = Fraction(1, 50)
"""How far off its ideal time in the output a grain may be, to fit the one before it,"""
_LEAST_REACH, _MOST_REACH = SAMPLE_RATE_HZ // 200, SAMPLE_RATE_HZ // 100
"""within these bounds in the source: 5 ms to either side is a period of 100 Hz, 10 ms one of 50."""

_FRAME = 120
"""Attacks are looked for in frames of 2.5 ms,"""
_QUIET_FRAMES = 9
"""each compared with the 22.5 ms before it, a little more than a grain,"""
_RISE = 8.0
"""and are frames with this many times the energy of any of those (9 dB),"""
_FLOOR = 1e-6
"""if their mean square is above this (-60 dB)."""
_NEVER = 1 << 62


def stretched(
    read: Callable[[int, int], Stereo],
    source_start: Fraction,
    speed: Fraction,
    start: int,
    stop: int,
) -> Iterator[Stereo]:
    """Output samples `[start, stop)`, in blocks of shape (2, some).

    Output sample 0 sounds source sample `source_start`, output sample n what is n * speed further
    on. `read(a, b)` gives source samples `[a, b)`, shape (2, b - a), float32; its calls go forward
    and reach no further than half a second (at speed 20) past what they are for.
    """
    count = stop - start
    reach = max(_LEAST_REACH, min(_MOST_REACH, round(_REACH_S * SAMPLE_RATE_HZ * speed)))
    margin = math.ceil(max(speed, Fraction(1)) * HOP) * 3 + HOP + reach + 2 * _QUIET_FRAMES * _FRAME
    tail = np.zeros((2, HOP), np.float32)
    previous = 0
    grains = -(-count // HOP) + 1
    for first in range(0, grains, _GRAINS):
        rows = range(first, min(first + _GRAINS, grains))
        ideal = [round_half_up(source_start + speed * (start + row * HOP)) for row in rows]
        origin = ideal[0] - margin
        source = read(origin, ideal[-1] + margin)
        places = np.array(ideal, np.int64) - origin
        out = np.empty((2, len(rows) * HOP), np.float32)
        previous = _overlap_add(
            source, places, origin, previous - origin, first == 0, float(speed), reach, tail, out
        )
        previous += origin
        # the first grain's left half lies before `start`
        block = out[:, HOP if first == 0 else 0 : count + HOP - first * HOP]
        if block.size:
            yield block


@njit(cache=True, nogil=True)
def _overlap_add(
    source: Stereo,
    ideal: NDArray[np.int64],
    origin: int,
    previous: int,
    begin: bool,
    speed: float,
    reach: int,
    tail: Stereo,
    out: Stereo,
) -> int:
    """Lay one grain per place of `ideal` and write HOP finished samples for each to `out`.

    Places are indices into `source` of the middles of grains, `previous` the one before the first;
    `origin` is where `source` starts, so that frames lie alike in every call. `begin`: there is no
    grain before the first. `tail` is the right half of the grain before, and afterwards that of the
    last. Returns the last grain's place.
    """
    mono = source[0] + source[1]
    attacks = _attacks(mono, origin)
    rise = (0.5 - 0.5 * np.cos(np.pi * (np.arange(HOP) + 0.5) / HOP)).astype(np.float32)
    for row in range(ideal.size):
        low, high = _bounds(ideal[row], attacks, speed, 0 if begin and row == 0 else reach)
        place = low if low == high else _most_alike(mono, previous, ideal[row], low, high)
        for side in range(2):
            left = source[side, place - HOP : place]
            right = source[side, place : place + HOP]
            out[side, row * HOP : (row + 1) * HOP] = tail[side] + rise * left
            tail[side] = (1 - rise) * right
        previous = place
    return previous


@njit(cache=True, nogil=True)
def _bounds(ideal: int, attacks: NDArray[np.int64], speed: float, reach: int) -> tuple[int, int]:
    """First and last place where a grain may stand; the same one where it plays over an attack.

    It may hold no attack that was heard before its time or is due after it.
    """
    nearest, locked = float(HOP), ideal
    earliest, latest = -_NEVER, _NEVER
    for attack in attacks:
        due = (attack - ideal) / speed  # in output samples from the grain's middle
        if abs(due) < nearest:
            nearest, locked = abs(due), attack - round(due)
        elif due <= -HOP:
            earliest = attack + HOP
        elif due >= HOP:
            latest = min(latest, attack - HOP)
    if nearest < HOP:
        return locked, locked
    middle = min(max(ideal, earliest), latest)
    return max(middle - reach, earliest), min(middle + reach, latest)


@njit(cache=True, nogil=True, fastmath=True)
def _most_alike(mono: NDArray[np.float32], previous: int, ideal: int, low: int, high: int) -> int:
    """The place in `[low, high]` whose left half is most like what follows the grain before.

    By normalised cross-correlation; the place nearest `ideal` where nothing is alike (silence).
    """
    best, best_score = min(max(ideal, low), high), 0.0
    template = mono[previous : previous + HOP]
    energy = float(np.sum(mono[low - HOP : low] ** 2))
    for place in range(low, high + 1):
        candidate = mono[place - HOP : place]
        likeness = np.float32(0)
        for i in range(HOP):
            likeness += template[i] * candidate[i]
        score = float(likeness) / math.sqrt(max(energy, 1e-9))
        if score > best_score:
            best, best_score = place, score
        energy += float(mono[place] ** 2 - mono[place - HOP] ** 2)
    return best


@njit(cache=True, nogil=True)
def _attacks(mono: NDArray[np.float32], origin: int) -> NDArray[np.int64]:
    """Places in `mono` where sound sets in, ascending, further apart than a grain is long."""
    first = -origin % _FRAME
    frames = (mono.size - first) // _FRAME
    energy = np.empty(frames, np.float32)
    for frame in range(frames):
        samples = mono[first + frame * _FRAME : first + (frame + 1) * _FRAME]
        energy[frame] = np.sum(samples * samples)
    found = np.empty(frames, np.int64)
    count = 0
    last = -_QUIET_FRAMES
    for frame in range(_QUIET_FRAMES, frames):
        loudest = energy[frame - _QUIET_FRAMES : frame].max()
        if energy[frame] > max(_RISE * loudest, _FLOOR * _FRAME):
            if frame - last > _QUIET_FRAMES:
                at = first + frame * _FRAME
                found[count] = at + _onset(mono[at : at + _FRAME])
                count += 1
            last = frame
    return found[:count]


@njit(cache=True, nogil=True)
def _onset(samples: NDArray[np.float32]) -> int:
    """The first sample that is within 10 dB of the loudest."""
    power = samples * samples
    threshold = 0.1 * power.max()
    for i in range(samples.size):
        if power[i] >= threshold:
            return i
    return 0
