"""The plan's rules, one by one: worked by hand, and as properties."""

from __future__ import annotations

from fractions import Fraction as F

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from engine.errors import EditError
from engine.geometry import Rect, Size
from engine.soundtrack import Ramp
from engine.timeline.edit import Clip, CropKeyframe, Edit, SpeedSegment, Transition
from engine.timeline.plan import Plan, build_plan
from engine.timing import FrameRange, first_sample
from tests.sources import a_source


def planned(
    *clips: Clip, transitions: Transition | list[Transition] | None = None, fps: F | float = 30
) -> Plan:
    """A plan over 10 s sources at 30 fps."""
    edit = Edit(clips, transitions=transitions or Transition(), target_fps=fps)
    return build_plan(edit, [a_source(clip.file_name) for clip in clips])


def source_frames(plan: Plan, clip: int) -> list[int]:
    """Frame numbers of a 30 fps source from its timestamps."""
    return [int(pts) // 3000 for pts in plan.clips[clip].pts]


def test_one_whole_clip_shows_every_frame_once() -> None:
    plan = planned(Clip("a.mp4"))
    assert source_frames(plan, 0) == list(range(300))
    assert (plan.frame_count, plan.sample_count, plan.source_frame_count()) == (300, 480_000, 300)


def test_trim_is_in_source_time() -> None:
    plan = planned(Clip("a.mp4", trim_start_s=2, trim_stop_s=3))
    assert source_frames(plan, 0) == list(range(60, 90))


def test_source_time_starts_at_the_first_frame_whatever_the_container_says() -> None:
    edit = Edit([Clip("a.mp4", trim_start_s=1, trim_stop_s=2)])
    plan = build_plan(edit, [a_source(first_pts=750_000)])
    assert (plan.clips[0].pts - 750_000).tolist() == [3000 * k for k in range(30, 60)]


def test_an_end_past_the_file_is_clamped_with_a_warning() -> None:
    plan = planned(Clip("a.mp4", trim_start_s=9, trim_stop_s=99))
    assert plan.frame_count == 30
    assert plan.warnings == (
        "clips[0].trimRange.end: 99 s is past the end of a.mp4; clamped to 10.000 s",
    )


def test_a_speed_for_what_comes_after_the_file_is_told() -> None:
    late = [SpeedSegment(9, 10, 2), SpeedSegment(10, 11, 2), SpeedSegment(12, None, 0.5)]
    plan = planned(Clip("a.mp4", speed_segments=late))
    assert plan.frame_count == 285
    assert plan.warnings == (
        "clips[0].segments: the speed segment at 10 s (and 1 more) starts past the end of a.mp4 "
        "(10.000 s)",
    )
    assert planned(Clip("a.mp4", speed_segments=[SpeedSegment(10, None)])).warnings == ()


def test_a_start_past_the_file_is_an_error_that_names_the_clip() -> None:
    with pytest.raises(EditError, match=r"clips\[1\]\.trimRange\.start: 10 s is past the end of b"):
        planned(Clip("a.mp4"), Clip("b.mp4", trim_start_s=10))


def test_slow_motion_repeats_and_speed_up_skips() -> None:
    plan = planned(
        Clip(
            "a.mp4", trim_stop_s=2, speed_segments=[SpeedSegment(0, 1, 0.25), SpeedSegment(1, 2, 4)]
        )
    )
    slow, fast = source_frames(plan, 0)[:120], source_frames(plan, 0)[120:]
    assert slow == [k // 4 for k in range(120)]
    assert fast == [30 + 4 * k for k in range(8)]  # 7.5 frames, rounded half up
    assert plan.source_frame_count() == 38


@pytest.mark.parametrize(
    ("source_fps", "expected"),
    [
        (F(60), [0, 2, 4, 6, 8, 10]),
        (F(25), [0, 0, 1, 2, 3, 4, 5, 5, 6]),
        (F(24), [0, 0, 1, 2, 3, 4, 4, 5]),
        (F(30000, 1001), [0, 1, 2, 3, 4]),
    ],
)
def test_rate_conversion_shows_the_last_frame_that_started(
    source_fps: F, expected: list[int]
) -> None:
    source = a_source(frames=600, fps=source_fps)
    plan = build_plan(Edit([Clip("a.mp4")]), [source])
    numbers = np.searchsorted(source.frame_pts, plan.clips[0].pts)
    assert numbers[: len(expected)].tolist() == expected


def test_variable_frame_rate_holds_each_frame_until_the_next() -> None:
    source = a_source(times_s=[F(0), F(1, 25), F(3, 25), F(4, 25), F(6, 25)])
    plan = build_plan(Edit([Clip("a.mp4")], target_fps=25), [source])
    numbers = np.searchsorted(source.frame_pts, plan.clips[0].pts)
    assert numbers.tolist() == [0, 1, 1, 2, 3, 3, 4]


def test_dissolve_overlaps_and_is_linear() -> None:
    plan = planned(
        Clip("a.mp4", trim_stop_s=1),
        Clip("b.mp4", trim_stop_s=1),
        transitions=Transition("dissolve", 0.1),
    )
    assert [clip.frames for clip in plan.clips] == [FrameRange(0, 30), FrameRange(27, 57)]
    assert plan.clips[0].weights[-4:].tolist() == pytest.approx([1, 0.75, 0.5, 0.25])
    assert plan.clips[1].weights[:4].tolist() == pytest.approx([0.25, 0.5, 0.75, 1])
    assert [layer.clip.index for layer in plan.layers(FrameRange(27, 30))] == [0, 1]
    assert plan.borders == (0, 27, 30, 57)


def test_fade_goes_through_black_without_overlap() -> None:
    plan = planned(
        Clip("a.mp4", trim_stop_s=1),
        Clip("b.mp4", trim_stop_s=1),
        transitions=Transition("fade", 0.1),
    )
    assert [clip.frames for clip in plan.clips] == [FrameRange(0, 30), FrameRange(30, 60)]
    assert plan.clips[0].weights[-4:].tolist() == pytest.approx([1, 0.75, 0.5, 0.25])
    assert plan.clips[1].weights[:4].tolist() == pytest.approx([0.25, 0.5, 0.75, 1])
    assert plan.borders == (0, 27, 30, 33, 60)


def test_a_transition_that_does_not_fit_is_shortened_with_a_warning() -> None:
    plan = planned(
        Clip("a.mp4", trim_stop_s=1),
        Clip("b.mp4", trim_stop_s=0.2),
        transitions=Transition("dissolve", 2),
    )
    assert plan.transitions[0].frame_count == 6
    assert plan.frame_count == 30
    assert plan.warnings == (
        "transition 1: 60 frames of dissolve do not fit between clips[0] and clips[1]; "
        "shortened to 6",
    )


def test_two_transitions_share_a_short_clip() -> None:
    plan = planned(
        Clip("a.mp4"),
        Clip("b.mp4", trim_stop_s=1),
        Clip("c.mp4"),
        transitions=[Transition("dissolve", 5), Transition("dissolve", 0.2)],
    )
    assert [each.frame_count for each in plan.transitions] == [24, 6]


def test_chapters_start_at_the_first_visible_frame() -> None:
    plan = planned(
        Clip("a/first.mp4", trim_stop_s=1),
        Clip("b.mp4", trim_stop_s=1, title="Goal"),
        transitions=Transition("dissolve", 0.5),
    )
    assert [(c.title, c.start_s, c.stop_s) for c in plan.chapters] == [
        ("first", 0, F(1, 2)),
        ("Goal", F(1, 2), F(3, 2)),
    ]


def test_the_crop_moves_in_source_time() -> None:
    """At half speed the crop takes twice as long, and moves on every output frame."""
    keyframes = [CropKeyframe(0, Rect(0, 0, 540, 960)), CropKeyframe(1, Rect(300, 0, 540, 960))]
    plan = planned(
        Clip("a.mp4", keyframes, trim_stop_s=1, speed_segments=[SpeedSegment(0, 1, 0.5)])
    )
    assert plan.clips[0].rects[:4, 0].tolist() == pytest.approx([0, 5, 10, 15])
    assert plan.clips[0].rects[59, 0] == pytest.approx(295)


def test_a_crop_outside_of_the_frame_is_moved_with_a_warning() -> None:
    frame = a_source("a.mp4").display_size
    inside = CropKeyframe(0, Rect(0, 0, 100, 100))
    outside = CropKeyframe(1, Rect(frame.width - 90, 5, 100, 100))
    assert planned(Clip("a.mp4", [inside, outside])).warnings == (
        f"clips[0].cropKeyframes: the crop at 1 s, 100x100 at {frame.width - 90}, 5, reaches "
        f"outside of the {frame} frame; it is moved into it",
    )
    large = CropKeyframe(0, Rect(-1, -1, frame.width + 2, 100))
    (warning,) = planned(Clip("a.mp4", [large, outside])).warnings
    assert "(and 1 more)" in warning and warning.endswith("it is shrunk into it")
    rounded = CropKeyframe(0, Rect(frame.width - 99.6, -0.4, 100, 100))
    assert planned(Clip("a.mp4", [rounded])).warnings == ()


def test_sound_spans_follow_the_frame_grid_and_overlap_in_a_dissolve() -> None:
    plan = planned(
        Clip("a.mp4", trim_stop_s=1),
        Clip("b.mp4", trim_stop_s=1),
        transitions=Transition("dissolve", 0.5),
    )
    first, second = plan.sound
    assert (first.start_sample, first.sample_count) == (0, 48_000)
    assert (second.start_sample, second.sample_count) == (24_000, 48_000)
    assert (first.fall_samples, first.fall_ramp) == (24_000, Ramp.EQUAL_POWER)
    assert (second.rise_samples, second.fall_samples) == (24_000, 0)


def test_a_cut_ramps_the_sound_for_two_milliseconds_and_the_ends_of_the_export_do_not() -> None:
    first, second = planned(Clip("a.mp4", trim_stop_s=1), Clip("b.mp4", trim_stop_s=1)).sound
    assert (first.rise_samples, first.fall_samples) == (0, 96)
    assert (second.rise_samples, second.fall_samples) == (96, 0)
    assert second.start_sample == first.sample_count == 48_000


def test_without_sound_there_are_no_spans() -> None:
    plan = build_plan(Edit([Clip("a.mp4")], include_audio=False), [a_source()])
    assert (plan.sound, plan.sample_count) == ((), 0)


def test_what_the_document_says_of_a_file_is_compared_with_the_file() -> None:
    plan = planned(Clip("a.mp4", duration_s=3, source_size=Size(640, 360)))
    assert [warning.split(":")[0] for warning in plan.warnings] == [
        "clips[0].sourceWidth",
        "clips[0].duration",
    ]


@st.composite
def edits(draw: st.DrawFn) -> Edit:
    clips = []
    for _ in range(draw(st.integers(1, 5))):
        start = draw(st.integers(0, 9_000))
        stop = draw(st.integers(start + 1, 10_000))
        speed = draw(st.sampled_from([0.05, 0.25, 0.5, 1, 1.3, 2, 20]))
        segment = SpeedSegment(F(start, 1000), F(stop, 1000), speed)
        clips.append(
            Clip("a.mp4", (), F(start, 1000), F(stop, 1000), [segment] if speed != 1 else [])
        )
    transition = st.builds(
        Transition,
        st.sampled_from(["cut", "dissolve", "fade"]),
        st.integers(0, 3000).map(lambda ms: F(ms, 1000)),
    )
    joins = len(clips) - 1
    return Edit(
        clips,
        draw(st.lists(transition, min_size=joins, max_size=joins)),
        draw(st.sampled_from([24, 25, 29.97, 30, 59.94, 60])),
    )


@given(edits())
def test_every_frame_has_one_or_two_layers_and_whole_weight(edit: Edit) -> None:
    plan = build_plan(edit, [a_source()] * len(edit.clips))
    total, layers = np.zeros(plan.frame_count), np.zeros(plan.frame_count, int)
    for clip in plan.clips:
        rows = slice(clip.frames.start, clip.frames.stop)
        total[rows] += clip.weights
        layers[rows] += 1
    assert set(layers.tolist()) <= {1, 2}
    assert (total <= 1 + 1e-12).all() and (total > 0).all()
    np.testing.assert_allclose(total[layers == 2], 1)
    assert plan.borders[0] == 0 and plan.borders[-1] == plan.frame_count
    assert list(plan.borders) == sorted(set(plan.borders))


@given(edits())
def test_sound_covers_exactly_the_frames_share_of_samples(edit: Edit) -> None:
    plan = build_plan(edit, [a_source()] * len(edit.clips))
    for clip, span in zip(plan.clips, plan.sound, strict=True):
        assert span.start_sample == first_sample(clip.frames.start, plan.fps)
        stop = span.start_sample + span.sample_count
        assert stop == first_sample(clip.frames.stop, plan.fps)
        assert all(piece.sample_count >= 0 for piece in span.pieces)
        assert span.rise_samples + span.fall_samples <= span.sample_count
    assert plan.sample_count == first_sample(plan.frame_count, plan.fps)


@given(edits())
def test_shown_frames_are_frames_of_the_source(edit: Edit) -> None:
    source = a_source()
    plan = build_plan(edit, [source] * len(edit.clips))
    for clip in plan.clips:
        assert np.isin(clip.pts, source.frame_pts).all()
        assert (np.diff(clip.pts) >= 0).all()
