"""Changes tempo without changing pitch, exact to the sample. Knows no file and no span.

WSOLA (W. Verhelst, M. Roelands, "An overlap-add technique based on waveform similarity (WSOLA) for
high quality time-scale modification of speech", ICASSP 1993): the output is a row of overlapping
grains of the source, one every `HOP` samples. Each grain is taken near the source position that the
speed gives, where it best continues the grain before it. Every position is computed from the
output's clock, so errors do not add up and lengths are exact.

Attacks stay whole. Cut into grains, a click would sound several times in slow motion and not at all
at high speed. So the two grains that cover an attack are positioned so that it sounds once, at its
own speed, exactly when it is due (the aim of S. Grofit, Y. Lavner, "Time-scale modification of
audio signals using enhanced WSOLA with management of transients", IEEE TASLP 16(1), 2008).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from fractions import Fraction

import numpy as np
from numpy.typing import NDArray

from engine.compiled import compiled
from engine.timing import SAMPLE_RATE_HZ, round_half_up

Stereo = NDArray[np.float32]
"""Planar left and right, shape (2, samples)."""

HOP = 512
"""Output samples from grain to grain; a grain is two hops (21 ms) long."""

_GRAINS = 16
"""Grains per call of the kernel."""

_REACH_S = Fraction(1, 50)
"""How far a grain may be from its ideal time in the output, in seconds."""
_MIN_REACH, _MAX_REACH = SAMPLE_RATE_HZ // 200, SAMPLE_RATE_HZ // 100
"""Bounds of that in the source: 5 ms to either side is a period of 100 Hz, 10 ms one of 50 Hz."""

_FRAME = 120
"""Samples (2.5 ms) of the frames in which attacks are detected."""
_QUIET_FRAMES = 9
"""A frame is compared with the 22.5 ms before it, a little more than a grain."""
_RISE = 8.0
"""An attack has this many times the energy of each of those frames (9 dB)."""
_FLOOR = 1e-6
"""An attack's mean square is above this (-60 dB)."""
_FAR = 1 << 62
"""A position beyond any sample."""


def stretch_blocks(
    read: Callable[[int, int], Stereo],
    source_start: Fraction,
    speed: Fraction,
    start: int,
    stop: int,
) -> Iterator[Stereo]:
    """Output samples `[start, stop)`, in blocks of shape (2, some), float32.

    Output sample n sounds source sample `source_start + n * speed`. `read(a, b)` gives source
    samples `[a, b)`, shape (2, b - a), float32. Calls of it go forward. They reach at most half a
    second (at speed 20) past the output samples that they are for.
    """
    count = stop - start
    reach = max(_MIN_REACH, min(_MAX_REACH, round(_REACH_S * SAMPLE_RATE_HZ * speed)))
    margin = math.ceil(max(speed, Fraction(1)) * HOP) * 3 + HOP + reach + 2 * _QUIET_FRAMES * _FRAME
    tail = np.zeros((2, HOP), np.float32)
    previous = 0
    grains = -(-count // HOP) + 1
    for first in range(0, grains, _GRAINS):
        rows = range(first, min(first + _GRAINS, grains))
        ideal = [round_half_up(source_start + speed * (start + row * HOP)) for row in rows]
        origin = ideal[0] - margin
        source = read(origin, ideal[-1] + margin)
        positions = np.array(ideal, np.int64) - origin
        out = np.empty((2, len(rows) * HOP), np.float32)
        previous = _overlap_add(
            source, positions, origin, previous - origin, first == 0, float(speed), reach, tail, out
        )
        previous += origin
        # the first grain's left half lies before `start`
        block = out[:, HOP if first == 0 else 0 : count + HOP - first * HOP]
        if block.size:
            yield block


@compiled()
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
    """Overlaps one grain per position of `ideal` and writes HOP finished samples for each to `out`.

    Positions are indices into `source` of the middles of grains; `previous` is that of the grain
    before the first. `origin` is the source sample at which `source` starts, so that the frames of
    the attack detection are the same in every call. `begin`: there is no grain before the first.
    `tail` is the right half of the grain before, and becomes that of the last. Returns the last
    grain's position.
    """
    mono = source[0] + source[1]
    attacks = _find_attacks(mono, origin)
    rise = (0.5 - 0.5 * np.cos(np.pi * (np.arange(HOP) + 0.5) / HOP)).astype(np.float32)
    for row in range(ideal.size):
        low, high = _search_range(ideal[row], attacks, speed, 0 if begin and row == 0 else reach)
        position = low if low == high else _best_match(mono, previous, ideal[row], low, high)
        for side in range(2):
            # sample by sample: numba's sums of arrays raise errors for which it must be there
            for place in range(HOP):
                faded_in = rise[place] * source[side, position - HOP + place]
                out[side, row * HOP + place] = tail[side, place] + faded_in
                tail[side, place] = (1 - rise[place]) * source[side, position + place]
        previous = position
    return previous


@compiled()
def _search_range(
    ideal: int, attacks: NDArray[np.int64], speed: float, reach: int
) -> tuple[int, int]:
    """First and last position of a grain's middle; the same one where it covers an attack.

    The grain must not contain an attack that is due before or after it.
    """
    nearest, locked = float(HOP), ideal
    earliest, latest = -_FAR, _FAR
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


@compiled(fastmath=True)
def _best_match(mono: NDArray[np.float32], previous: int, ideal: int, low: int, high: int) -> int:
    """The position in `[low, high]` whose left half best continues the grain before it.

    By normalised cross-correlation; the position nearest `ideal` where none correlates (silence).
    """
    best, best_score = min(max(ideal, low), high), 0.0
    template = mono[previous : previous + HOP]
    energy = float(np.sum(mono[low - HOP : low] ** 2))
    for position in range(low, high + 1):
        candidate = mono[position - HOP : position]
        correlation = np.float32(0)
        for i in range(HOP):
            correlation += template[i] * candidate[i]
        score = float(correlation) / math.sqrt(max(energy, 1e-9))
        if score > best_score:
            best, best_score = position, score
        energy += float(mono[position] ** 2 - mono[position - HOP] ** 2)
    return best


@compiled()
def _find_attacks(mono: NDArray[np.float32], origin: int) -> NDArray[np.int64]:
    """Positions in `mono` of attacks, ascending, further apart than a grain is long."""
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


@compiled()
def _onset(samples: NDArray[np.float32]) -> int:
    """Index of the first sample that is within 10 dB of the loudest."""
    power = samples * samples
    threshold = 0.1 * power.max()
    for i in range(samples.size):
        if power[i] >= threshold:
            return i
    return 0
