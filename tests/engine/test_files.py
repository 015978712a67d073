"""A file under its final name is whole."""

from __future__ import annotations

import errno
import os
from pathlib import Path

import av
import pytest

from engine.errors import EngineError, OutputError
from engine.files import file_url, whole_file


def test_the_name_appears_with_the_whole_content(tmp_path: Path) -> None:
    destination = tmp_path / "out.mp4"
    destination.write_text("old")
    with whole_file(destination) as path:
        path.write_text("half")
        assert path.parent == tmp_path  # on the same file system, or a rename is a copy
        assert destination.read_text() == "old"
        path.write_text("whole")
    assert destination.read_text() == "whole"
    assert list(tmp_path.iterdir()) == [destination]


def test_the_file_is_the_one_that_was_written(tmp_path: Path) -> None:
    destination = tmp_path / "out"
    with whole_file(destination) as path:
        path.write_text("x")
        written = path.stat().st_ino
    assert destination.stat().st_ino == written


@pytest.mark.parametrize("error", [ValueError("no"), KeyboardInterrupt(), EngineError("stop")])
def test_after_an_error_the_old_file_is_all_there_is(error: BaseException, tmp_path: Path) -> None:
    destination = tmp_path / "out.mp4"
    destination.write_text("old")
    with pytest.raises(type(error)), whole_file(destination) as path:
        path.write_text("half")
        raise error
    assert destination.read_text() == "old"
    assert list(tmp_path.iterdir()) == [destination]


def test_what_was_left_by_a_kill_is_written_over(tmp_path: Path) -> None:
    destination = tmp_path / "out"
    with whole_file(destination) as path:
        left = path
        path.write_text("x")
    left.write_text("from a run that was killed")
    with whole_file(destination) as path:
        path.write_text("new")
    assert destination.read_text() == "new"
    assert list(tmp_path.iterdir()) == [destination]


def test_a_full_disk_is_an_error_that_names_the_file(tmp_path: Path) -> None:
    destination = tmp_path / "out.mp4"
    with pytest.raises(OutputError) as raised, whole_file(destination) as path:
        path.write_text("half")
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(path))
    assert str(raised.value) == f"{destination}: cannot be written: no space left on device"
    assert list(tmp_path.iterdir()) == []


def test_a_folder_that_is_not_there_is_an_error_that_names_the_file(tmp_path: Path) -> None:
    destination = tmp_path / "nowhere" / "out.mp4"
    said = r"nowhere/out\.mp4: cannot be written: no such file"
    with pytest.raises(OutputError, match=said), whole_file(destination) as path:
        path.write_text("x")


def test_a_colon_in_a_name_is_no_protocol(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    name = Path("final: 2-1.mp4")
    with av.open(file_url(name), "w", format="mp4") as container:
        container.add_stream("aac", rate=48_000, layout="mono")
        container.start_encoding()
    assert name.exists()
