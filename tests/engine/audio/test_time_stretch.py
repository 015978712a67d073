from __future__ import annotations

from collections.abc import Callable
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from engine.audio.time_stretch import HOP, stretch_blocks
from tests.sounds import RATE_HZ, FloatArray, burst_starts, bursts

SPEEDS = ["0.05", "0.25", "0.5", "0.8", "1.25", "2", "4", "20"]


def reading(channels: FloatArray) -> Callable[[int, int], NDArray[np.float32]]:
    stereo = np.broadcast_to(channels, (2, channels.shape[-1])).astype(np.float32)

    def read(start: int, stop: int) -> NDArray[np.float32]:
        out = np.zeros((2, stop - start), np.float32)
        first, last = max(start, 0), min(stop, stereo.shape[1])
        if first < last:
            out[:, first - start : last - start] = stereo[:, first:last]
        return out

    return read


def play(channels: FloatArray, speed: str) -> NDArray[np.float32]:
    """The whole of `channels` at `speed`."""
    factor = Fraction(speed)
    count = int(channels.shape[-1] / factor)
    return np.concatenate(
        [*stretch_blocks(reading(channels), Fraction(0), factor, 0, count)], axis=1
    )


@settings(max_examples=30, deadline=None)
@given(
    speed=st.fractions(Fraction(1, 20), Fraction(20), max_denominator=1000),
    start=st.integers(-300, 5000),
    count=st.integers(1, 20_000),
)
def test_as_many_samples_as_asked_for(speed: Fraction, start: int, count: int) -> None:
    noise = np.random.default_rng(1).standard_normal(20_000)
    blocks = [*stretch_blocks(reading(noise), Fraction(1, 3), speed, start, start + count)]
    assert sum(block.shape[1] for block in blocks) == count
    assert all(np.isfinite(block).all() and block.dtype == np.float32 for block in blocks)


@pytest.mark.parametrize("tone_hz", [220, 440, 3000])
@pytest.mark.parametrize("speed", ["0.25", "0.5", "1.25", "2", "4"])
def test_pitch_is_kept(tone_hz: int, speed: str) -> None:
    tone = 0.5 * np.sin(2 * np.pi * tone_hz * np.arange(4 * RATE_HZ) / RATE_HZ)
    played = play(tone, speed)[0, HOP:-HOP]
    spectrum = np.abs(np.fft.rfft(played * np.hanning(len(played)), 1 << 20))
    assert np.argmax(spectrum) * RATE_HZ / (1 << 20) == pytest.approx(tone_hz, rel=0.01)
    assert np.std(played) == pytest.approx(0.5 / np.sqrt(2), rel=0.02)


@pytest.mark.parametrize("length_s", [0.002, 0.01, 0.05])
@pytest.mark.parametrize("speed", ["0.25", "0.5", "0.8", "1.25", "2", "4"])
def test_a_burst_sounds_once_whole_and_when_it_should(speed: str, length_s: float) -> None:
    times_s = [0.3 + 0.5137 * k for k in range(8)]
    noise = 0.005 * np.random.default_rng(2).standard_normal(5 * RATE_HZ)
    played = play(bursts(times_s, 5, length_s=length_s) + noise, speed)[0]
    ideal = [time_s / float(speed) * RATE_HZ for time_s in times_s]
    starts = burst_starts(played, apart_s=0.08)
    assert len(starts) == len(ideal)
    assert np.max(np.abs(np.subtract(starts, ideal))) < 0.001 * RATE_HZ
    for start in starts:
        assert np.max(np.abs(played[start : start + 96])) > 0.75


@pytest.mark.parametrize("speed", ["0.25", "0.5", "1.25", "2", "4"])
def test_what_swells_without_an_attack_is_where_it_should_be(speed: str) -> None:
    rng = np.random.default_rng(3)
    times_s = [1.0, 2.1, 3.3]
    at_s = np.arange(4 * RATE_HZ) / RATE_HZ
    swell = sum(np.exp(-0.5 * ((at_s - time_s) / 0.08) ** 2) for time_s in times_s)
    power = play(0.2 * swell * rng.standard_normal(len(at_s)), speed)[0].astype(float) ** 2
    for time_s in times_s:
        around = slice(*(int((time_s + d) / float(speed) * RATE_HZ) for d in (-0.4, 0.4)))
        middle = np.average(np.arange(len(power))[around], weights=power[around])
        assert abs(middle / RATE_HZ - time_s / float(speed)) < 0.02


def test_both_sides_are_cut_alike() -> None:
    rng = np.random.default_rng(4)
    left = np.cumsum(rng.standard_normal(RATE_HZ)) * 0.01
    played = play(np.stack([left, 0.5 * left]), "0.7")
    np.testing.assert_allclose(played[1], 0.5 * played[0], atol=1e-6)


@pytest.mark.parametrize("speed", SPEEDS)
def test_silence_stays_silent(speed: str) -> None:
    assert not play(np.zeros(RATE_HZ), speed).any()


@pytest.mark.parametrize("speed", SPEEDS)
def test_reads_forward_in_bounded_steps(speed: str) -> None:
    factor = Fraction(speed)
    asked: list[tuple[int, int]] = []

    def read(start: int, stop: int) -> NDArray[np.float32]:
        asked.append((start, stop))
        return np.zeros((2, stop - start), np.float32)

    for _ in stretch_blocks(read, Fraction(0), factor, 0, 10 * RATE_HZ):
        pass
    starts, stops = np.array(asked).T
    assert np.all(np.diff(starts) > 0)
    assert np.max(stops - starts) <= (16 * HOP + RATE_HZ // 4) * max(1, float(factor))
    assert stops[-1] <= 10 * RATE_HZ * factor + RATE_HZ
