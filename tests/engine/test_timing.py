from __future__ import annotations

import math
from fractions import Fraction
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from engine.timing import (
    SAMPLE_RATE_HZ,
    FrameRange,
    exact_rate,
    exact_seconds,
    first_sample,
    frame_time_s,
    round_half_up,
)

NTSC = Fraction(30000, 1001)

frames = st.integers(0, 10**7)
ranges = st.tuples(frames, frames).map(lambda ends: FrameRange(min(ends), max(ends)))
rates = st.sampled_from([24, 25, 30, 50, 60, 240]).map(Fraction) | st.sampled_from(
    [Fraction(24000, 1001), NTSC, Fraction(60000, 1001), Fraction(25, 2), Fraction(1)]
)


def test_a_range_is_half_open() -> None:
    frames = FrameRange(3, 6)
    assert list(frames) == [3, 4, 5]
    assert len(frames) == 3
    assert str(frames) == "[3, 6)"
    assert list(FrameRange(3, 3)) == []


def test_a_range_does_not_stop_before_it_starts() -> None:
    with pytest.raises(ValueError, match=r"range stops before it starts: \[6, 3\)"):
        FrameRange(6, 3)


@pytest.mark.parametrize(
    ("value", "rounded"),
    [("0.5", 1), ("1.5", 2), ("2.5", 3), ("-0.5", 0), ("-1.5", -1), ("2.4999", 2), ("7", 7)],
)
def test_halves_round_up(value: str, rounded: int) -> None:
    assert round_half_up(Fraction(value)) == rounded


@given(st.fractions())
def test_rounding_moves_by_at_most_a_half(value: Fraction) -> None:
    assert -Fraction(1, 2) < round_half_up(value) - value <= Fraction(1, 2)


@pytest.mark.parametrize(
    ("written", "exact"),
    [
        (0.1, Fraction(1, 10)),
        (0.1 + 0.2, Fraction(3, 10)),
        (5, Fraction(5)),
        (1e-7, Fraction(0)),
        (0.0000005, Fraction(1, 1_000_000)),
        (Fraction(1, 3), Fraction(333333, 1_000_000)),
        (-1.25, Fraction(-5, 4)),
    ],
)
def test_a_written_time_is_exact_to_the_microsecond(written: float, exact: Fraction) -> None:
    assert exact_seconds(written) == exact


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_a_time_is_finite(value: float) -> None:
    with pytest.raises(ValueError, match="is not a finite number"):
        exact_seconds(value)


@given(st.integers(-(10**15), 10**15))
def test_microseconds_survive_the_way_through_a_float(microseconds: int) -> None:
    exact = Fraction(microseconds, 1_000_000)
    assert exact_seconds(float(exact)) == exact


@pytest.mark.parametrize(
    ("written", "exact"),
    [
        (30, Fraction(30)),
        (29.97, NTSC),
        ("29.97", NTSC),
        (" 30000/1001 ", NTSC),
        (NTSC, NTSC),
        (23.976, Fraction(24000, 1001)),
        ("23.98", Fraction(24000, 1001)),
        (59.94, Fraction(60000, 1001)),
        (119.88, Fraction(120000, 1001)),
        (12.5, Fraction(25, 2)),
        (30000 / 1001, NTSC),
        ("29.970", NTSC),
        (30 * 0.999, NTSC),
        (0.1 * 3 * 99.9, NTSC),
        ("29.97002997002997", NTSC),
        (47.95, Fraction(48000, 1001)),
        (59.94006, Fraction(60000, 1001)),
        (239.76, Fraction(240000, 1001)),
        ("2997/100", Fraction(2997, 100)),
        (29.9, Fraction(299, 10)),
        (23.97, Fraction(2397, 100)),
        (23.975, Fraction(959, 40)),
        (29.971, Fraction(29971, 1000)),
        ("30.00", Fraction(30)),
        (24.0, Fraction(24)),
    ],
)
def test_a_written_rate_is_exact(written: float | str | Fraction, exact: Fraction) -> None:
    assert exact_rate(written) == exact


@pytest.mark.parametrize(
    ("written", "complaint"),
    [
        ("film", "'film' is not a frame rate"),
        ("1/0", "'1/0' is not a frame rate"),
        (math.nan, "nan is not a frame rate"),
        (math.inf, "inf is not a frame rate"),
        (0, "must be above 0"),
        (-25, "must be above 0"),
    ],
)
def test_what_is_no_rate_is_refused(written: float | str, complaint: str) -> None:
    with pytest.raises(ValueError, match=complaint):
        exact_rate(written)


@given(rates)
def test_rates_in_use_read_back_as_themselves(fps: Fraction) -> None:
    assert exact_rate(str(fps)) == exact_rate(float(fps)) == exact_rate(fps) == fps


ntsc_rates = st.sampled_from([24, 30, 48, 60, 120, 240]).map(lambda n: Fraction(n * 1000, 1001))


@given(ntsc_rates, st.integers(2, 20))
def test_an_ntsc_rate_is_known_by_its_roundings(rate: Fraction, decimals: int) -> None:
    assert exact_rate(f"{float(rate):.{decimals}f}") == rate


@given(ntsc_rates, st.integers(2, 6), st.sampled_from([-2, -1, 1, 2]))
def test_a_number_near_an_ntsc_rate_is_itself(rate: Fraction, decimals: int, off: int) -> None:
    written = round(rate, decimals) + off * Fraction(1, 10**decimals)
    is_rounding = any(round(rate, fewer) == written for fewer in range(2, decimals))
    assert exact_rate(float(written)) == (rate if is_rounding else written)


@given(st.fractions(1, 240, max_denominator=1000))
def test_a_ratio_is_exactly_what_it_says(rate: Fraction) -> None:
    assert exact_rate(f"{rate.numerator}/{rate.denominator}") == rate


def test_an_hour_of_ntsc_is_3_6_seconds_long_of_an_hour() -> None:
    assert frame_time_s(108_000, NTSC) == Fraction(36036, 10)


@given(frames, rates)
def test_frame_times_are_exact(frame: int, fps: Fraction) -> None:
    assert frame_time_s(frame, fps) * fps == frame


def test_samples_of_ntsc_frames_come_in_the_cadence_of_five() -> None:
    starts = [first_sample(frame, NTSC) for frame in range(6)]
    counts = [after - before for before, after in pairwise(starts)]
    # 8008 samples to five frames of 1601.6
    assert counts == [1602, 1601, 1602, 1601, 1602]
    assert starts[5] == 8008


@given(frames, rates)
def test_a_sample_starts_within_half_a_sample_of_its_frame(frame: int, fps: Fraction) -> None:
    off = first_sample(frame, fps) - frame_time_s(frame, fps) * SAMPLE_RATE_HZ
    assert -Fraction(1, 2) < off <= Fraction(1, 2)


@given(ranges, st.data(), rates)
def test_however_frames_are_shared_out_their_samples_add_up(
    whole: FrameRange, data: st.DataObject, fps: Fraction
) -> None:
    inner = st.integers(whole.start, whole.stop)
    cuts = [whole.start, *sorted(data.draw(st.lists(inner, max_size=5))), whole.stop]
    edges = [first_sample(cut, fps) for cut in cuts]
    parts = [after - before for before, after in pairwise(edges)]
    assert all(part >= 0 for part in parts)
    assert sum(parts) == first_sample(whole.stop, fps) - first_sample(whole.start, fps)
