"""`framestream plan`: the timeline as a table, JSON and CSV."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from tests.engine.cli.program import framestream, write_edit


def test_plan_tells_the_timeline(edit: Path) -> None:
    table = framestream("plan", edit)
    assert table.returncode == 0 and "a.mp4" in table.stdout and "60 frames" in table.stdout
    document = json.loads(framestream("plan", edit, "--json").stdout)
    assert (document["frames"], document["sourceFrames"], document["samples"]) == (60, 60, 96_000)
    rows = framestream("plan", edit, "--frames").stdout.splitlines()
    assert rows[0] == "frame,clip,source_s,x,y,width,height,weight"
    assert rows[31].startswith("30,0,1.000000,0.000,0.000,160.000,96.000,1.0")
    assert len(rows) == 61


@pytest.mark.parametrize("words", [["--frames"], []])
def test_a_reader_that_has_read_enough_is_no_error(words: list[str], edit: Path) -> None:
    write_edit(edit, {"clips": [{"fileName": "a.mp4"}] * 60})
    command: list[str | Path] = [sys.executable, "-m", "engine", "plan", edit, *words]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        assert process.stdout and process.stderr
        process.stdout.close()
        said = process.stderr.read()
    assert said == b""


def test_names_are_shown_as_they_are(edit: Path) -> None:
    """Neither markup, nor an emoji, nor a control character, nor a second line."""
    name = "[red]:ok:\x1b[1m\nb[/red].mp4"
    write_edit(edit, {"clips": [{"fileName": name}]})
    done = framestream("plan", edit)
    shown = r"[red]:ok:\x1b[1m\nb[/red].mp4"
    assert len(done.stderr.splitlines()) == 1 and shown in done.stderr
