"""Which source time each output frame shows: worked by hand, and against exact arithmetic."""

from __future__ import annotations

from fractions import Fraction as F
from itertools import pairwise
from math import floor

import pytest
from hypothesis import given
from hypothesis import strategies as st

from engine.timeline.retime import Retiming, retiming

speeds = st.fractions(F(1, 20), 20, max_denominator=1000)
rates = st.sampled_from([F(24), F(25), F(30), F(30000, 1001), F(60), F(60000, 1001), F(10)])
time_bases = st.sampled_from([F(1, 90000), F(1, 15360), F(1, 1000), F(1001, 30000), F(1, 600)])
microseconds = st.integers(0, 60_000_000).map(lambda us: F(us, 1_000_000))


@st.composite
def retimings(draw: st.DrawFn) -> Retiming:
    cuts = sorted(draw(st.sets(microseconds, min_size=2, max_size=8)))
    segments = [(a, b, draw(speeds)) for a, b in pairwise(cuts) if draw(st.booleans())]
    return retiming(cuts[0], cuts[-1], segments)


def source_time_s(retimed: Retiming, k: int, fps: F) -> F:
    """The source time of output frame k, piece by piece, with no array in sight."""
    at_s = k / fps
    piece = max((p for p in retimed.pieces if p.at_s <= at_s), key=lambda p: p.at_s)
    return piece.start_s + (at_s - piece.at_s) * piece.speed


def spans(retimed: Retiming) -> list[tuple[float, float, float]]:
    """(start_s, stop_s, speed) of each piece; the numbers of these tests are exact as floats."""
    return [(float(p.start_s), float(p.stop_s), float(p.speed)) for p in retimed.pieces]


def test_uncovered_parts_play_at_speed_one() -> None:
    retimed = retiming(F(1), F(10), [(F(2), F(4), F(2)), (F(6), F(8), F(1, 2))])
    assert spans(retimed) == [
        (1, 2, 1),
        (2, 4, 2),
        (4, 6, 1),
        (6, 8, 0.5),
        (8, 10, 1),
    ]
    assert [p.at_s for p in retimed.pieces] == [0, 1, 2, 4, 8]
    assert retimed.duration_s == 10


def test_segments_are_cut_to_the_trim_range() -> None:
    retimed = retiming(
        F(2), F(5), [(F(0), F(3), F(3)), (F(4), F(9), F(1, 4)), (F(20), F(30), F(2))]
    )
    assert spans(retimed) == [
        (2, 3, 3),
        (3, 4, 1),
        (4, 5, 0.25),
    ]


@pytest.mark.parametrize(
    ("duration_s", "frames"),
    [(F(1), 30), (F(1, 60), 1), (F(1, 61), 1), (F(1, 1000), 1), (F(3, 60), 2), (F(299, 6000), 1)],
)
def test_frame_count_is_rounded_half_up_and_at_least_one(duration_s: F, frames: int) -> None:
    assert retiming(F(0), duration_s, []).frame_count(F(30)) == frames


def test_source_ticks_at_quarter_speed() -> None:
    """30 fps in 1/30 s ticks at 0.25x: each tick four times, and 1 ms of tolerance is no tick."""
    ticks = retiming(F(0), F(1, 10), [(F(0), F(1, 10), F(1, 4))]).source_ticks(F(30), F(1, 30))
    assert ticks.tolist() == [0, 0, 0, 0, 1, 1, 1, 1, 2, 2, 2, 2]


def test_source_ticks_at_four_times_speed_from_a_trim() -> None:
    ticks = retiming(F(1), F(2), [(F(1), F(2), F(4))]).source_ticks(F(30), F(1, 30))
    assert ticks.tolist() == [30, 34, 38, 42, 46, 50, 54, 58]


def test_a_frame_counts_from_one_millisecond_before_its_time() -> None:
    """Matroska rounds 1/30 s to 33 ms, 2/30 to 67 ms: at 30 fps every frame is still its own."""
    ticks = retiming(F(0), F(1), []).source_ticks(F(30), F(1, 1000))
    assert ticks[:4].tolist() == [1, 34, 67, 101]


@given(retimings(), rates, time_bases)
def test_source_ticks_are_exact(retimed: Retiming, fps: F, time_base: F) -> None:
    ticks = retimed.source_ticks(fps, time_base)
    count = retimed.frame_count(fps)
    assert len(ticks) == count
    for k in {0, count // 3, count // 2, count - 1}:
        exact = floor((source_time_s(retimed, k, fps) + F(1, 1000)) / time_base)
        assert ticks[k] == exact


@given(retimings(), rates)
def test_times_stay_in_the_trim_range_and_never_fall(retimed: Retiming, fps: F) -> None:
    times = retimed.source_times_s(fps)
    assert len(times) == retimed.frame_count(fps)
    assert (times[1:] >= times[:-1] - 1e-9).all()
    assert times[0] == float(retimed.pieces[0].start_s)
    assert times[-1] <= float(retimed.pieces[-1].stop_s) + 1e-9


@given(retimings(), rates)
def test_frames_of_pieces_are_all_frames_in_order(retimed: Retiming, fps: F) -> None:
    ranges = retimed.frames_of_pieces(fps)
    assert [k for each in ranges for k in each] == list(range(retimed.frame_count(fps)))


def test_long_denominators_do_not_overflow() -> None:
    """A speed and a rate whose common denominator leaves 64 bits behind."""
    speed, fps, time_base = F(9973, 9967), F(60000, 1001), F(1, 14_112_000)
    retimed = retiming(F(1, 1_000_000), F(7200), [(F(3), F(7199), speed)])
    ticks = retimed.source_ticks(fps, time_base)
    k = len(ticks) - 100
    assert ticks[k] == floor((source_time_s(retimed, k, fps) + F(1, 1000)) / time_base)


def test_a_denominator_past_64_bits_does_not_overflow() -> None:
    """Four odd speeds and an odd rate; what is multiplied per frame still fits into 64 bits."""
    speeds = [F(25801, 2349), F(64, 5), F(166107, 8683), F(128785, 9361)]
    starts_s = [F(253967, 500000), F(726239, 500000), F(2537511, 1000000), F(181833, 50000)]
    stops_s = [F(207797, 200000), F(1046407, 500000), F(1554093, 500000), F(1087813, 250000)]
    retimed = retiming(
        F(0), stops_s[-1] + F(1, 200_000), zip(starts_s, stops_s, speeds, strict=True)
    )
    fps, time_base = F(2484709, 962988), F(1, 15_360)
    ticks = retimed.source_ticks(fps, time_base)
    assert ticks.tolist() == [
        floor((source_time_s(retimed, k, fps) + F(1, 1000)) / time_base) for k in range(len(ticks))
    ]
