from __future__ import annotations

from collections.abc import Sequence
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from engine.geometry import Rect, Size, largest_centred
from engine.timeline.edit import CropKeyframe, Ease
from engine.timeline.keyframes import crop_rects

FRAME = Size(1920, 1080)


def at(keyframes: list[CropKeyframe], *times_s: float, frame: Size = FRAME) -> NDArray[np.float64]:
    return crop_rects(keyframes, np.array(times_s, np.float64), frame, 9 / 16)


def left_edges(keys: Sequence[tuple[float, float, str]], *times_s: float) -> list[float]:
    """The x of a 100x100 rectangle with keyframes (time, x, ease)."""
    keyframes = [CropKeyframe(time, Rect(x, 50, 100, 100), ease) for time, x, ease in keys]
    rects = at(keyframes, *times_s)
    assert np.array_equal(rects[:, 1:], np.full((len(times_s), 3), [50, 100, 100]))
    return [float(x) for x in rects[:, 0]]


def test_without_keyframes_the_largest_centred_rectangle_is_shown() -> None:
    assert at([], -1, 0, 7).tolist() == [[656.25, 0, 607.5, 1080]] * 3


def test_one_keyframe_holds_for_ever() -> None:
    keyframes = [CropKeyframe(2, Rect(1.25, 2.5, 90, 160), "smooth")]
    assert at(keyframes, 0, 2, 9).tolist() == [[1.25, 2.5, 90, 160]] * 3


def test_no_times_are_no_rectangles() -> None:
    assert at([]).shape == (0, 4)


def test_all_four_sides_move_in_a_straight_line_unrounded() -> None:
    keyframes = [
        CropKeyframe(1, Rect(200, 100, 600, 900)),
        CropKeyframe(5, Rect(250, 120, 300, 450)),
    ]
    assert at(keyframes, 2, 3.5).tolist() == [
        [212.5, 105, 525, 787.5],
        [231.25, 112.5, 412.5, 618.75],
    ]


def test_before_the_first_and_after_the_last_keyframe_the_rectangle_holds() -> None:
    keys = [(1, 10, "linear"), (2, 20, "linear")]
    assert left_edges(keys, -5, 0.999, 1, 1.5, 2, 2.001, 99) == [10, 10, 10, 15, 20, 20, 20]


def test_a_cut_holds_and_then_jumps_at_the_next_keyframe() -> None:
    keys = [(0, 10, "cut"), (2, 20, "linear"), (4, 40, "cut")]
    just_before = float(np.nextafter(2, 0))
    assert left_edges(keys, 0, 1, just_before, 2, 3, 4, 5) == [10, 10, 10, 20, 30, 40, 40]


def test_times_need_no_order() -> None:
    keys = [(time, 10 * time, "linear") for time in range(8)]
    assert left_edges(keys, 6.5, 0.5, 7, 3, -1, 2.5, 6.5) == [65, 5, 70, 30, 0, 25, 65]


def test_a_lone_smooth_pair_eases_in_and_out() -> None:
    keys = [(0, 0, "smooth"), (4, 64, "linear")]
    # 3 s^2 - 2 s^3 at s = 1/4, 1/2 and 3/4 is 10/64, 32/64 and 54/64
    assert left_edges(keys, 0, 1, 2, 3, 4) == [0, 10, 32, 54, 64]


def test_a_smooth_keyframe_is_passed_at_the_harmonic_mean_of_the_speeds_around_it() -> None:
    keys = [(0, 0, "smooth"), (1, 2, "smooth"), (3, 3, "smooth")]
    # Speeds 2 over 1 s and 1/2 over 2 s: weights 2*2+1 = 5 and 2+2*1 = 4, so that the slope in
    # between is 9 / (5/2 + 4/(1/2)) = 6/7, and 0 at both ends.
    # Half-way through the first:  1 - 1/8 * 6/7     = 25/28
    # Half-way through the second: 5/2 + 2 * 1/8 * 6/7 = 19/7
    assert left_edges(keys, 0.5, 2) == pytest.approx([25 / 28, 19 / 7], rel=1e-14)


def test_a_smooth_stretch_leaves_a_straight_one_without_a_kink() -> None:
    keys = [(0, 0, "linear"), (1, 2, "smooth"), (3, 3, "linear")]
    assert left_edges(keys, 0.5, 2) == pytest.approx([1, 19 / 7], rel=1e-14)


def test_a_smooth_movement_rests_at_a_cut() -> None:
    keys = [(0, 7, "cut"), (1, 0, "smooth"), (5, 64, "cut"), (6, 500, "smooth"), (7, 600, "cut")]
    assert left_edges(keys, 2, 3, 4, 5.5, 6.25) == [10, 32, 54, 64, 515.625]


def test_a_smooth_movement_rests_where_it_turns_back() -> None:
    keys = [(0, 0, "smooth"), (4, 64, "smooth"), (8, 0, "smooth")]
    assert left_edges(keys, 1, 2, 3, 4, 5, 6, 7) == [10, 32, 54, 64, 54, 32, 10]


def test_a_rectangle_that_leaves_the_frame_is_shifted_inside() -> None:
    keyframes = [
        CropKeyframe(0, Rect(-30, -20, 600, 900), "cut"),
        CropKeyframe(1, Rect(1500, 300, 600, 900), "cut"),
        CropKeyframe(2, Rect(1320, 180, 600, 900), "cut"),
    ]
    assert at(keyframes, 0, 1, 2).tolist() == [
        [0, 0, 600, 900],
        [1320, 180, 600, 900],
        [1320, 180, 600, 900],
    ]


def test_a_rectangle_larger_than_the_frame_shrinks_about_its_centre() -> None:
    # 1200x2160 about (900, 1000) becomes 600x1080; so does it about (100, 0), and is then shifted
    keyframes = [
        CropKeyframe(0, Rect(300, -80, 1200, 2160), "cut"),
        CropKeyframe(1, Rect(-500, -1080, 1200, 2160), "cut"),
        CropKeyframe(2, Rect(0, 0, 3840, 540), "cut"),
    ]
    assert at(keyframes, 0, 1, 2).tolist() == [
        [600, 0, 600, 1080],
        [0, 0, 600, 1080],
        [0, 135, 1920, 270],
    ]


def test_exact_times_of_keyframes_are_met() -> None:
    third = Fraction(333333, 1_000_000)
    keyframes = [CropKeyframe(0, Rect(0, 0, 9, 16)), CropKeyframe(third, Rect(3, 1, 9, 16))]
    assert at(keyframes, float(third)).tolist() == [[3, 1, 9, 16]]


# Properties

frames = st.builds(Size, st.integers(16, 4096), st.integers(16, 4096))
anywhere = st.builds(
    Rect, st.floats(-5000, 5000), st.floats(-5000, 5000), st.floats(1, 9000), st.floats(1, 9000)
)
times = st.integers(0, 5_000_000).map(lambda us: Fraction(us, 1_000_000))


@st.composite
def inside(draw: st.DrawFn, frame: Size) -> Rect:
    share = st.floats(0, 1)
    width, height = frame.width * draw(st.floats(0.01, 1)), frame.height * draw(st.floats(0.01, 1))
    return Rect(
        draw(share) * (frame.width - width), draw(share) * (frame.height - height), width, height
    )


@st.composite
def moving(
    draw: st.DrawFn, rects: st.SearchStrategy[Rect], eases: list[Ease] | None = None
) -> list[CropKeyframe]:
    return [
        CropKeyframe(time_s, draw(rects), draw(st.sampled_from(eases or list(Ease))))
        for time_s in sorted(draw(st.sets(times, min_size=1, max_size=6)))
    ]


sampled = st.lists(st.floats(-1, 6), min_size=1, max_size=20)


@given(moving(anywhere), sampled, frames)
def test_the_rectangle_is_always_inside_the_frame(
    keyframes: list[CropKeyframe], times_s: list[float], frame: Size
) -> None:
    x, y, width, height = at(keyframes, *times_s, frame=frame).T
    assert (x >= 0).all()
    assert (y >= 0).all()
    assert (width > 0).all()
    assert (height > 0).all()
    assert (x + width <= frame.width).all()
    assert (y + height <= frame.height).all()


@given(st.data(), st.floats(0.2, 5), sampled, frames)
def test_keyframes_of_one_aspect_keep_it(
    data: st.DataObject, aspect: float, times_s: list[float], frame: Size
) -> None:
    alike = anywhere.map(lambda rect: Rect(rect.x, rect.y, rect.height * aspect, rect.height))
    rects = at(data.draw(moving(alike)), *times_s, frame=frame)
    np.testing.assert_allclose(rects[:, 2] / rects[:, 3], aspect, rtol=1e-9)


@given(st.data(), frames)
def test_every_keyframe_inside_the_frame_is_met_exactly(data: st.DataObject, frame: Size) -> None:
    keyframes = data.draw(moving(inside(frame)))
    rects = at(keyframes, *(float(each.time_s) for each in keyframes), frame=frame)
    written = [each.rect for each in keyframes]
    assert rects.tolist() == [[rect.x, rect.y, rect.width, rect.height] for rect in written]


@given(st.data(), st.lists(st.floats(0, 1), min_size=1, max_size=20), frames)
def test_a_movement_never_passes_its_two_keyframes(
    data: st.DataObject, shares: list[float], frame: Size
) -> None:
    keyframes = data.draw(moving(inside(frame), [Ease.LINEAR, Ease.SMOOTH, Ease.CUT]))
    ends = at(keyframes, *(float(each.time_s) for each in keyframes), frame=frame)
    for index in range(len(keyframes) - 1):
        start_s, stop_s = float(keyframes[index].time_s), float(keyframes[index + 1].time_s)
        times_s = [min(start_s + share * (stop_s - start_s), stop_s) for share in shares]
        rects = at(keyframes, *times_s, frame=frame)
        assert (rects >= np.minimum(ends[index], ends[index + 1]) - 1e-9).all()
        assert (rects <= np.maximum(ends[index], ends[index + 1]) + 1e-9).all()


@given(st.data(), frames)
def test_a_smooth_movement_never_turns_back_on_its_way(data: st.DataObject, frame: Size) -> None:
    start, stop = data.draw(inside(frame)), data.draw(inside(frame))
    between = data.draw(st.lists(st.floats(0, 1), max_size=4).map(sorted))
    stations = [
        Rect(start.x + share * (stop.x - start.x), start.y, start.width, start.height)
        for share in [0, *between, 1]
    ]
    keyframes = [CropKeyframe(time, rect, "smooth") for time, rect in enumerate(stations)]
    x = at(keyframes, *np.linspace(0, len(stations) - 1, 200), frame=frame)[:, 0]
    steps = np.diff(x) if x[-1] >= x[0] else -np.diff(x)
    assert (steps >= -1e-9).all()


@given(moving(anywhere), sampled, frames)
def test_a_rectangle_depends_on_its_own_time_alone(
    keyframes: list[CropKeyframe], times_s: list[float], frame: Size
) -> None:
    together = at(keyframes, *times_s, frame=frame)
    alone = np.concatenate([at(keyframes, time_s, frame=frame) for time_s in times_s])
    assert np.array_equal(together, alone)


@given(frames, st.floats(0.1, 10))
def test_the_default_rectangle_is_that_of_geometry(frame: Size, aspect: float) -> None:
    expected = largest_centred(frame, aspect)
    (rect,) = crop_rects([], np.zeros(1), frame, aspect)
    sides = (expected.x, expected.y, expected.width, expected.height)
    assert tuple(rect) == pytest.approx(sides, rel=1e-12, abs=1e-9)
    assert rect[0] >= 0
    assert rect[1] >= 0


# Splines


def catmull_rom(keys: list[tuple[float, list[float]]], time_s: float) -> list[float]:
    """The textbook's formula: (1, u, u^2, u^3) times the basis matrix, times four points."""
    times_s = [time for time, _ in keys]
    if time_s <= times_s[0]:
        return keys[0][1]
    if time_s >= times_s[-1]:
        return keys[-1][1]
    place = int(np.searchsorted(times_s, time_s, side="right")) - 1
    basis = np.array([[0, 2, 0, 0], [-1, 0, 1, 0], [2, -5, 4, -1], [-1, 3, -3, 1]]) / 2
    doubled = [keys[0][1], *(value for _, value in keys), keys[-1][1]]
    u = (time_s - times_s[place]) / (times_s[place + 1] - times_s[place])
    points = np.array(doubled[place : place + 4])
    found: list[float] = (np.power(u, range(4)) @ basis @ points).tolist()
    return found


spline_keys = st.dictionaries(
    st.integers(0, 60_000).map(lambda ms: Fraction(ms, 1000)),
    st.tuples(*[st.floats(1000, 4000)] * 2, *[st.floats(1000, 1800)] * 2),
    min_size=1,
    max_size=8,
)


@given(spline_keys, st.lists(st.floats(-1, 61), min_size=1, max_size=20))
def test_a_spline_follows_the_formula(
    drawn: dict[Fraction, tuple[float, ...]], times_s: list[float]
) -> None:
    keyframes = [
        CropKeyframe(time_s, Rect(*sides), Ease.SPLINE) for time_s, sides in sorted(drawn.items())
    ]
    exact = [(float(time_s), list(sides)) for time_s, sides in sorted(drawn.items())]
    shown = at(keyframes, *times_s, frame=Size(9000, 9000))
    expected = [catmull_rom(exact, time_s) for time_s in times_s]
    np.testing.assert_allclose(shown, expected, rtol=0, atol=1e-6)


def test_a_keyframe_without_an_ease_has_that_of_the_edit() -> None:
    places = [(0, 0), (1, 300), (2, 300), (3, 0)]
    bare = [CropKeyframe(time, Rect(x, 0, 9, 16)) for time, x in places]
    spline = [CropKeyframe(time, Rect(x, 0, 9, 16), "spline") for time, x in places]
    times_s = np.linspace(-1, 4, 50)
    of_edit = crop_rects(bare, times_s, Size(1920, 1080), 9 / 16, Ease.SPLINE)
    assert of_edit.tolist() == at(spline, *times_s).tolist()
    assert at(bare, 1.5)[0, 0] == 300


def test_a_curve_that_would_turn_the_crop_inside_out_is_held_and_told() -> None:
    # widths 1000, 100, 100, 1000: midway (-1000 + 9*100 + 9*100 - 1000) / 16 = -12.5
    keyframes = [
        CropKeyframe(time, Rect(0, 0, width, 500), "spline")
        for time, width in ((0, 1000), (1, 100), (2, 100), (3, 1000))
    ]
    told: list[str] = []
    times_s = np.array([0.5, 1.5, 2.5])
    shown = crop_rects(keyframes, times_s, Size(1920, 1080), 9 / 16, on_warning=told.append)
    assert shown[1, 2] == 12.5
    assert shown[0, 2] == pytest.approx((-1000 + 9000 + 900 - 100) / 16)
    assert told == ["at 1.500 s the curve would make the crop too small; it is kept larger"]
