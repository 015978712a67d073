from __future__ import annotations

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from engine.geometry import STRETCH_TOLERANCE, Box, Fit, Rect, Size, fit_crop, largest_centred

PORTRAIT = Size(1080, 1920)

frames = st.builds(Size, st.integers(16, 7680), st.integers(16, 7680))
targets = st.builds(Size, st.integers(8, 3840), st.integers(8, 3840)).map(
    lambda half: Size(2 * half.width, 2 * half.height)
)
crops = st.builds(
    Rect, st.floats(0, 4000), st.floats(0, 4000), st.floats(8, 4000), st.floats(8, 4000)
)


def test_a_size_reads_as_people_write_it() -> None:
    assert str(Size(1920, 1080)) == "1920x1080"
    assert Size(1920, 1080).aspect == 16 / 9
    assert Rect(0, 0, 9, 16).aspect == 9 / 16


@pytest.mark.parametrize(
    ("frame", "aspect", "rect"),
    [
        (Size(1920, 1080), 9 / 16, Rect(656.25, 0, 607.5, 1080)),
        (Size(1080, 1920), 16 / 9, Rect(0, 656.25, 1080, 607.5)),
        (Size(640, 480), 1, Rect(80, 0, 480, 480)),
        (Size(640, 480), 4 / 3, Rect(0, 0, 640, 480)),
    ],
)
def test_the_largest_centred_rectangle(frame: Size, aspect: float, rect: Rect) -> None:
    assert largest_centred(frame, aspect) == rect


@given(frames, st.floats(0.05, 20))
def test_the_largest_centred_rectangle_touches_two_sides(frame: Size, aspect: float) -> None:
    rect = largest_centred(frame, aspect)
    assert rect.aspect == pytest.approx(aspect)
    assert rect.x + rect.width / 2 == pytest.approx(frame.width / 2)
    assert rect.y + rect.height / 2 == pytest.approx(frame.height / 2)
    shares = rect.width / frame.width, rect.height / frame.height
    assert max(shares) == pytest.approx(1)
    assert max(shares) <= 1 + 1e-12


def test_contain_shows_everything_between_black_bars() -> None:
    landscape = Rect(10, 20, 1600, 900)
    # 1080 wide at 16:9 is 607.5 high, 608 when even; 1312 lines are left, 656 on either side
    assert fit_crop(landscape, PORTRAIT, Fit.CONTAIN) == (landscape, Box(0, 656, 1080, 608))
    tall = Rect(0, 0, 100, 400)
    assert fit_crop(tall, PORTRAIT, Fit.CONTAIN) == (tall, Box(300, 0, 480, 1920))


def test_cover_fills_the_target_with_the_middle() -> None:
    whole = Box(0, 0, 1080, 1920)
    assert fit_crop(Rect(10, 20, 1600, 900), PORTRAIT, Fit.COVER) == (
        Rect(10 + (1600 - 506.25) / 2, 20, 506.25, 900),
        whole,
    )
    assert fit_crop(Rect(0, 0, 90, 360), PORTRAIT, Fit.COVER) == (Rect(0, 100, 90, 160), whole)


def test_stretch_distorts() -> None:
    crop = Rect(10, 20, 1600, 900)
    assert fit_crop(crop, PORTRAIT, Fit.STRETCH) == (crop, Box(0, 0, 1080, 1920))


@pytest.mark.parametrize("fit", Fit)
def test_an_aspect_within_a_hundredth_is_stretched_whatever_the_fit(fit: Fit) -> None:
    near, whole = Rect(200, 100, 600, 1066), Box(0, 0, 1080, 1920)
    assert fit_crop(near, PORTRAIT, fit) == (near, whole)
    assert fit_crop(Rect(0, 0, 906, 1600), PORTRAIT, fit) == (Rect(0, 0, 906, 1600), whole)


def test_an_aspect_further_off_is_not_stretched() -> None:
    _, box = fit_crop(Rect(0, 0, 912, 1600), PORTRAIT, Fit.CONTAIN)
    assert box == Box(0, 12, 1080, 1894)
    shown, _ = fit_crop(Rect(0, 0, 912, 1600), PORTRAIT, Fit.COVER)
    assert shown == Rect(6, 0, 900, 1600)


@given(crops, targets, st.sampled_from(Fit))
def test_a_box_is_even_and_inside_the_target(crop: Rect, target: Size, fit: Fit) -> None:
    _, box = fit_crop(crop, target, fit)
    assert all(side % 2 == 0 for side in (box.x, box.y, box.width, box.height))
    assert box.x >= 0
    assert box.y >= 0
    assert box.width >= 2
    assert box.height >= 2
    assert box.x + box.width <= target.width
    assert box.y + box.height <= target.height


@given(crops, targets)
def test_contain_fills_one_side_and_keeps_the_aspect(crop: Rect, target: Size) -> None:
    shown, box = fit_crop(crop, target, Fit.CONTAIN)
    assert shown == crop
    assume(abs(crop.aspect / target.aspect - 1) > STRETCH_TOLERANCE)
    # the other side is off by at most one line from rounding to even, and at least two
    if crop.aspect > target.aspect:
        assert box.width == target.width
        assert box.height == pytest.approx(max(2, target.width / crop.aspect), abs=1 + 1e-6)
    else:
        assert box.height == target.height
        assert box.width == pytest.approx(max(2, target.height * crop.aspect), abs=1 + 1e-6)


@given(crops, targets, st.sampled_from(Fit))
def test_bars_are_alike_to_a_chroma_sample(crop: Rect, target: Size, fit: Fit) -> None:
    _, box = fit_crop(crop, target, fit)
    assert 0 <= target.width - box.width - 2 * box.x <= 2
    assert 0 <= target.height - box.height - 2 * box.y <= 2


@given(crops, targets)
def test_cover_shows_the_targets_aspect_from_the_middle_of_the_crop(
    crop: Rect, target: Size
) -> None:
    shown, box = fit_crop(crop, target, Fit.COVER)
    assert box == Box(0, 0, target.width, target.height)
    assert shown.aspect == pytest.approx(target.aspect, rel=STRETCH_TOLERANCE + 1e-9)
    assert shown.x + shown.width / 2 == pytest.approx(crop.x + crop.width / 2)
    assert shown.y + shown.height / 2 == pytest.approx(crop.y + crop.height / 2)
    assert shown.width <= crop.width * (1 + 1e-12)
    assert shown.height <= crop.height * (1 + 1e-12)
