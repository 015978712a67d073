"""Wrong time stamps get right ones and right ones stay; clocks that jump go on."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from engine.media.frame_times import clock_jumps, only_jumps, repaired, without_jumps

STEP = 40
REGULAR = [STEP * n for n in range(40)]


def as_list(ticks: object) -> list[int]:
    return [int(tick) for tick in np.asarray(ticks)]


@pytest.mark.parametrize(
    ("index", "wrong"), [(12, 11 * STEP), (12, 0), (12, 10**9), (12, -5), (0, 10**6), (39, 3)]
)
def test_one_wrong_time_moves_no_other_frame(index: int, wrong: int) -> None:
    ticks = [wrong if n == index else tick for n, tick in enumerate(REGULAR)]
    assert clock_jumps(ticks, STEP) == []
    made, found = repaired(ticks, STEP)
    assert (as_list(made), found) == (REGULAR, [index])


def test_a_frame_without_a_time_gets_one_and_is_not_wrong() -> None:
    ticks = [None if n in (0, 1, 7, 39) else tick for n, tick in enumerate(REGULAR)]
    made, found = repaired(ticks, STEP)
    assert (as_list(made), found) == (REGULAR, [])
    made, found = repaired([None] * 3, STEP)
    assert (as_list(made), found) == ([0, STEP, 2 * STEP], [])


def test_a_wrong_time_before_a_pause_stays_before_it() -> None:
    made, found = repaired([0, 40, 80, 80, 5000, 5040], STEP)
    assert (as_list(made), found) == ([0, 40, 80, 120, 5000, 5040], [3])


def test_frames_that_share_each_time_stamp_keep_their_pace_to_the_end() -> None:
    made, found = repaired([0, 0, 0, 120, 120, 120, 240, 240, 240], 120)
    assert as_list(made) == [40 * n for n in range(9)]
    assert found == [1, 2, 4, 5, 7, 8]


def test_frames_share_the_room_there_is() -> None:
    made, found = repaired([0, 0, 0, 0, 40, 80], STEP)
    assert (as_list(made), found) == ([0, 10, 20, 30, 40, 80], [1, 2, 3])
    made, _ = repaired([0, 0, 0, 0, 2, 3, 4, 5], STEP)  # no room for four frames in two ticks
    assert all(a < b for a, b in pairwise(as_list(made)))


@pytest.mark.parametrize("start", [0, 7, 20 * STEP])
def test_a_clock_that_starts_again_goes_on(start: int) -> None:
    ticks = [*REGULAR, *(start + tick for tick in REGULAR)]
    (jump,) = clock_jumps(ticks, STEP)
    assert (jump.index, jump.before, jump.after) == (40, 39 * STEP, start)
    assert without_jumps(ticks, [jump]) == [STEP * n for n in range(80)]


def test_clocks_that_start_again_twice_go_on() -> None:
    ticks = REGULAR * 3
    assert without_jumps(ticks, clock_jumps(ticks, STEP)) == [STEP * n for n in range(120)]


def test_a_step_ahead_is_a_pause_unless_it_is_too_long() -> None:
    ticks = [*REGULAR, *(100_000 + tick for tick in REGULAR)]
    assert clock_jumps(ticks, STEP) == []
    assert clock_jumps(ticks, STEP, longest_gap=99_000) == []
    (jump,) = clock_jumps(ticks, STEP, longest_gap=10_000)
    assert without_jumps(ticks, [jump]) == [STEP * n for n in range(80)]


def test_a_pause_that_is_no_jump_shifts_nothing_after_it() -> None:
    ticks = [*REGULAR, *(10**6 + tick for tick in REGULAR), *REGULAR]
    jumps = clock_jumps(ticks, STEP, longest_gap=10_000)
    assert [jump.index for jump in jumps] == [40, 80]
    kept = only_jumps(jumps, lambda jump: jump.index == 80)
    end = 10**6 + 40 * STEP
    expected = [*REGULAR, *(10**6 + tick for tick in REGULAR), *(end + tick for tick in REGULAR)]
    assert without_jumps(ticks, kept) == expected
    assert only_jumps(jumps, lambda _: True) == jumps


def test_a_frame_without_a_time_at_the_jump_keeps_its_place() -> None:
    ticks = [*REGULAR, None, *REGULAR[1:]]
    made, _ = repaired(without_jumps(ticks, clock_jumps(ticks, STEP)), STEP)
    assert as_list(made) == [STEP * n for n in range(80)]


@given(st.lists(st.one_of(st.none(), st.integers(-500, 500)), min_size=1, max_size=40))
def test_all_frames_get_ascending_times(ticks: list[int | None]) -> None:
    made, wrong = repaired(without_jumps(ticks, clock_jumps(ticks, 3)), 3)
    assert len(made) == len(ticks) and all(a < b for a, b in pairwise(as_list(made)))
    assert all(ticks[index] is not None for index in wrong)


@given(st.sets(st.integers(-(10**6), 10**6), min_size=1))
def test_ascending_times_stay(ticks: set[int]) -> None:
    ascending = sorted(ticks)
    assert clock_jumps(ascending, 3) == []
    made, wrong = repaired(ascending, 3)
    assert (as_list(made), wrong) == (ascending, [])
