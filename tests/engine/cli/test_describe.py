"""What the command line shows of plans and sources: tables, CSV, and JSON text."""

from __future__ import annotations

import csv
import io
import json

import pytest
from rich.console import Console, RenderableType

from engine.cli.describe import dump_document, source_table, timeline_table, write_frames
from engine.pipeline.documents import source_document, timeline_document
from tests.plans import three_clip_plan
from tests.sources import a_source


def printed(what: RenderableType, width: int) -> str:
    out = io.StringIO()
    Console(file=out, width=width, color_system=None).print(what)
    return out.getvalue()


def test_the_table_tells_the_timeline_in_80_columns() -> None:
    lines = [line.rstrip() for line in printed(timeline_table(three_clip_plan()), 80).splitlines()]
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
    table = printed(timeline_table(three_clip_plan(name=long)), width)
    assert max(len(line) for line in table.splitlines()) <= width
    for whole in ("2.000-5.000 s", "0.5x from 0 s", "608x1080", "at 1320,14", "[60, 150)"):
        assert whole in table


@pytest.mark.parametrize("text", ["[bold]x[/bold]", "[/red]", ":goal: :smile:", "a\\[b]"])
def test_names_are_not_markup(text: str) -> None:
    plan = three_clip_plan(name=f"{text}.mp4", title=f"title {text}")
    table = printed(timeline_table(plan), 120)
    assert f"title {text}" in table and f"{text.split('/')[-1]}.mp4" in table
    assert f"{text}.mp4" in printed(source_table(a_source(f"{text}.mp4")), 120)


def test_a_document_is_written_to_be_read() -> None:
    document = timeline_document(three_clip_plan(title="Añelo 2-1"))
    text = dump_document(document)
    assert json.loads(text) == document
    assert '  "frames": 165,\n' in text and "Añelo" in text


def test_every_frame_has_a_row_per_layer() -> None:
    out = io.StringIO()
    write_frames(three_clip_plan(), out)
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


def test_the_table_of_a_source_tells_every_fact() -> None:
    table = printed(source_table(a_source("a.mp4", frames=60)), 60)
    for fact, value in source_document(a_source("a.mp4", frames=60)).items():
        assert fact in table and str(value) in table
