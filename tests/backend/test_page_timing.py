"""The page's arithmetic is the engine's: its modules, run on drawn edits, against the real plan."""

from __future__ import annotations

import json
from collections.abc import Iterator
from fractions import Fraction
from itertools import product
from math import floor
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest
from hypothesis import given, reject, settings
from hypothesis import strategies as st

from backend.page_constants import page_constants, page_constants_module
from engine.errors import EditError
from engine.source import SourceInfo
from engine.timeline import validation
from engine.timeline.clip import APP_EASE, Clip, Ease
from engine.timeline.edit import Edit
from engine.timeline.plan import Plan, PlannedClip, build_plan
from engine.timeline.retime import Retiming
from engine.timing import TIMESTAMP_TOLERANCE_S, exact_seconds
from tests.backend.page_cases import RATES, SPEEDS, Case, cases, source_of_steps
from tests.backend.page_modules import CHROMIUM, NODE, Ask, page_modules
from tests.sources import a_source

MOST_FRAMES_ASKED = 60
GOLDEN = sorted((Path(__file__).parents[1] / "edits" / "golden").glob("*.json"))

pytestmark = pytest.mark.skipif(
    NODE is None and CHROMIUM is None,
    reason="neither node nor chromium is installed, so nothing can run the page's JavaScript",
)


@pytest.fixture(scope="module")
def ask(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Ask]:
    """Asks the page's modules, see `page_modules.js`."""
    with page_modules(tmp_path_factory.mktemp("page")) as asking:
        yield asking


@given(case=cases())
@settings(max_examples=120)
def test_the_page_plans_as_the_engine_does(ask: Ask, case: Case) -> None:
    try:
        edit, plan = planned(case)
    except EditError:
        reject()
    check_plan(ask, case, edit, plan)


@pytest.mark.parametrize("path", GOLDEN, ids=[path.stem for path in GOLDEN])
def test_the_page_reads_the_golden_edits(ask: Ask, path: Path) -> None:
    document = json.loads(path.read_text())["document"]
    case = Case(document, {"game.mp4": a_source("game.mp4", frames=384)})
    edit, plan = planned(case)
    told = check_plan(ask, case, edit, plan)
    assert told["warnings"] == list(edit.warnings)


@pytest.mark.parametrize(("rate", "frames"), [(23.98, 14_386), ("1199/50", 14_388)])
def test_a_long_clip_keeps_step(ask: Ask, rate: float | str, frames: int) -> None:
    """600 s at 24000/1001 frames/s, which is what 23.98 means, and at 23.98 exactly."""
    document = {"clips": [{"fileName": "long.mp4"}], "targetFps": rate}
    case = Case(document, {"long.mp4": source_of_steps(Fraction(1, 30), [1] * 18_000)})
    edit, plan = planned(case)
    assert plan.frame_count == frames
    check_plan(ask, case, edit, plan)


def test_crops_move_alike_whatever_way_follows_another(ask: Ask) -> None:
    """Every three ways in a row, between crops that a curve swings past or turns inside out."""
    sides = [(0, 0, 400, 300), (300, 90, 40, 300), (320, 500, 40, 20), (900, 100, 600, 200)]
    crops = [
        {"time": time, "x": x, "y": y, "width": width, "height": height}
        for time, (x, y, width, height) in zip((0.1, 0.3, 0.45, 0.9), sides, strict=True)
    ]
    clips = [
        {
            "fileName": "a.mp4",
            "cropKeyframes": [
                crop | {"ease": ease} for crop, ease in zip(crops, (*ways, None), strict=True)
            ],
        }
        for ways in product(Ease, repeat=3)
    ]
    case = Case({"clips": clips}, {"a.mp4": a_source("a.mp4", frames=30)})
    check_plan(ask, case, *planned(case))


@given(
    counts=st.lists(st.integers(1, 12), min_size=2, max_size=5),
    wanted=st.lists(
        st.tuples(st.sampled_from(["cut", "dissolve", "fade"]), st.integers(0, 15)),
        min_size=4,
        max_size=4,
    ),
)
@settings(max_examples=120)
def test_transitions_are_shortened_alike(
    ask: Ask, counts: list[int], wanted: list[tuple[str, int]]
) -> None:
    """Clips of a few frames each, at 25 frames/s, with longer transitions between them."""
    sources = {
        f"{place}.mp4": source_of_steps(Fraction(1, 25), [1] * count)
        for place, count in enumerate(counts)
    }
    joins = [{"type": kind, "duration": frames / 25} for kind, frames in wanted[: len(counts) - 1]]
    clips = [{"fileName": name} for name in sources]
    case = Case({"clips": clips, "transition": joins, "targetFps": 25}, sources)
    edit, plan = planned(case)
    check_plan(ask, case, edit, plan)


def planned(case: Case) -> tuple[Edit, Plan]:
    """The engine's plan, of an order over HTTP. Raises EditError."""
    ease = case.document.get("ease") or APP_EASE
    edit = Edit.parse(json.dumps(case.document | {"ease": ease}))
    return edit, build_plan(edit, [case.sources[clip.file_name] for clip in edit.clips])


def check_plan(ask: Ask, case: Case, edit: Edit, plan: Plan) -> dict[str, Any]:
    """The page's plan is the engine's, and so is the edit that it keeps."""
    asked = [
        questions(clip, planned_clip, plan.fps)
        for clip, planned_clip in zip(edit.clips, plan.clips, strict=True)
    ]
    sources = {name: described(source) for name, source in case.sources.items()}
    told: dict[str, Any] = ask("plan", {"edit": case.document, "sources": sources, "asked": asked})
    assert Edit.parse(told["document"]) == edit
    assert told["again"] == told["document"]
    assert len(told["warnings"]) == len(edit.warnings)
    assert Fraction(told["rate"]) == plan.fps
    assert told["frames"] == plan.frame_count
    assert told["transitions"] == [each.frame_count for each in plan.transitions]
    assert [each["fileName"] for each in told["clips"]] == [each.file_name for each in edit.clips]
    for clip, planned_clip, questions_, answer in zip(
        edit.clips, plan.clips, asked, told["clips"], strict=True
    ):
        check_clip(clip, planned_clip, plan.fps, questions_, answer)
    return told


def described(source: SourceInfo) -> dict[str, Any]:
    """A source as the page is told of it."""
    document = source.to_document()
    size = {"width": source.display_size.width, "height": source.display_size.height}
    timing = {key: document[key] for key in ("timeBase", "framePts", "endPts")}
    return {"size": size, "timing": timing}


def offset_s(clip: Clip) -> Fraction:
    """Where in the file the clip's times begin to count."""
    return clip.source_start_s or Fraction(0)


def questions(edited: Clip, clip: PlannedClip, fps: Fraction) -> dict[str, list[Any]]:
    """Some frames of a clip, the times of their crops, and some times of its source."""
    start_s = float(offset_s(edited))
    count = len(clip.frames)
    numbers = np.unique(np.linspace(0, count - 1, MOST_FRAMES_ASKED).astype(int))
    first_of_pieces = [frames.start for frames in clip.retiming.frames_of_pieces(fps) if frames]
    numbers = np.union1d(numbers, first_of_pieces)
    starts_s = [
        max(0.0, float(clip.source.time_of(pts)) - start_s) for pts in clip.pts[numbers[::3]]
    ]
    just_before_s = [max(0.0, start_s - 0.0015) for start_s in starts_s]
    spread_s = np.linspace(0, float(clip.source.duration_s), 13).tolist()
    return {
        "numbers": numbers.tolist(),
        "cropTimes": (clip.retiming.source_times_s(fps)[numbers] - start_s).tolist(),
        "stageTimes": [*spread_s, *starts_s, *just_before_s],
    }


def check_clip(
    edited: Clip,
    clip: PlannedClip,
    fps: Fraction,
    asked: dict[str, list[Any]],
    told: dict[str, Any],
) -> None:
    """The page's answer for one clip is what the engine planned, in the clip's own time."""
    numbers, start_s = asked["numbers"], offset_s(edited)
    assert told["frames"] == [clip.frames.start, clip.frames.stop]
    assert Fraction(told["start"]) == start_s
    assert [list(map(Fraction, each)) for each in told["pieces"]] == [
        [each.start_s - start_s, each.stop_s - start_s, each.speed, each.at_s]
        for each in clip.retiming.pieces
    ]
    times_s = [source_time_s(clip.retiming, frame, fps) - start_s for frame in numbers]
    assert list(map(Fraction, told["sourceTimes"])) == times_s
    assert asked["cropTimes"] == pytest.approx(list(map(float, times_s)), rel=1e-9, abs=1e-9)
    assert told["ticks"] == (clip.pts[numbers] - clip.source.frame_pts[0]).tolist()
    rects = clip.rects[numbers]
    assert np.allclose(np.array(told["rects"]), rects, rtol=1e-9, atol=1e-9)
    shown = [
        clip.frames.start + frame_shown_at(clip, fps, start_s + exact_seconds(time))
        for time in asked["stageTimes"]
    ]
    assert told["outputFrames"] == shown


def source_time_s(retimed: Retiming, frame: int, fps: Fraction) -> Fraction:
    """The source time of an output frame of a clip, with no array in sight."""
    at_s = frame / fps
    piece = max((each for each in retimed.pieces if each.at_s <= at_s), key=lambda each: each.at_s)
    return piece.start_s + (at_s - piece.at_s) * piece.speed


def frame_shown_at(clip: PlannedClip, fps: Fraction, time_s: Fraction) -> int:
    """The output frame of a clip nearest to a source time that shows the source frame there.

    The last one that starts before it, where no output frame shows that source frame.
    """
    pieces = clip.retiming.pieces
    piece = max((each for each in pieces if each.start_s <= time_s), default=pieces[0],
                key=lambda each: each.start_s)  # fmt: skip
    inside_s = min(max(time_s, piece.start_s), piece.stop_s)
    retimed_s = piece.at_s + (inside_s - piece.start_s) / piece.speed
    at = min(floor((retimed_s + TIMESTAMP_TOLERANCE_S) * fps), len(clip.frames) - 1)
    last_tick = floor((time_s + TIMESTAMP_TOLERANCE_S) / clip.source.time_base)
    pts = clip.source.frame_pts
    reached = int(np.searchsorted(pts - pts[0], last_tick, side="right"))
    wanted = pts[max(0, reached - 1)]
    shows = np.flatnonzero(clip.pts == wanted)
    return int(np.clip(at, shows[0], shows[-1])) if shows.size else at


# numbers


numbers = st.floats(allow_nan=False, allow_infinity=False) | st.integers(-(2**53), 2**53)
texts = st.from_regex(validation.RATE_SPELLING, fullmatch=True) | st.sampled_from(
    [
        "",
        " ",
        "30/0",
        "0/30",
        "1e9",
        " 30",
        "30 ",
        "\t30",
        "30/1001/2",
        "-30",
        "+30",
        "NaN",
        "30\n",
        "0x10",
    ]
)


@given(
    rates=st.lists(RATES | texts | numbers, max_size=20),
    speeds=st.lists(SPEEDS | st.floats(0.04, 21) | numbers, max_size=20),
    seconds=st.lists(st.floats(-1, 10**6) | numbers, max_size=20),
)
@settings(max_examples=120)
def test_the_page_reads_numbers_as_the_engine_does(
    ask: Ask, rates: list[Any], speeds: list[Any], seconds: list[Any]
) -> None:
    told = ask("read", {"rates": rates, "speeds": speeds, "seconds": seconds})
    for reader, values, answers in (
        (validation.frame_rate, rates, told["rates"]),
        (validation.speed, speeds, told["speeds"]),
        (validation.seconds, seconds, told["seconds"]),
    ):
        for value, answer in zip(values, answers, strict=True):
            try:
                exact = reader(value, "")
            except EditError:
                # the page holds a time before the start of a file there
                assert answer is None or value < 0
                continue
            assert answer is not None and Fraction(answer[0]) == exact
            assert answer[1] == float(exact)


def clip_with(**keys: Any) -> dict[str, Any]:
    return {"clips": [{"fileName": "a.mp4", **keys}]}


KEYFRAME = {"time": 0, "x": 0, "y": 0, "width": 9, "height": 16}


@pytest.mark.parametrize(
    ("document", "where"),
    [
        ({"targetFps": 241}, "targetFps"),
        ({"targetFps": 0.99}, "targetFps"),
        ({"targetFps": "24p"}, "targetFps"),
        ({"targetFps": True}, "targetFps"),
        ({"targetWidth": 8, "targetHeight": 16}, "targetWidth"),
        ({"targetWidth": 16, "targetHeight": 7682}, "targetHeight"),
        ({"targetWidth": 17, "targetHeight": 16}, "targetWidth"),
        ({"fit": "fill"}, "fit"),
        ({"clips": [{"fileName": "a.mp4"}] * 501}, "clips"),
        ({"clips": [{"fileName": "a.mp4"}] * 2, "transition": [{"type": "wipe"}]},
         "transition[0].type"),
        ({"clips": [{"fileName": "a.mp4"}] * 2, "transition": [{"duration": 61}]},
         "transition[0].duration"),
        (clip_with(segmentsData={"trimRange": {"start": 2, "end": 2}}),
         "clips[0].segmentsData.trimRange.end"),
        (clip_with(segmentsData={"trimRange": {"start": -1}}),
         "clips[0].segmentsData.trimRange.start"),
        (clip_with(segmentsData={"segments": [{"start": 0, "end": 1, "speed": 0.049}]}),
         "clips[0].segmentsData.segments[0].speed"),
        (clip_with(segmentsData={"segments": [{"start": 0, "end": 1, "speed": 20.01}]}),
         "clips[0].segmentsData.segments[0].speed"),
        (clip_with(segmentsData={"segments": [{"start": 0, "end": "1"}]}),
         "clips[0].segmentsData.segments[0].end"),
        (clip_with(segmentsData={"segments": [{"start": 0, "end": 2}, {"start": 1, "end": 3}]}),
         "clips[0].segmentsData.segments[1]"),
        (clip_with(cropKeyframes=[KEYFRAME | {"time": 1e10}]), "clips[0].cropKeyframes[0].time"),
        (clip_with(cropKeyframes=[KEYFRAME | {"width": 0}]), "clips[0].cropKeyframes[0].width"),
        (clip_with(cropKeyframes=[KEYFRAME | {"x": "left"}]), "clips[0].cropKeyframes[0].x"),
        (clip_with(cropKeyframes=[KEYFRAME | {"ease": "jump"}]), "clips[0].cropKeyframes[0].ease"),
        (clip_with(cropKeyframes=[{**KEYFRAME, "time": None}]), "clips[0].cropKeyframes[0].time"),
        (clip_with(cropKeyframes=[KEYFRAME | {"frame": 2}]), "clips[0].cropKeyframes[0].frame"),
        (clip_with(cropKeyframes=[KEYFRAME | {"frame": 0.5}]), "clips[0].cropKeyframes[0].frame"),
        (clip_with(cropKeyframes=[KEYFRAME | {"time": None, "frame": -1}]),
         "clips[0].cropKeyframes[0].frame"),
        (clip_with(cropKeyframes={}), "clips[0].cropKeyframes"),
        (clip_with(cropKeyframes=[7]), "clips[0].cropKeyframes[0]"),
        (clip_with(rotation=20.5), "clips[0].rotation"),
        (clip_with(rotation="5"), "clips[0].rotation"),
        (clip_with(sourceRange=[3, 3]), "clips[0].sourceRange.end"),
        (clip_with(sourceRange={"start": -1}), "clips[0].sourceRange.start"),
        (clip_with(trimRange=[0, 1, 2]), "clips[0].trimRange"),
        (clip_with(trimRange=[2, 1]), "clips[0].trimRange.end"),
        (clip_with(segments={"trimRange": [2, 1]}), "clips[0].segments.trimRange.end"),
        (clip_with(segments={"trimRange": [0, 1]}, trimRange=[0, 2]), "clips[0].trimRange"),
        (clip_with(segments={"trim_start": 2, "trim_end": 1}), "clips[0].segments.trim_end"),
        (clip_with(segmentsData={"trim_end": 1, "trimRange": [0, 1]}),
         "clips[0].segmentsData.trim_end"),
        (clip_with(segmentsData={}, trimRange=[0, 1]), "clips[0].segmentsData"),
        (clip_with(segments={"boundaries": [0, 2, 2]}), "clips[0].segments.boundaries[2]"),
        (clip_with(segments={"boundaries": [0, 2], "segmentSpeeds": {"1": 2}}),
         'clips[0].segments.segmentSpeeds["1"]'),
        (clip_with(segments={"segmentSpeeds": {"0": 21}}), 'clips[0].segments.segmentSpeeds["0"]'),
        (clip_with(segments={"segmentSpeeds": {"0": 2}, "segments": [{"start": 0}]}),
         "clips[0].segments.segmentSpeeds"),
        (clip_with(segments={"segments": [{"start": 2}, {"start": 1}]}),
         "clips[0].segments.segments[0]"),
        (clip_with(segments={"segments": [{"end": 2}]}), "clips[0].segments.segments[0].start"),
        (clip_with(sourceWidth=1920), "clips[0].sourceHeight"),
        (clip_with(sourceWidth=0, sourceHeight=9), "clips[0].sourceWidth"),
        (clip_with(duration=-1), "clips[0].duration"),
        (clip_with(title=7), "clips[0].title"),
        (clip_with(clipName=7), "clips[0].clipName"),
        ({"clips": [{}]}, "clips[0].fileName"),
        ({"clips": [{"fileName": ""}]}, "clips[0].fileName"),
        ({"clips": [{"fileName": "a.mp4", "clipIndex": 3}, {"fileName": "a.mp4"}]},
         "clips[1].clipIndex"),
        ({"clips": [{"fileName": "a.mp4", "clipIndex": 3}] * 2}, "clips[1].clipIndex"),
        ({"clips": [{"fileName": "a.mp4"}] * 2, "transition": []}, "transition"),
        ({"targetWidth": 90}, "targetHeight"),
        ({"globalAspectRatio": "4:3"}, "globalAspectRatio"),
        ({"includeAudio": 1}, "includeAudio"),
        ({"ease": "curved"}, "ease"),
        ({"keyInterval": 0}, "keyInterval"),
        # unknown keys where they would make another film
        (clip_with(segments={"splits": [1]}), "clips[0].segments.splits"),
        (clip_with(segmentsData={"segments": [{"start": 0, "endSpeed": 2}]}),
         "clips[0].segmentsData.segments[0].endSpeed"),
        (clip_with(trimRange={"stop": 1}), "clips[0].trimRange.stop"),
        (clip_with(sourceRange={"from": 1}), "clips[0].sourceRange.from"),
        (clip_with(cropKeyframes=[KEYFRAME | {"zoom": 2}]), "clips[0].cropKeyframes[0].zoom"),
        ({"clips": [{"fileName": "a.mp4"}] * 2, "transition": {"length": 1}}, "transition.length"),
    ],
)  # fmt: skip
def test_the_page_refuses_what_the_engine_refuses(
    ask: Ask, document: dict[str, Any], where: str
) -> None:
    document = clip_with() | document
    with pytest.raises(EditError) as refused:
        Edit.parse(document)
    assert refused.value.where == where
    assert ask("refusal", document).startswith(f"{where}: ")


def test_unknown_keys_of_an_edit_and_a_clip_are_kept_for_the_server_to_tell_of(ask: Ask) -> None:
    document = clip_with(brightness=2) | {"watermark": "x"}
    assert ask("refusal", document) is None
    case = Case(document, {"a.mp4": a_source("a.mp4", frames=9)})
    edit = Edit.parse(document, unknown="warn")
    plan = build_plan(edit, [case.sources["a.mp4"]])
    sources = {"a.mp4": described(case.sources["a.mp4"])}
    asked = [questions(edit.clips[0], plan.clips[0], plan.fps)]
    kept = ask("plan", {"edit": document, "sources": sources, "asked": asked})["document"]
    assert (kept["watermark"], kept["clips"][0]["brightness"]) == ("x", 2)


def test_the_page_is_served_the_engine_s_constants(client: httpx.Client) -> None:
    answer = client.get("/page/constants.js")
    assert answer.headers["content-type"] == "text/javascript; charset=utf-8"
    assert answer.headers["content-security-policy"].startswith("default-src 'none'")
    assert answer.text == page_constants_module()
    constants = page_constants()
    assert Fraction(constants["TIMESTAMP_TOLERANCE_S"]) == TIMESTAMP_TOLERANCE_S
    assert constants["NTSC_RATES"]["1199/50"] == "24000/1001"
