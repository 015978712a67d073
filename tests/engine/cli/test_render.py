"""`framestream render`: the file, the report, its options, and Ctrl-C."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.clips import numbered_clip
from tests.disks import fill, small_disk
from tests.engine.cli.program import framestream, interrupted, write_edit
from tests.media import needs_ffmpeg
from tests.witness import key_frames, video_stream


def test_render_writes_file_and_report(edit: Path, tmp_path: Path) -> None:
    out, report = tmp_path / "out.mp4", tmp_path / "report.json"
    done = framestream("render", edit, "-o", out, "--report", report)
    assert (done.returncode, done.stdout.startswith(f"{out}: 240x144, 2.000 s, 60 frames")) == (
        0,
        True,
    )
    assert "rendering: " in done.stderr and "ETA" in done.stderr
    facts = json.loads(report.read_text())
    assert (facts["frames"], facts["encoder"], facts["bottleneck"]) == (
        60,
        "libx264",
        facts["bottleneck"],
    )
    assert {"decode", "crop", "encode", "sound", "join"} <= set(facts["stage_s"])
    assert facts["encoder_why"] and facts["upscaler_why"] and facts["device"]
    assert not (tmp_path / "out.mp4.parts").exists()


def test_a_render_loads_only_what_it_needs(edit: Path, tmp_path: Path) -> None:
    """Not the compiler, once an earlier run has used it; nor what other commands need."""
    first_and_second = [loaded_by_render(edit, tmp_path / "out.mp4") for _ in range(2)]
    assert {"engine.cli.render", "llvmlite", "numpy", "av"} <= first_and_second[1]
    heavy = {"numba", "numpy.ma", "rich.progress", "torch", "backend", "engine.cli.concat"}
    assert not first_and_second[1] & heavy


def loaded_by_render(edit: Path, out: Path) -> set[str]:
    """The modules that a process loads which renders the edit."""
    code = (
        "import atexit, sys\n"
        "from engine.cli.main import main\n"
        "atexit.register(lambda: print(*sys.modules))\n"
        "main()"
    )
    words = [
        "render",
        str(edit),
        "-o",
        str(out),
        "--upscaler",
        "none",
        "--encoder",
        "libx264",
        "--quiet",
    ]
    command = [sys.executable, "-c", code, *words]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    return set(done.stdout.split())


@needs_ffmpeg
def test_render_passes_encoder_options_on(edit: Path, tmp_path: Path) -> None:
    out = tmp_path / "out.mp4"
    done = framestream(
        "render", edit, "-o", out, "--encoder-option", "bf=0", "-q", "--preset", "slow"
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    assert video_stream(out)["has_b_frames"] == 0


@needs_ffmpeg
def test_the_key_interval_is_the_option_s_else_the_edit_s(tmp_path: Path) -> None:
    numbered_clip(tmp_path / "a.mp4", 24)
    out, report = tmp_path / "out.mp4", tmp_path / "report.json"
    clips = {"clips": [{"fileName": "a.mp4"}]}
    plain = write_edit(tmp_path / "plain.json", clips)
    often = write_edit(tmp_path / "often.json", {**clips, "keyInterval": 0.3})
    for edit, words, interval, keys in (
        (plain, [], 60, [0]),
        (often, [], 9, [0, 9, 18]),
        (often, ["--key-interval", "0.5"], 15, [0, 15]),
    ):
        done = framestream("render", edit, "-o", out, "-q", "--report", report, *words)
        assert (done.returncode, done.stderr) == (0, "")
        assert json.loads(report.read_text())["key_interval"] == interval
        assert key_frames(out) == keys


@pytest.mark.parametrize("seconds", ["0.09", "61", "-1", "nan", "often"])
def test_a_key_interval_that_cannot_be_is_named(seconds: str, edit: Path) -> None:
    out = edit.parent / "out.mp4"
    done = framestream("render", edit, "-o", out, f"--key-interval={seconds}")
    assert done.returncode == 2 and not out.exists()
    assert "key-interval" in done.stderr or "key_interval" in done.stderr


def test_any_name_can_be_written_and_reported(
    edit: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    name = os.fsdecode(b"2:1 [b] 'q' \xff.mp4")
    done = framestream("render", edit, "-o", name, "--report", "report.json")
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("2:1 [b] 'q' \\udcff.mp4: 240x144, ")
    assert json.loads(Path("report.json").read_text())["output"] == name
    assert sorted(path.name for path in tmp_path.glob("*.*")) == sorted([name, "report.json"])


def test_a_work_folder_keeps_what_else_lies_in_it(edit: Path, tmp_path: Path) -> None:
    work = tmp_path / "work"
    work.mkdir()
    (work / "thesis.txt").write_text("mine")
    done = framestream("render", edit, "-o", tmp_path / "out.mp4", "--work-dir", work, "-q")
    assert done.returncode == 0
    assert [path.name for path in work.iterdir()] == ["thesis.txt"]


@pytest.mark.parametrize(
    "words",
    [
        ["--encoder", "nonsense"],
        ["--encoder-option", "bogus=1"],
        ["--encoder-option", "bf"],
        ["--preset", "warp"],
        ["--upscaler", "magic"],
        ["--device", "cuda"],
    ],
)
def test_a_bad_option_is_one_line_and_exit_code_2(words: list[str], edit: Path) -> None:
    done = framestream("render", edit, "-o", edit.parent / "out.mp4", *words)
    assert done.returncode == 2
    assert done.stderr.startswith("error ") and len(done.stderr.splitlines()) == 1


def test_ctrl_c_is_exit_code_130_and_leaves_nothing_under_the_final_name(tmp_path: Path) -> None:
    numbered_clip(tmp_path / "a.mp4", 600)
    edit = write_edit(tmp_path / "edit.json", {"clips": [{"fileName": "a.mp4"}]})
    out, parts = tmp_path / "out.mp4", tmp_path / "out.mp4.parts"
    command: list[str | Path] = ["render", edit, "-o", out, "--preset", "slower"]
    done = interrupted(*command, once=lambda: [*parts.glob(".*.partial")])
    assert (done.returncode, "cancelled" in done.stderr) == (130, True)
    assert not out.exists() and not list(tmp_path.glob(".*.partial"))


@pytest.mark.parametrize("in_the_way", ["a folder", "a file where a folder should be"])
def test_a_film_does_not_fail_over_its_statistics(
    in_the_way: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    numbered_clip(tmp_path / "a.mp4", 10)
    edit = write_edit(tmp_path / "edit.json", {"clips": [{"fileName": "a.mp4"}]})
    history = tmp_path / "speeds"
    if in_the_way == "a folder":
        history.mkdir()
    else:
        history.write_text("")
        history = history / "below"
    monkeypatch.setenv("FRAMESTREAM_HISTORY", str(history))
    done = framestream("render", edit, "-o", tmp_path / "out.mp4")
    assert done.returncode == 0, done.stderr
    assert "warning the speed of this export is not remembered" in done.stderr
    assert (tmp_path / "out.mp4").stat().st_size > 1000


def test_a_film_stays_where_everything_beside_it_fails(
    edit: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """No home, a file for a cache, and a full disk for the report: only that was asked for."""
    for variable in ("HOME", "XDG_CACHE_HOME", "FRAMESTREAM_HISTORY"):
        monkeypatch.delenv(variable, raising=False)
    monkeypatch.setattr("platformdirs.user_cache_path", no_home)
    (cache := tmp_path / "cache").touch()
    out = tmp_path / "out.mp4"
    done = framestream("render", edit, "-o", out, "--cache", cache)
    assert done.returncode == 0, done.stderr
    assert "warning the cache is left out from here on" in done.stderr
    assert "warning the speed of this export is not remembered: the user has no home" in done.stderr
    with small_disk(tmp_path / "disk", 1 << 16) as disk:
        fill(disk)
        done = framestream("render", edit, "-o", out, "--report", disk / "report.json")
    assert done.returncode == 1
    assert "report.json: cannot be written: no space left on device" in done.stderr
    assert out.stat().st_size > 1000 and f"{out}: 240x144" in done.stdout


def no_home(_: str) -> Path:
    raise RuntimeError("could not determine the home directory")
