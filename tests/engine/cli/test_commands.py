"""The command line as a user meets it: files, exit codes, one readable line per error."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from engine.cli.main import app
from tests.clips import numbered_clip
from tests.media import needs_ffmpeg
from tests.witness import video_stream

EDITS = Path(__file__).parents[1] / "edits"


@dataclass(frozen=True)
class Done:
    """How a command ended."""

    returncode: int
    stdout: str
    stderr: str


def framestream(*words: str | Path) -> Done:
    """Runs a command in this process, on a wide plain console."""
    result = CliRunner(env={"COLUMNS": "200", "NO_COLOR": "1"}).invoke(app, [str(w) for w in words])
    if result.exception is not None and not isinstance(result.exception, SystemExit):
        raise result.exception
    return Done(result.exit_code, result.stdout, result.stderr)


@pytest.fixture
def edit(tmp_path: Path) -> Path:
    """An edit over one clip of two seconds, in a folder of its own."""
    folder = tmp_path / "match"
    folder.mkdir()
    numbered_clip(folder / "a.mp4", 60, sound="bursts")
    return write_edit(folder / "edit.json", {"clips": [{"fileName": "a.mp4"}]})


def write_edit(path: Path, document: dict[str, Any]) -> Path:
    small = {"targetWidth": 240, "targetHeight": 144}
    path.write_text(json.dumps(document | small))
    return path


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


def test_chunks_of_another_export_are_taken_from_the_cache(
    edit: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    cache = tmp_path / "cache folder"
    assert framestream("render", edit, "-o", tmp_path / "1.mp4", "--cache", cache).returncode == 0
    monkeypatch.setenv("FRAMESTREAM_CACHE_DIR", str(cache))
    done = framestream("render", edit, "-o", tmp_path / "2.mp4", "--workers", "2")
    assert (done.returncode, "(60 kept from an earlier run)" in done.stdout) == (0, True)
    assert framestream("cache", "--max-gb", "1").stdout.startswith(f"{cache}: 1 chunks, 0.0 MB; 0 ")
    assert framestream("cache", cache, "--max-days", "0").stdout.startswith(f"{cache}: 0 chunks")


@needs_ffmpeg
def test_render_passes_encoder_options_on(edit: Path, tmp_path: Path) -> None:
    out = tmp_path / "out.mp4"
    done = framestream(
        "render", edit, "-o", out, "--encoder-option", "bf=0", "-q", "--preset", "slow"
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    assert video_stream(out)["has_b_frames"] == 0


def test_plan_tells_the_timeline(edit: Path) -> None:
    table = framestream("plan", edit)
    assert table.returncode == 0 and "a.mp4" in table.stdout and "60 frames" in table.stdout
    document = json.loads(framestream("plan", edit, "--json").stdout)
    assert (document["frames"], document["sourceFrames"], document["samples"]) == (60, 60, 96_000)
    rows = framestream("plan", edit, "--frames").stdout.splitlines()
    assert rows[0] == "frame,clip,source_s,x,y,width,height,weight"
    assert rows[31].startswith("30,0,1.000000,0.000,0.000,160.000,96.000,1.0")
    assert len(rows) == 61


def test_probe_tells_what_a_file_is(edit: Path) -> None:
    done = framestream("probe", edit.parent / "a.mp4", "--json")
    facts = json.loads(done.stdout)["files"][0]
    assert (facts["displaySize"], facts["frames"], facts["constantFrameRate"]) == (
        "160x96",
        60,
        True,
    )
    assert "160x96" in framestream("probe", edit.parent / "a.mp4").stdout


def test_doctor_names_what_it_tried() -> None:
    done = framestream("doctor")
    assert done.returncode == 0
    for what in ("libx264", "h264_nvenc", "NVDEC", "FFmpeg", "free disk"):
        assert what in done.stdout


def test_demo_makes_a_reel(tmp_path: Path) -> None:
    done = framestream("demo", tmp_path / "here", "--size", "270x480")
    assert done.returncode == 0, done.stderr
    reel = tmp_path / "here" / "reel.mp4"
    assert f"{reel}: 270x480, 14.000 s, 420 frames" in done.stdout
    assert reel.stat().st_size > 50_000


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


def test_any_name_can_be_written_and_reported(
    edit: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    name = os.fsdecode(b"2:1 [b] 'q' \xff.mp4")
    done = framestream("render", edit, "-o", name, "--report", "report.json", "-q")
    assert (done.returncode, done.stderr) == (0, "")
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
    "malformed", sorted((EDITS / "malformed").glob("*.json")), ids=lambda p: p.stem
)
def test_a_malformed_edit_is_one_line_and_exit_code_2(malformed: Path, tmp_path: Path) -> None:
    done = framestream("render", malformed, "-o", tmp_path / "out.mp4")
    assert done.returncode == 2
    assert done.stdout == "" and len(done.stderr.splitlines()) == 1
    assert done.stderr.startswith("error ") and "Traceback" not in done.stderr
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("name", "content", "reason"),
    [
        ("gone.mp4", None, "does not exist"),
        ("text.mp4", b"not a film", "not"),
        ("empty.mp4", b"", ""),
    ],
)
def test_a_bad_file_is_named_with_its_place_in_the_edit(
    name: str, content: bytes | None, reason: str, edit: Path
) -> None:
    if content is not None:
        (edit.parent / name).write_bytes(content)
    write_edit(edit, {"clips": [{"fileName": "a.mp4"}, {"fileName": name}]})
    done = framestream("render", edit, "-o", edit.parent / "out.mp4")
    assert done.returncode == 2
    assert done.stderr.startswith("error clips[1].fileName: ") and name in done.stderr
    assert reason in done.stderr.lower() and len(done.stderr.splitlines()) == 1


def test_a_sound_file_is_not_a_clip(edit: Path) -> None:
    subprocess.run(
        ["ffmpeg", "-v", "error", "-f", "lavfi", "-i", "sine=d=1", edit.parent / "tune.m4a"],
        check=True,
    )
    write_edit(edit, {"clips": [{"fileName": "tune.m4a"}]})
    done = framestream("plan", edit)
    assert done.returncode == 2 and "no video" in done.stderr


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


def test_unknown_keys_are_errors_or_warnings(edit: Path) -> None:
    write_edit(edit, {"clips": [{"fileName": "a.mp4", "titel": "x"}]})
    refused = framestream("plan", edit)
    assert refused.returncode == 2 and "clips[0].titel" in refused.stderr
    allowed = framestream("plan", edit, "--allow-unknown-keys")
    assert allowed.returncode == 0 and allowed.stderr.startswith("warning clips[0].titel")


@pytest.mark.parametrize(
    ("output", "report", "said"),
    [
        ("nowhere/out.mp4", "report.json", "nowhere/out.mp4: there is no folder"),
        ("out.mp4", "nowhere/report.json", "nowhere/report.json: there is no folder"),
        ("edit.json", "report.json", "edit.json: is the edit; it is not overwritten"),
        ("out.mp4", "./edit.json", "edit.json: is the edit; it is not overwritten"),
        ("out.mp4", "out.mp4", "out.mp4: is the output; it is not overwritten"),
    ],
)
def test_what_cannot_be_written_is_told_before_the_work(
    output: str, report: str, said: str, edit: Path
) -> None:
    folder, before = edit.parent, edit.read_bytes()
    done = framestream("render", edit, "-o", folder / output, "--report", folder / report)
    assert done.returncode == 1 and said in done.stderr and len(done.stderr.splitlines()) == 1
    assert edit.read_bytes() == before
    assert sorted(path.name for path in folder.iterdir()) == ["a.mp4", "edit.json"]


def test_ctrl_c_is_exit_code_130_and_leaves_nothing_under_the_final_name(tmp_path: Path) -> None:
    numbered_clip(tmp_path / "a.mp4", 600)
    clips = [{"fileName": "a.mp4"}] * 10
    edit = write_edit(tmp_path / "edit.json", {"clips": clips})
    out = tmp_path / "out.mp4"
    with subprocess.Popen(
        [sys.executable, "-m", "engine", "render", edit, "-o", out, "--preset", "slower"],
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        assert process.stderr is not None
        for line in process.stderr:
            if line.startswith("rendering: "):
                break
        time.sleep(0.5)
        process.send_signal(signal.SIGINT)
        asked_s = time.monotonic()
        said = process.stderr.read()
        code = process.wait()
    assert (code, "cancelled" in said) == (130, True)
    assert time.monotonic() - asked_s < 5
    assert not out.exists() and not list(tmp_path.glob(".*.partial"))
