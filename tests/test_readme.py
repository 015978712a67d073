"""What README.md shows is true: its edit parses, its script runs, its options exist."""

from __future__ import annotations

import os
import re
from pathlib import Path

import pytest
from typer.testing import CliRunner

from engine.cli.main import app
from engine.timeline.edit import Edit
from tests.clips import numbered_clip

README = (Path(__file__).parents[1] / "README.md").read_text()


def blocks(language: str) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", README, re.DOTALL)


def test_the_edit_parses() -> None:
    (document,) = blocks("json")
    edit = Edit.parse(document)
    assert [clip.file_name for clip in edit.clips] == ["match.mp4", "match.mp4"]
    assert Edit.parse(edit.to_document()) == edit


def test_the_script_runs(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    script = blocks("python")[0]
    numbered_clip(tmp_path / "a.mp4", 30)
    (tmp_path / "edit.json").write_text(
        '{"clips": [{"fileName": "a.mp4"}], "targetWidth": 160, "targetHeight": 96}'
    )
    before = Path.cwd()
    os.chdir(tmp_path)
    try:
        exec(compile(script, "README.md", "exec"), {})
    finally:
        os.chdir(before)
    assert (tmp_path / "reel.mp4").stat().st_size > 1000
    said = capsys.readouterr().out
    assert said.startswith("30 frames from 30 source frames\n") and "frames/s, busiest:" in said


def test_the_script_on_stores_runs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    numbered_clip(tmp_path / "match.mp4", 30)
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("R2_BUCKET_NAME", raising=False)
    exec(compile(blocks("python")[1], "README.md", "exec"), {})
    assert capsys.readouterr().out == "30 frames; ['7/clips/match.mp4']\n"


def test_every_command_and_option_exists() -> None:
    commands = set(re.findall(r"`framestream (\w+)", README))
    assert commands == {
        "render",
        "plan",
        "probe",
        "doctor",
        "demo",
        "cache",
        "serve",
        "key",
        "frame",
    }
    helped = {
        command: CliRunner(env={"COLUMNS": "200"}).invoke(app, [command, "--help"]).stdout
        for command in commands
    }
    for option in re.findall(r"`(--[a-z-]+)", README):
        if option != "--help":
            assert any(option in text for text in helped.values()), option
