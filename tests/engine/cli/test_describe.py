"""What is told of plans and sources: a table for people, JSON and CSV for programs."""

from __future__ import annotations

import csv
import io
import json
from dataclasses import replace
from fractions import Fraction

import pytest
from rich.console import Console, RenderableType

from engine.cli.describe import (
    dump_document,
    source_document,
    source_table,
    timeline_document,
    timeline_table,
    write_frames,
)
from engine.geometry import Rect, Size
from engine.source import SoundInfo
from engine.timeline.edit import Clip, CropKeyframe, Edit, SpeedSegment, Transition
from engine.timeline.plan import Plan, build_plan
from tests.sources import a_source


def a_plan(*, name: str = "second.mp4", title: str | None = None) -> Plan:
    pan = [CropKeyframe(0, Rect(0, 0, 600, 1066)), CropKeyframe(2, Rect(1320, 14, 600, 1066))]
    clips = [
        Clip("first.mp4", pan, 0.5, 3, title="Kick-off"),
        Clip(name, (), 0, 2, [SpeedSegment(0, 1, 0.5)], title=title),
        Clip("first.mp4", (), 0, 1, [SpeedSegment(0, 1, 2)]),
    ]
    edit = Edit(clips, [Transition("dissolve", 0.5), Transition()], 30, Size(1080, 1920))
    return build_plan(edit, [a_source("first.mp4"), a_source(name), a_source("first.mp4")])


def printed(what: RenderableType, width: int) -> str:
    out = io.StringIO()
    Console(file=out, width=width, color_system=None).print(what)
    return out.getvalue()


def test_the_table_tells_the_timeline_in_80_columns() -> None:
    lines = [line.rstrip() for line in printed(timeline_table(a_plan()), 80).splitlines()]
    assert max(map(len, lines)) <= 80
    assert lines[0] == "1080x1920, 30 fps, 5.500 s: 165 frames from 150 source frames, sound"
    rows = [" ".join(line.split()) for line in lines[4:] if line]
    assert rows == [
        "0 Kick-off 0.000-2.500 s 0.500-3.000 s 600x1066",
        "first.mp4 [0, 75) at 330,4",
        "to 600x1066",
        "at 1320,14",
        "dissolve, 15 frames",
        "1 second.mp4 2.000-5.000 s 0.000-2.000 s 608x1080",
        "[60, 150) 0.5x from 0 s at 656,0",
        "1x from 1 s",
        "cut",
        "2 first.mp4 5.000-5.500 s 0.000-1.000 s 608x1080",
        "[150, 165) 2x at 656,0",
    ]


@pytest.mark.parametrize("width", [60, 80])
def test_numbers_are_never_broken(width: int) -> None:
    long = "a_very_long_name_as_a_phone_or_an_app_gives_to_its_files_20260131.mp4"
    table = printed(timeline_table(a_plan(name=long)), width)
    assert max(len(line) for line in table.splitlines()) <= width
    for whole in ("2.000-5.000 s", "0.5x from 0 s", "608x1080", "at 1320,14", "[60, 150)"):
        assert whole in table


@pytest.mark.parametrize("text", ["[bold]x[/bold]", "[/red]", ":goal: :smile:", "a\\[b]"])
def test_names_are_not_markup(text: str) -> None:
    plan = a_plan(name=f"{text}.mp4", title=f"title {text}")
    table = printed(timeline_table(plan), 120)
    assert f"title {text}" in table and f"{text.split('/')[-1]}.mp4" in table
    assert f"{text}.mp4" in printed(source_table(a_source(f"{text}.mp4")), 120)


def test_the_document_is_json_with_the_plans_numbers() -> None:
    document = json.loads(dump_document(timeline_document(a_plan())))
    assert (document["frames"], document["durationSeconds"], document["fps"]) == (165, 5.5, "30")
    assert (document["width"], document["height"], document["samples"]) == (1080, 1920, 264_000)
    second = document["clips"][1]
    assert (second["startFrame"], second["stopFrame"], second["start"]) == (60, 150, 2)
    assert second["segments"] == [
        {"start": 0, "end": 1, "speed": 0.5},
        {"start": 1, "end": 2, "speed": 1},
    ]
    assert [each["title"] for each in document["chapters"]] == ["Kick-off", "second", "first"]
    assert document["warnings"] == []


def test_every_frame_has_a_row_per_layer() -> None:
    out = io.StringIO()
    write_frames(a_plan(), out)
    rows = list(csv.DictReader(io.StringIO(out.getvalue())))
    assert len(rows) == 165 + 15  # both clips of the dissolve
    assert [int(row["frame"]) for row in rows] == sorted(int(row["frame"]) for row in rows)
    assert rows[0] == {
        "frame": "0", "clip": "0", "source_s": "0.500000", "x": "330.000", "y": "3.500",
        "width": "600.000", "height": "1066.000", "weight": "1.000000",
    }  # fmt: skip
    middle = [row for row in rows if row["frame"] == "67"]
    assert [(row["clip"], row["weight"]) for row in middle] == [
        ("0", "0.500000"),
        ("1", "0.500000"),
    ]
    # frame 67 is 7 frames into the second clip, at half speed: 7/60 s, shown by frame 3 of 30/s
    assert middle[1]["source_s"] == "0.100000"


def test_a_source_is_told_fact_by_fact() -> None:
    sound = SoundInfo(1, "aac", 44_100, 2, Fraction(-1, 50))
    facts = source_document(replace(a_source("a.mp4", frames=60), sound=sound))
    assert (facts["frames"], facts["durationSeconds"], facts["framesPerSecond"]) == (60, 2, 30)
    assert (facts["sound"], facts["soundStartSeconds"]) == ("aac, 44100 Hz, 2 channels", -0.02)
    assert facts["constantFrameRate"] is True
    silent = source_document(a_source())
    assert (silent["sound"], silent["soundStartSeconds"]) == (None, None)
    table = printed(source_table(a_source("a.mp4", frames=60)), 60)
    for fact, value in source_document(a_source("a.mp4", frames=60)).items():
        assert fact in table and str(value) in table


@pytest.mark.parametrize(
    ("times_s", "constant"),
    [
        ([Fraction(round(n * 1001 / 30), 1000) for n in range(30)], True),  # rounded to ms
        ([Fraction(n, 30) for n in range(10)] + [Fraction(n, 15) for n in range(6, 20)], False),
        ([Fraction(0), Fraction(1, 30)], True),
    ],
)
def test_constant_and_variable_rates_are_told_apart(
    times_s: list[Fraction], constant: bool
) -> None:
    assert source_document(a_source(times_s=times_s))["constantFrameRate"] is constant
