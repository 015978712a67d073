"""Repairs time stamps of frames whose order is known. Arithmetic only: it opens no file.

A clock that starts again or jumps is one fault: what follows is moved so that it goes on. A frame
whose time does not lie between those of its neighbours is another: only that frame gets a new time.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

LASTING_FRAMES = 4
"""A clock jumps where this many frames follow it; fewer are single wrong time stamps."""

Ticks: TypeAlias = Sequence[int | None]
"""Time stamps in the order in which the frames are shown; None where a frame has none."""


@dataclass(frozen=True, slots=True)
class ClockJump:
    """A place where a file's clock does not go on. All but `index` in ticks."""

    index: int
    """The first frame of the new clock."""
    before: int
    """The last time stamp before it, as it is written in the file."""
    after: int
    """The first time stamp after it, as it is written in the file."""
    shift: int
    """What is added to the time stamps from there on, up to the next jump."""


def clock_jumps(ticks: Ticks, step: int, longest_gap: int | None = None) -> list[ClockJump]:
    """Where the clock goes back, or ahead by more than `longest_gap`, and stays there.

    Without `longest_gap` every step ahead is a pause of the picture. `step` is the usual distance
    of two frames; the frames before and after a closed jump are that far apart.
    """
    known = [(index, tick) for index, tick in enumerate(ticks) if tick is not None]
    jumps: list[ClockJump] = []
    shift, lasted = 0, 1
    last_index, last = known[0] if known else (0, 0)
    for place in range(1, len(known)):
        index, tick = known[place]
        following = [each for _, each in known[place : place + LASTING_FRAMES]]
        if _lasts(following, at_end=place + len(following) == len(known)) and (
            max(following) < last
            or (longest_gap is not None and min(following) > last + longest_gap)
        ):
            if lasted > 1:  # else the frame before was wrong, and this is the first clock
                shift += last - tick + (index - last_index) * step
                jumps.append(ClockJump(index, last, tick, shift))
            lasted = 0
        elif tick <= last or _all_between(known[place + 1 : place + LASTING_FRAMES], last, tick):
            continue  # this one is wrong, not the clock
        last_index, last, lasted = index, tick, lasted + 1
    return jumps


def only_jumps(jumps: Sequence[ClockJump], is_jump: Callable[[ClockJump], bool]) -> list[ClockJump]:
    """Those of `clock_jumps` that are, shifted as if the others were pauses."""
    kept: list[ClockJump] = []
    shift = before = 0
    for jump in jumps:
        own, before = jump.shift - before, jump.shift
        if is_jump(jump):
            shift += own
            kept.append(replace(jump, shift=shift))
    return kept


def without_jumps(ticks: Ticks, jumps: Sequence[ClockJump]) -> list[int | None]:
    """The time stamps on one clock."""
    moved = list(ticks)
    for number, jump in enumerate(jumps, start=1):
        stop = jumps[number].index if number < len(jumps) else len(moved)
        for index in range(jump.index, stop):
            tick = moved[index]
            moved[index] = None if tick is None else tick + jump.shift
    return moved


def repaired(ticks: Ticks, step: int) -> tuple[NDArray[np.int64], list[int]]:
    """Ascending time stamps for all frames, and the indices of those that were wrong.

    The longest ascending series of time stamps is kept as it is. Frames between two of its members
    come `step` after each other, or closer together where there is less room. A frame without a
    time stamp gets one too, and counts as right.
    """
    kept = _with_room(_longest_ascending(ticks), ticks)
    wrong = sorted({n for n, tick in enumerate(ticks) if tick is not None} - set(kept))
    if not kept:
        return np.arange(len(ticks), dtype=np.int64) * step, wrong
    made = np.empty(len(ticks), np.int64)
    first, last = kept[0], kept[-1]
    if last > first:  # several frames may share each time stamp
        step = min(step, (_tick(ticks, last) - _tick(ticks, first)) // (last - first))
    made[: first + 1] = _tick(ticks, first) - np.arange(first, -1, -1, dtype=np.int64) * step
    made[last:] = _tick(ticks, last) + np.arange(len(ticks) - last, dtype=np.int64) * step
    for left, right in pairwise(kept):
        start, gap = _tick(ticks, left), _tick(ticks, right) - _tick(ticks, left)
        steps = np.arange(right - left, dtype=np.int64)
        made[left:right] = start + (
            steps * step if step * (right - left) <= gap else steps * gap // (right - left)
        )
    return made, wrong


def _lasts(following: Sequence[int], *, at_end: bool) -> bool:
    """Whether these first time stamps after a jump are a clock that goes on."""
    enough = len(following) == LASTING_FRAMES or (at_end and len(following) > 1)
    return enough and all(a < b for a, b in pairwise(following))


def _all_between(following: Iterable[tuple[int, int]], low: int, high: int) -> bool:
    ticks = [tick for _, tick in following]
    return bool(ticks) and all(low < tick < high for tick in ticks)


def _longest_ascending(ticks: Ticks) -> list[int]:
    """Indices of the longest strictly ascending series of known time stamps.

    Patience sorting: the last element of the best series of each length, and links to go back. Of
    equal time stamps the earliest is taken.
    """
    tails: list[int] = []  # lowest last tick of a series, by its length less one
    at: list[int] = []  # the index of that tick
    before: dict[int, int | None] = {}
    for index, tick in enumerate(ticks):
        if tick is None:
            continue
        length = bisect_left(tails, tick)
        if length < len(tails) and tails[length] == tick:
            continue  # the earlier of two equal ones is kept
        before[index] = at[length - 1] if length else None
        tails[length : length + 1] = [tick]
        at[length : length + 1] = [index]
    series: list[int] = []
    link = at[-1] if at else None
    while link is not None:
        series.append(link)
        link = before[link]
    return series[::-1]


def _with_room(series: Sequence[int], ticks: Ticks) -> list[int]:
    """The series less the members that leave too few ticks for the frames before them."""
    kept = list(series[:1])
    for index in series[1:]:
        if _tick(ticks, index) - _tick(ticks, kept[-1]) >= index - kept[-1]:
            kept.append(index)
    return kept


def _tick(ticks: Ticks, index: int) -> int:
    tick = ticks[index]
    assert tick is not None
    return tick
