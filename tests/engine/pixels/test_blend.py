"""Blending, against exact fractions."""

from __future__ import annotations

from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from engine.geometry import Size
from engine.pixels.blend import WEIGHT_STEPS, blend, fixed_point_weights
from engine.pixels.picture import BLACK, Picture

SIZE = Size(34, 18)


def noise(seed: int) -> Picture:
    picture = Picture(SIZE)
    rng = np.random.default_rng(seed)
    picture.buffer[:] = rng.integers(0, 256, picture.buffer.shape, np.uint8)
    return picture


def flat(codes: tuple[int, int, int]) -> Picture:
    picture = Picture(SIZE)
    for plane, code in zip(picture.planes, codes, strict=True):
        plane.fill(code)
    return picture


def test_half_and_half() -> None:
    out = Picture(SIZE)
    blend([(flat((100, 60, 200)), 0.5), (flat((51, 61, 201)), 0.5)], out)
    assert [int(plane[3, 3]) for plane in out.planes] == [76, 61, 201]  # 75.5, 60.5, 200.5: up


def test_a_fade_goes_to_black() -> None:
    out = Picture(SIZE)
    blend([(flat((216, 228, 28)), 0.25)], out)
    assert [int(plane[3, 3]) for plane in out.planes] == [66, 153, 103]
    blend([(noise(1), 0.0)], out)
    for plane, code in zip(out.planes, BLACK, strict=True):
        assert (plane == code).all()


def test_full_weight_changes_nothing() -> None:
    out = Picture(SIZE)
    blend([(noise(1), 1.0)], out)
    assert (out.buffer == noise(1).buffer).all()
    blend([(noise(1), 0.0), (noise(2), 1.0)], out)
    assert (out.buffer == noise(2).buffer).all()


def test_the_result_may_replace_a_layer() -> None:
    out, second = Picture(SIZE), noise(2)
    blend([(noise(1), 0.3), (second, 0.7)], out)
    blend([(noise(1), 0.3), (second, 0.7)], second)
    assert (second.buffer == out.buffer).all()


@settings(max_examples=50, deadline=None)
@given(first=st.floats(0, 1), second=st.floats(0, 1))
def test_the_sum_is_rounded_once(first: float, second: float) -> None:
    if first + second > 1:
        first, second = 1 - first, first
    one, other = fixed_point_weights([first, second])
    assert abs(one - first * WEIGHT_STEPS) <= 0.5
    assert abs(other - second * WEIGHT_STEPS) <= 1
    out, a, b = Picture(SIZE), noise(1), noise(2)
    blend([(a, first), (b, second)], out)
    rest = WEIGHT_STEPS - one - other
    for got, black, of_a, of_b in zip(out.planes, BLACK, a.planes, b.planes, strict=True):
        exact = Fraction(one * int(of_a[1, 2]) + other * int(of_b[1, 2]) + rest * black, 65536)
        assert int(got[1, 2]) == (exact + Fraction(1, 2)).__floor__()


@given(frames=st.integers(1, 500), position=st.integers(0, 499))
def test_the_weights_of_a_crossfade_sum_to_one(frames: int, position: int) -> None:
    weight = (position % frames + 1) / (frames + 1)
    assert sum(fixed_point_weights([1 - weight, weight])) == WEIGHT_STEPS


def test_wrong_uses_are_named() -> None:
    out = Picture(SIZE)
    with pytest.raises(ValueError, match="one or two layers, not 0"):
        blend([], out)
    with pytest.raises(ValueError, match="one or two layers, not 3"):
        blend([(noise(1), 0.3)] * 3, out)
    with pytest.raises(ValueError, match="a layer is 2x2, the picture 34x18"):
        blend([(Picture(Size(2, 2)), 1.0)], out)
    for weights in ([1.1], [0.6, 0.6], [-0.1, 0.5], [0.5, -0.1]):
        with pytest.raises(ValueError, match="sum to at most 1"):
            blend([(noise(1), weight) for weight in weights], out)
