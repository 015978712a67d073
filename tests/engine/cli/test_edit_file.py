"""The edit that a command is given: what is wrong with it or beside it is one line."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

import tests
from tests.engine.cli.program import framestream, write_edit

MALFORMED = sorted((Path(tests.__file__).parent / "edits" / "malformed").glob("*.json"))
assert MALFORMED


@pytest.mark.parametrize("malformed", MALFORMED, ids=lambda path: path.stem)
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
