from __future__ import annotations

import json
import re
import subprocess
import sys
from collections.abc import Callable, Mapping
from copy import deepcopy
from dataclasses import FrozenInstanceError
from fractions import Fraction
from pathlib import Path
from typing import Any, Literal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from engine.errors import EditError
from engine.geometry import Fit, Rect, Size
from engine.timeline.document import MAX_WARNINGS
from engine.timeline.edit import (
    Clip,
    CropKeyframe,
    Ease,
    Edit,
    SpeedSegment,
    Transition,
    TransitionType,
)

EDITS = Path(__file__).parents[2] / "edits"

COMPLAINTS = {
    "audio_is_text": 'includeAudio: must be true or false, not "true"',
    "both_spellings": "clips[0].segmentsData: must not stand beside segments or trimRange",
    "boundaries_do_not_ascend": (
        "clips[0].segments.boundaries[2]: must be after the one before it"
    ),
    "clip_index_missing": "clips[1].clipIndex: is missing, and other clips have one",
    "clip_index_twice": "clips[1].clipIndex: must not be 0, which clips[0] has",
    "clip_is_not_an_object": 'clips[0]: must be an object, not "a.mp4"',
    "empty_file_name": "clips[0].fileName: must not be empty",
    "flat_crop": "clips[0].cropKeyframes[1].height: must be above 0, not 0",
    "frame_rate_too_high": "targetFps: must be from 1 to 240, not 1000",
    "missing_file_name": "clips[0].fileName: is missing",
    "negative_time": ("clips[0].segmentsData.segments[0].start: must not be negative, and is -1"),
    "no_clips": "clips: must be 1 to 500 clips, not 0",
    "not_a_number": "clips[0].cropKeyframes[0].x: must be between -1e9 and 1e9, not nan",
    "not_an_object": "an edit is a JSON object, not a list",
    "not_json": "line 3, column 1: not JSON: ",
    "odd_target_width": "targetWidth: must be even, and 1081 is odd",
    "segment_is_empty": (
        "clips[0].segmentsData.segments[0].end: must be after its start at 4 s, not 4"
    ),
    "segments_overlap": "clips[0].segmentsData.segments[1]: must not overlap segments[0]",
    "speed_of_no_stretch": (
        'clips[0].segments.segmentSpeeds["2"]: must be one of the 2 stretches, counted from 0'
    ),
    "speed_too_fast": ("clips[0].segmentsData.segments[1].speed: must be from 0.05 to 20, not 25"),
    "target_too_large": "targetHeight: must be from 16 to 7680, not 7682",
    "text_as_number": 'clips[0].cropKeyframes[0].time: must be a number, not "1.5"',
    "too_few_transitions": "transition: must be 2, one per join of 3 clips, not 1",
    "transition_too_long": "transition.duration: must be at most 60 s, not 61",
    "trim_is_empty": (
        "clips[0].segmentsData.trimRange.end: must be after its start at 10 s, not 2"
    ),
    "truth_as_number": "clips[0].duration: must be a number, not true",
    "unknown_aspect_ratio": 'globalAspectRatio: must be 9:16, 16:9, 1:1 or 4:5, not "4:3"',
    "unknown_ease": "clips[0].cropKeyframes[0].ease: must be linear, smooth, spline or cut, "
    'not "bounce"',
    "unknown_key": "clips[0].cropKeyframe: unknown key; did you mean cropKeyframes?",
    "unknown_transition": 'transition.type: must be cut, dissolve or fade, not "wipe"',
    "width_without_height": "targetHeight: is missing, and the other side is given",
}


def one_clip(**keys: object) -> dict[str, Any]:
    return {"clips": [{"fileName": "a.mp4", **keys}]}


def clips(*keys: Mapping[str, object]) -> list[dict[str, Any]]:
    return [{"fileName": f"{index}.mp4", **each} for index, each in enumerate(keys)]


def keyframe(**keys: object) -> dict[str, Any]:
    return {"time": 0, "x": 0, "y": 0, "width": 9, "height": 16, **keys}


def complaint(document: Any, **options: Any) -> str:
    with pytest.raises(EditError) as caught:
        Edit.parse(document, **options)
    return str(caught.value)


# The document


def test_the_apps_spelling_says_what_the_values_say() -> None:
    assert Edit.load(EDITS / "app_spelling.json") == Edit(
        clips=[
            Clip(
                "game_clip.mp4",
                crop_keyframes=[
                    CropKeyframe(0, Rect(200, 100, 600, 1066)),
                    CropKeyframe(5.5, Rect(250, 120, 600, 1066)),
                ],
                trim_start_s=2,
                trim_stop_s=10,
                speed_segments=[SpeedSegment(0, 4), SpeedSegment(4, 8, 0.5)],
                title="First goal",
            )
        ],
        transitions=Transition("dissolve", 0.5),
    )


def test_the_frontends_spelling_says_the_same() -> None:
    ours = Edit.load(EDITS / "app_spelling.json")
    theirs = Edit.load(EDITS / "frontend_spelling.json")
    (clip,) = theirs.clips
    assert clip.duration_s == Fraction(1248, 100)
    assert clip.source_size == Size(1920, 1080)
    ours_document, theirs_document = ours.to_document(), theirs.to_document()
    for key in ("duration", "sourceWidth", "sourceHeight"):
        del theirs_document["clips"][0][key]
    assert theirs_document == ours_document


def test_clips_play_in_the_order_of_their_index() -> None:
    reel = Edit.load(EDITS / "three_clip_reel.json")
    assert [clip.file_name for clip in reel.clips] == [
        "kick_off.mp4",
        "goal.mp4",
        "celebration.mp4",
    ]
    assert reel.transitions == (Transition("dissolve", 0.4),) * 2
    assert reel.target_fps == Fraction(30000, 1001)
    assert [keyframe.ease for keyframe in reel.clips[1].crop_keyframes] == [
        Ease.SMOOTH,
        Ease.CUT,
        None,
    ]
    assert [clip.fit for clip in reel.clips] == [None, Fit.COVER, None]


def test_transitions_may_differ_from_join_to_join() -> None:
    edit = Edit.load(EDITS / "transition_per_join.json")
    assert edit.transitions == (
        Transition(TransitionType.DISSOLVE, 1),
        Transition(TransitionType.CUT, 0),
        Transition(TransitionType.FADE, Fraction(1, 2)),
    )
    assert edit.target_fps == Fraction(24000, 1001)
    assert (edit.target_size, edit.fit, edit.include_audio) == (
        Size(1080, 1080),
        Fit.STRETCH,
        False,
    )


def test_everything_but_the_file_name_has_a_default() -> None:
    edit = Edit.load(EDITS / "bare.json")
    assert edit == Edit([Clip("a.mp4")])
    assert edit.target_fps == 30
    assert edit.target_size == Size(1080, 1920)
    assert (edit.fit, edit.include_audio, edit.transitions) == (Fit.CONTAIN, True, ())
    (clip,) = edit.clips
    assert (clip.crop_keyframes, clip.speed_segments) == ((), ())
    assert (clip.trim_start_s, clip.trim_stop_s, clip.title) == (None, None, None)


def test_null_is_the_same_as_absent() -> None:
    nothing = {
        "clipIndex": None,
        "cropKeyframes": None,
        "segmentsData": None,
        "segments": None,
        "trimRange": None,
        "title": None,
        "fit": None,
        "duration": None,
        "sourceWidth": None,
        "sourceHeight": None,
        "workingClipId": None,
    }
    empty = {"trimRange": None, "segments": None, "boundaries": None}
    document = {
        "clips": clips(
            nothing,
            {"segmentsData": empty},
            {"segments": {"boundaries": None, "segmentSpeeds": None}},
            {"segments": {"boundaries": [0, 1], "segmentSpeeds": {"0": None}}},
            {"trimRange": {"start": None, "end": None}},
            {"cropKeyframes": []},
        ),
        "transition": None,
        "targetFps": None,
        "targetWidth": None,
        "targetHeight": None,
        "globalAspectRatio": None,
        "fit": None,
        "includeAudio": None,
    }
    assert Edit.parse(document) == Edit([Clip(f"{index}.mp4") for index in range(6)])


def test_a_document_is_a_file_a_text_or_what_was_read_from_one(tmp_path: Path) -> None:
    document = one_clip(title="Tor für Köln")
    text = json.dumps(document, ensure_ascii=False)
    path = tmp_path / "edit.json"
    path.write_bytes(text.encode("utf-8-sig"))
    edit = Edit.parse(document)
    assert Edit.parse(text) == Edit.parse(text.encode()) == Edit.load(path) == edit
    assert Edit.load(str(path)) == edit


@pytest.mark.parametrize(
    ("trim", "expected"),
    [({"start": 2}, (2, None)), ({"end": 2}, (None, 2)), ({"start": 0, "end": 2}, (0, 2))],
)
def test_a_trim_may_leave_one_end_to_the_file(
    trim: dict[str, int], expected: tuple[int | None, int | None]
) -> None:
    for keys in ({"trimRange": trim}, {"segmentsData": {"trimRange": trim}}):
        (clip,) = Edit.parse(one_clip(**keys)).clips
        assert (clip.trim_start_s, clip.trim_stop_s) == expected


def test_times_are_exact_to_the_microsecond_and_speeds_to_a_ten_thousandth() -> None:
    segment = {"start": 0.1, "end": 0.30000000000000004, "speed": 0.3333333333333333}
    (clip,) = Edit.parse(one_clip(segmentsData={"segments": [segment]})).clips
    assert clip.speed_segments == (SpeedSegment(Fraction(1, 10), Fraction(3, 10), Fraction(1, 3)),)


def test_segments_are_kept_in_order_of_time_and_may_touch() -> None:
    segments = [{"start": 4, "end": 8}, {"start": 0, "end": 4, "speed": 2}]
    (clip,) = Edit.parse(one_clip(segmentsData={"segments": segments})).clips
    assert clip.speed_segments == (SpeedSegment(0, 4, 2), SpeedSegment(4, 8, 1))


def test_stretches_without_a_speed_are_no_segments() -> None:
    segments = {"boundaries": [0, 1, 2, 3, 4], "segmentSpeeds": {"3": 2, "1": 0.5}}
    (clip,) = Edit.parse(one_clip(segments=segments)).clips
    assert clip.speed_segments == (SpeedSegment(1, 2, 0.5), SpeedSegment(3, 4, 2))


def test_equal_keyframes_at_one_time_are_one() -> None:
    keyframes = [keyframe(time=2), keyframe(time=1), keyframe(time=2.0000001)]
    (clip,) = Edit.parse(one_clip(cropKeyframes=keyframes)).clips
    assert [each.time_s for each in clip.crop_keyframes] == [1, 2]


def test_of_many_keyframes_at_one_time_the_last_counts_with_one_warning() -> None:
    keyframes = [keyframe(x=x, time=3 if x % 2 else 1) for x in range(100)]
    edit = Edit.parse(one_clip(cropKeyframes=keyframes))
    (clip,) = edit.clips
    assert [(float(each.time_s), each.rect.x) for each in clip.crop_keyframes] == [(1, 98), (3, 99)]
    assert edit.warnings == (
        "clips[0].cropKeyframes[0] (and 97 more): cropKeyframes[98] is at the same time, 1 s; "
        "the later one counts",
    )


def test_crops_may_leave_the_frame_and_lie_between_pixels() -> None:
    (clip,) = Edit.parse(one_clip(cropKeyframes=[keyframe(x=-3.25, y=1e6)])).clips
    assert clip.crop_keyframes[0].rect == Rect(-3.25, 1e6, 9, 16)


@pytest.mark.parametrize("ratio", ["9:16", "16:9", "1:1", "4:5"])
def test_an_aspect_ratio_stands_for_a_target_size(ratio: str) -> None:
    size = Edit.parse(one_clip() | {"globalAspectRatio": ratio}).target_size
    width, height = map(int, ratio.split(":"))
    assert size.width * height == size.height * width
    assert min(size.width, size.height) == 1080


def test_a_target_size_is_stronger_than_an_aspect_ratio() -> None:
    given_size = {"globalAspectRatio": "1:1", "targetWidth": 640, "targetHeight": 360}
    assert Edit.parse(one_clip() | given_size).target_size == Size(640, 360)


@pytest.mark.parametrize("word", ["dissolve", "Dissolve", "DISSOLVE"])
def test_words_may_be_in_any_case(word: str) -> None:
    edit = Edit.parse({"clips": clips({}, {}), "transition": {"type": word}})
    assert edit.transitions == (Transition(TransitionType.DISSOLVE, 0.5),)


def test_a_cut_lasts_nothing_whatever_is_asked() -> None:
    for cut in ({"type": "cut", "duration": 0.5}, {"type": None}, {}):
        edit = Edit.parse({"clips": clips({}, {}), "transition": cut})
        assert edit.transitions == (Transition(TransitionType.CUT, 0),)


@pytest.mark.parametrize(
    ("written", "fps"),
    [
        (25, Fraction(25)),
        (29.97, Fraction(30000, 1001)),
        ("30000/1001", Fraction(30000, 1001)),
        ("59.94", Fraction(60000, 1001)),
        (" 30/1 ", Fraction(30)),
        ("24.0", Fraction(24)),
        (str(30000 / 1001), Fraction(30000, 1001)),
        (12.5, Fraction(25, 2)),
        (1, Fraction(1)),
        (240, Fraction(240)),
    ],
)
def test_frame_rates_are_rational(written: object, fps: Fraction) -> None:
    assert Edit.parse(one_clip() | {"targetFps": written}).target_fps == fps


# What is refused


def test_every_malformed_document_has_its_complaint() -> None:
    assert {path.stem for path in (EDITS / "malformed").iterdir()} == set(COMPLAINTS)


@pytest.mark.parametrize("fault", COMPLAINTS)
def test_a_malformed_document_is_refused_in_one_line(fault: str) -> None:
    with pytest.raises(EditError) as caught:
        Edit.load(EDITS / "malformed" / f"{fault}.json")
    expected = COMPLAINTS[fault]
    assert (
        str(caught.value).startswith(expected)
        if expected.endswith(" ")
        else (str(caught.value) == expected)
    )


@pytest.mark.parametrize(
    ("keys", "expected"),
    [
        ({"fileName": "a\0b"}, 'clips[0].fileName: "a\\u0000b" holds a character'),
        ({"fileName": "\ud800"}, 'clips[0].fileName: "\\ud800" holds a character'),
        ({"fileName": 7}, "clips[0].fileName: must be text, not 7"),
        ({"title": ["Goal"]}, "clips[0].title: must be text, not a list"),
        ({"clipIndex": 0.5}, "clips[0].clipIndex: must be a whole number, not 0.5"),
        ({"fit": "crop"}, 'clips[0].fit: must be contain, cover or stretch, not "crop"'),
        ({"duration": -1}, "clips[0].duration: must not be negative, and is -1"),
        ({"duration": float("inf")}, "clips[0].duration: must be between -1e9 and 1e9, not inf"),
        ({"duration": 10**400}, "clips[0].duration: must be between -1e9 and 1e9, not a huge"),
        ({"sourceWidth": 1920}, "clips[0].sourceHeight: is missing, and the other side is given"),
        ({"sourceWidth": 0, "sourceHeight": 9}, "clips[0].sourceWidth: must be from 1 to"),
        (
            {"cropKeyframes": [keyframe(time=None, frame=-1)]},
            "clips[0].cropKeyframes[0].frame: must not be negative, and is -1",
        ),
        ({"trimRange": {"end": 0}}, "clips[0].trimRange.end: must be after its start at 0 s"),
        ({"trimRange": {"stop": 0}}, "clips[0].trimRange.stop: unknown key"),
        ({"trimRange": [0, 4, 8]}, "clips[0].trimRange: must be an object, not a list"),
        ({"segments": []}, "clips[0].segments: must be an object, not a list"),
        ({"segments": {"segmentSpeeds": []}}, "clips[0].segments.segmentSpeeds: must be an object"),
        (
            {"segments": {"boundaries": [0, 1], "segmentSpeeds": {"0": 0.01}}},
            'clips[0].segments.segmentSpeeds["0"]: must be from 0.05 to 20, not 0.01',
        ),
        (
            {"segments": {"boundaries": [0, 1], "segmentSpeeds": {"00": 1}}},
            'clips[0].segments.segmentSpeeds["00"]: must be one of the 1 stretches',
        ),
        ({"segments": {"boundaries": [-1, 1]}}, "clips[0].segments.boundaries[0]: must not be neg"),
        (
            {"segmentsData": {}, "trimRange": {}},
            "clips[0].segmentsData: must not stand beside segments or trimRange",
        ),
        (
            {"segmentsData": {"boundaries": [0, "4"]}},
            'clips[0].segmentsData.boundaries[1]: must be a number, not "4"',
        ),
        (
            {"segmentsData": {"trimRange": {"start": float("nan")}}},
            "clips[0].segmentsData.trimRange.start: must be between -1e9 and 1e9, not nan",
        ),
        ({"cropKeyframes": {}}, "clips[0].cropKeyframes: must be a list, not an object"),
        ({"a\nb": 1}, 'clips[0]["a\\nb"]: unknown key'),
    ],
)
def test_a_fault_in_a_clip_is_named_with_its_place(keys: dict[str, Any], expected: str) -> None:
    assert complaint(one_clip(**keys)).startswith(expected)


@pytest.mark.parametrize(
    ("keys", "expected"),
    [
        ({"targetFps": "1/0"}, "targetFps: '1/0' is not a frame rate"),
        ({"targetFps": "1e999999999"}, 'targetFps: must be a number or like "30000/1001"'),
        ({"targetFps": 0}, "targetFps: must be above 0"),
        ({"targetFps": True}, "targetFps: must be a number, not true"),
        ({"targetWidth": "1080", "targetHeight": 1920}, "targetWidth: must be a number"),
        ({"targetWidth": 1080.5, "targetHeight": 1920}, "targetWidth: must be a whole number"),
        ({"targetWidth": 14, "targetHeight": 1920}, "targetWidth: must be from 16 to 7680, not 14"),
        ({"transition": 5}, "transition: must be an object, not 5"),
        ({"transition": [5]}, "transition[0]: must be an object, not 5"),
        ({"transition": {"kind": "cut"}}, "transition.kind: unknown key"),
        (
            {"transition": [{"type": "fade", "duraton": 1}]},
            "transition[0].duraton: unknown key; did you mean duration?",
        ),
        (
            {"transition": [{"duration": float("nan")}]},
            "transition[0].duration: must be between -1e9 and 1e9, not nan",
        ),
        ({"transition": {"duration": -0.5}}, "transition.duration: must not be negative"),
        ({"transition": [None, None]}, "transition: must be 1, one per join of 2 clips, not 2"),
        ({"clips": {}}, "clips: must be a list, not an object"),
        ({"clips": None}, "clips: must be a list, not null"),
        ({"framerate": 30}, "framerate: unknown key"),
    ],
)
def test_a_fault_in_the_output_is_named_with_its_place(keys: dict[str, Any], expected: str) -> None:
    assert complaint({"clips": clips({}, {}), **keys}).startswith(expected)


def test_the_first_fault_is_named_and_the_others_counted() -> None:
    document = {"clips": clips({"fit": "a"}, {"fit": "b"}, {"fit": "c"})}
    assert complaint(document) == (
        'clips[0].fit: must be contain, cover or stretch, not "a" (and 2 more problems)'
    )


def test_a_misspelt_key_is_named_before_the_missing_one_it_causes() -> None:
    assert complaint({"clips": [{"filename": "a.mp4"}]}) == (
        "clips[0].filename: unknown key; did you mean fileName? (and 1 more problem)"
    )


def test_unknown_keys_can_be_let_pass_with_a_warning() -> None:
    strange: dict[str, Any] = {
        "clips": clips({"colour": "red"}, {"titel": "Goal"}),
        "userId": 7,
    }
    edit = Edit.parse(strange, unknown="warn")
    assert edit == Edit.parse({"clips": clips({}, {})})
    assert sorted(edit.warnings) == [
        "clips[0].colour: unknown key; it is left out",
        "clips[1].titel: unknown key; did you mean title?; it is left out",
        "userId: unknown key; it is left out",
    ]


@pytest.mark.parametrize(
    ("keys", "place"),
    [
        ({"cropKeyframes": [{"easing": "x"}]}, "clips[0].cropKeyframes[0].easing"),
        ({"segmentsData": {"splits": [4]}}, "clips[0].segmentsData.splits"),
        ({"segments": {"speeds": {"0": 2}}}, "clips[0].segments.speeds"),
        ({"segmentsData": {"trimRange": {"from": 1}}}, "clips[0].segmentsData.trimRange.from"),
        ({"segmentsData": {"segments": [{"rate": 2}]}}, "clips[0].segmentsData.segments[0].rate"),
        ({"trimRange": {"begin": 1}}, "clips[0].trimRange.begin"),
        ({"sourceRange": {"stop": 1}}, "clips[0].sourceRange.stop"),
    ],
)
def test_an_unknown_key_that_would_make_another_film_is_never_let_pass(
    keys: dict[str, Any], place: str
) -> None:
    for known in ({}, {"colour": "red"}):
        assert complaint(one_clip(**keys, **known), unknown="warn").startswith(
            f"{place}: unknown key"
        )
    transition = {"clips": clips({}, {}), "transition": {"kind": "fade"}}
    assert complaint(transition, unknown="warn").startswith("transition.kind: unknown key")


def test_many_unknown_keys_are_counted_and_long_ones_are_cut() -> None:
    document = one_clip() | {f"key{number}": 0 for number in range(3000)} | {"x" * 100_000: 0}
    warnings = Edit.parse(document, unknown="warn").warnings
    assert warnings[0] == "key0: unknown key; it is left out"
    assert warnings[-1] == f"{3001 - MAX_WARNINGS} more unknown keys are left out"
    assert len(warnings) == MAX_WARNINGS + 1
    text = complaint(one_clip() | {"x" * 100_000: 0})
    assert text == f'["{"x" * 37}..."]: unknown key'


def test_letting_unknown_keys_pass_lets_nothing_else_pass() -> None:
    document = one_clip(colour="red", title=7)
    assert complaint(document, unknown="warn") == "clips[0].title: must be text, not 7"


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("", "line 1, column 1: not JSON"),
        (b"\xff\xfe\xfa", "byte 2: not JSON: not Unicode text"),
        ("[" * 100_000, "it is nested too deeply"),
        ('{"targetFps": ' + "1" * 5000 + "}", "a number in it has too many digits"),
        ('"edit"', 'an edit is a JSON object, not "edit"'),
        ("null", "an edit is a JSON object, not null"),
    ],
)
def test_what_is_no_json_object_is_refused(text: str | bytes, expected: str) -> None:
    assert complaint(text).startswith(expected)


@pytest.mark.parametrize("key", [7, "\ud800"])
def test_keys_that_no_json_has_are_refused(key: Any) -> None:
    assert complaint({key: 1, **one_clip()}).endswith("keys must be text")
    assert complaint(one_clip() | {"clips": [{key: 1, "fileName": "a.mp4"}]}).startswith("clips[0]")


def test_a_file_that_cannot_be_read_is_named(tmp_path: Path) -> None:
    missing = tmp_path / "missing.json"
    with pytest.raises(EditError, match="cannot be read: no such file") as caught:
        Edit.load(missing)
    assert caught.value.where == str(missing)
    with pytest.raises(EditError, match="cannot be read: is a directory"):
        Edit.load(tmp_path)


def test_five_hundred_clips_are_the_most() -> None:
    many = {"clips": [{"fileName": "a.mp4", "clipIndex": -index} for index in range(500)]}
    edit = Edit.parse(many)
    assert (len(edit.clips), len(edit.transitions)) == (500, 499)
    with pytest.raises(EditError, match="clips: must be 1 to 500 clips, not 1000"):
        Edit([Clip("a.mp4")] * 1000)


# Written down in Python


def test_values_take_what_people_write_and_keep_it_exact() -> None:
    clip = Clip(
        Path("clips") / "a.mp4",
        crop_keyframes=[CropKeyframe(1, Rect(0, 0, 9, 16)), CropKeyframe(0, Rect(0, 0, 9, 16))],
        trim_start_s=0.1,
        speed_segments=[SpeedSegment(0, 0.5, Fraction(1, 3))],
        title="  ",
        fit="cover",
    )
    edit = Edit(clips=[clip], target_fps=29.97, target_size=Size(640, 360))
    assert clip.file_name == "clips/a.mp4"
    assert [each.time_s for each in clip.crop_keyframes] == [0, 1]
    assert clip.trim_start_s == Fraction(1, 10)
    assert clip.title is None
    assert clip.fit is Fit.COVER
    assert edit.target_fps == Fraction(30000, 1001)
    assert isinstance(hash(edit), int)
    with pytest.raises(FrozenInstanceError):
        edit.include_audio = False  # type: ignore[misc]


@pytest.mark.parametrize(
    ("write", "expected"),
    [
        (lambda: SpeedSegment(4, 0), "end: must be after its start at 4 s, not 0"),
        (lambda: SpeedSegment(0, 4, 0), "speed: must be from 0.05 to 20, not 0"),
        (lambda: CropKeyframe(0, Rect(0, 0, 0, 16)), "width: must be above 0, not 0"),
        (lambda: Clip("a", trim_start_s=5, trim_stop_s=4), "trimRange.end: must be after"),
        (lambda: Clip("a", source_size=Size(0, 9)), "sourceWidth: must be from 1 to 1000000"),
        (
            lambda: Clip("a", speed_segments=[SpeedSegment(0, 2), SpeedSegment(1, 3)]),
            "segments[1]: must not overlap segments[0]",
        ),
        (lambda: Transition("wipe"), 'type: must be cut, dissolve or fade, not "wipe"'),
        (lambda: Edit([]), "clips: must be 1 to 500 clips, not 0"),
        (lambda: Edit([Clip("a")], [Transition()]), "transition: must be 0, one per join of 1"),
        (lambda: Edit([Clip("a")], target_size=Size(15, 16)), "targetWidth: must be from 16"),
    ],
)
def test_values_check_themselves(write: Callable[[], object], expected: str) -> None:
    with pytest.raises(EditError) as caught:
        write()
    assert str(caught.value).startswith(expected)


def test_importing_the_edit_is_light() -> None:
    heavy = "{'av', 'numba', 'numpy', 'pydantic'}"
    code = f"import sys, engine.timeline.edit; assert not {heavy} & set(sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True)


# Properties

seconds = st.integers(0, 10**11).map(lambda us: Fraction(us, 1_000_000))
extents = st.floats(1e-3, 1e5)
places = st.floats(-1e5, 1e5)
rects = st.builds(Rect, places, places, extents, extents)
texts = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"))
speeds = st.fractions(Fraction(1, 20), 20, max_denominator=10_000)


RATES: list[float | str] = [24, 29.97, "24000/1001", 12.5, 240, "1001/1000"]


@st.composite
def written_clips(draw: st.DrawFn) -> Clip:
    ends = sorted(draw(st.sets(seconds, max_size=6)))
    stretches = zip(ends[::2], ends[1::2], strict=False)
    trim = sorted(draw(st.sets(seconds, min_size=2, max_size=2)))
    times = draw(st.sets(seconds, max_size=4))
    return Clip(
        draw(texts.filter(bool)),
        crop_keyframes=[
            CropKeyframe(time_s, draw(rects), draw(st.none() | st.sampled_from(Ease)))
            for time_s in times
        ],
        trim_start_s=draw(st.sampled_from([None, trim[0]])),
        trim_stop_s=draw(st.sampled_from([None, trim[1]])),
        speed_segments=[SpeedSegment(*stretch, draw(speeds)) for stretch in stretches],
        title=draw(st.none() | texts),
        duration_s=draw(st.none() | seconds),
        source_size=draw(st.none() | st.builds(Size, st.integers(1, 9999), st.integers(1, 9999))),
        fit=draw(st.none() | st.sampled_from(Fit)),
        rotation_deg=draw(st.decimals(-20, 20, places=3).map(Fraction)),
        source_start_s=draw(st.sampled_from([None, trim[0]])),
        source_stop_s=draw(st.sampled_from([None, trim[1]])),
    )


@st.composite
def written_edits(draw: st.DrawFn) -> Edit:
    played = draw(st.lists(written_clips(), min_size=1, max_size=3))
    lasting = st.integers(0, 60_000_000).map(lambda us: Fraction(us, 1_000_000))
    joins = st.builds(Transition, st.sampled_from(TransitionType), lasting)
    sides = st.integers(8, 3840).map(lambda half: 2 * half)
    return Edit(
        played,
        draw(st.lists(joins, min_size=len(played) - 1, max_size=len(played) - 1)),
        target_fps=draw(st.sampled_from(RATES)),
        target_size=draw(st.builds(Size, sides, sides)),
        fit=draw(st.sampled_from(Fit)),
        include_audio=draw(st.booleans()),
        ease=draw(st.sampled_from(Ease)),
        key_interval_s=draw(st.none() | st.decimals("0.1", 60, places=6).map(Fraction)),
    )


@given(written_edits())
def test_a_written_document_reads_back_as_the_same_edit(edit: Edit) -> None:
    text = json.dumps(edit.to_document(), allow_nan=False)
    assert Edit.parse(text) == edit


DOCUMENTS = [json.loads(path.read_text()) for path in sorted(EDITS.glob("*.json"))] + [
    json.loads(path.read_text())["document"] for path in sorted(EDITS.glob("golden/*.json"))
]
KEYS = sorted(set(re.findall(r'"(\w+)":', json.dumps(DOCUMENTS))))

scalars = (
    st.none()
    | st.booleans()
    | st.integers(-5, 5)
    | st.integers()
    | st.just(10**400)
    | st.floats()
    | st.text(st.characters(), max_size=5)
    | st.sampled_from(["30000/1001", "dissolve", "cut", "smooth", "cover", "1:1", "a.mp4"])
)
json_values = st.recursive(
    scalars,
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(st.sampled_from(KEYS) | st.text(st.characters()), inner, max_size=4)
    ),
    max_leaves=12,
)


def reads_or_complains_in_one_line(document: Any) -> None:
    modes: list[Literal["error", "warn"]] = ["error", "warn"]
    for unknown in modes:
        try:
            edit = Edit.parse(document, unknown=unknown)
        except EditError as error:
            assert len(str(error).splitlines()) == 1
            assert not any(jargon in str(error).lower() for jargon in ("pydantic", "input should"))
        else:
            assert Edit.parse(edit.to_document()) == edit


@given(json_values)
def test_any_value_is_an_edit_or_an_edit_error(document: Any) -> None:
    reads_or_complains_in_one_line(document)


@given(st.data())
def test_any_change_to_an_edit_is_an_edit_or_an_edit_error(data: st.DataObject) -> None:
    document = deepcopy(data.draw(st.sampled_from(DOCUMENTS)))
    node = document
    while True:
        places = list(node) if isinstance(node, dict) else list(range(len(node)))
        place = data.draw(st.sampled_from(places))
        if not node[place] or not isinstance(node[place], dict | list) or data.draw(st.booleans()):
            break
        node = node[place]
    match data.draw(st.sampled_from(["replace", "remove", "rename"])):
        case "remove":
            del node[place]
        case "rename" if isinstance(node, dict):
            node[data.draw(st.sampled_from(KEYS))] = node.pop(place)
        case _:
            node[place] = data.draw(json_values)
    reads_or_complains_in_one_line(document)


@pytest.mark.parametrize(
    "document",
    [
        '{"clips": [{"fileName": "a.mp4"}], "fit": "cover", "fit": "contain"}',
        '{"clips": [{"fileName": "a.mp4", "title": "x", "fileName": "b.mp4"}]}',
    ],
)
def test_a_key_that_stands_twice_is_an_error(document: str) -> None:
    with pytest.raises(EditError, match=r'the key "(fit|fileName)" stands twice in one object'):
        Edit.parse(document)
