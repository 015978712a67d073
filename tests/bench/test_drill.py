"""The drill: a short one is clean, and it is not blind."""

from __future__ import annotations

import json
import sqlite3
import subprocess
import sys
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from random import Random

import pytest

from bench import tables
from bench.drill import __main__ as drill_program
from bench.drill.exports import clips_in
from bench.drill.round import Round
from bench.drill.tally import Finding, Tally
from bench.drill.witness import (
    check_end,
    check_rows,
    left_over,
    left_over_later,
    local_witness,
    wrong_film,
)
from tests.media import needs_ffmpeg

TABLES = """
CREATE TABLE export_jobs (user_id, id, folder, output_key, leftovers, status);
CREATE TABLE working_videos (id, project_id, version, key);
CREATE TABLE projects (id, working_video_id);
CREATE TABLE outside_tasks (kind);
INSERT INTO export_jobs VALUES ('anna', 'one', 'f1', 'anna/1.mp4', 0, 'done');
INSERT INTO working_videos VALUES (1, '7', 1, 'anna/1.mp4');
INSERT INTO projects VALUES ('7', 1);
"""


@needs_ffmpeg
def test_a_short_drill_finds_nothing(tmp_path: Path) -> None:
    counted = tmp_path / "drill.json"
    words = ["--times", "1", "--only", "kills,records", "--json", str(counted)]
    assert drill_program.main(words) == 0
    document = json.loads(counted.read_text())
    kills, records = document["scenarios"]
    assert kills["accepted"] == kills["done"] >= 2
    assert kills["log_lines"] > 0
    assert records["accepted"] == records["done"] == 2
    lines = list(tables.drill(document))
    assert any(line.startswith("| kills | 1 | ") for line in lines)


def quiet_round(folder: Path) -> Round:
    """A round in which nothing happened, and a server's folder with one finished export."""
    store = folder / "data" / "store" / "anna"
    store.mkdir(parents=True)
    (store / "1.mp4").touch()
    with closing(sqlite3.connect(folder / "data" / "framestream.db")) as database:
        database.executescript(TABLES)
    return Round(Random(1), folder, (), Tally("quiet"), 1)


def findings(drill: Round) -> dict[Finding, int]:
    """What is found in its folder, in numbers."""
    witness = local_witness(drill.folder / "data")
    drill.tally.find_all(Finding.LEFT_OVER, left_over(witness))
    drill.tally.find_all(Finding.LEFT_OVER, left_over_later(witness.data))
    check_rows(drill, witness, ["one"])
    check_end(drill)
    return {finding: len(what) for finding, what in drill.tally.found.items() if what}


def test_nothing_is_found_where_nothing_is_wrong(tmp_path: Path) -> None:
    assert findings(quiet_round(tmp_path)) == {}


def statement(sql: str) -> Callable[[Path], None]:
    def change(folder: Path) -> None:
        with closing(sqlite3.connect(folder / "data" / "framestream.db")) as database:
            database.executescript(sql)

    return change


def file(name: str) -> Callable[[Path], None]:
    def change(folder: Path) -> None:
        path = folder / "data" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()

    return change


@pytest.mark.parametrize(
    ("change", "finding"),
    [
        (file("work/f1/out.mp4"), Finding.LEFT_OVER),
        (file("work/f2/a.mp4"), Finding.LEFT_OVER),
        (file("uploads/abc"), Finding.LEFT_OVER),
        (file("store/anna/temp/chunk.mp4"), Finding.LEFT_OVER),
        (file("store/.incoming/.object"), Finding.LEFT_OVER),
        (file("sources/.a.partial"), Finding.LEFT_OVER),
        (statement("INSERT INTO outside_tasks VALUES ('cancel_call')"), Finding.LEFT_OVER),
        (statement("UPDATE export_jobs SET leftovers = 1"), Finding.LEFT_OVER),
        (lambda folder: (folder / "data/store/anna/1.mp4").unlink(), Finding.LOST),
        (statement("DELETE FROM working_videos"), Finding.LOST),
        (statement("DELETE FROM export_jobs"), Finding.LOST),
        (
            statement("INSERT INTO working_videos VALUES (2, '7', 2, 'anna/1.mp4')"),
            Finding.DOUBLE,
        ),
        (statement("UPDATE projects SET working_video_id = 3"), Finding.BROKEN),
        (statement("UPDATE working_videos SET version = 2"), Finding.BROKEN),
    ],
)
def test_what_is_wrong_is_found(
    tmp_path: Path, change: Callable[[Path], None], finding: Finding
) -> None:
    drill = quiet_round(tmp_path)
    change(tmp_path)
    assert finding in findings(drill)


@pytest.mark.parametrize("spelling", ["{raw!r}", "{raw}", "{hex}"])
def test_a_secret_in_a_log_is_found(tmp_path: Path, spelling: str) -> None:
    drill = quiet_round(tmp_path)
    drill.secrets["signing key"] = bytes(range(160, 192))
    raw = drill.secrets["signing key"]
    drill.log("server").write_text(f"1\n{spelling.format(raw=raw, hex=raw.hex())}\n")
    assert findings(drill) == {Finding.SECRET: 1}
    assert drill.tally.log_lines == 2


def test_a_process_that_stays_is_found_and_killed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("bench.drill.witness.CLEARED_WITHIN_S", 0.1)
    drill = quiet_round(tmp_path)
    command = [sys.executable, "-c", "print(flush=True); import time; time.sleep(60)"]
    with subprocess.Popen(command, env=drill.environment(), stdout=subprocess.PIPE) as process:
        assert process.stdout
        process.stdout.readline()
        assert findings(drill) == {Finding.LEFT_OVER: 1}
        assert process.wait(10) < 0


@needs_ffmpeg
def test_another_film_is_told_from_the_right_one(tmp_path: Path) -> None:
    clip = clips_in(tmp_path)[0]
    frames = int(clip.stem)
    assert wrong_film(clip, [*range(frames)]) == ""
    assert wrong_film(clip, [*range(frames - 1)])
    assert wrong_film(clip, [*range(1, frames + 1)])
    clip.write_bytes(b"no film")
    assert "is no film" in wrong_film(clip, [0])
