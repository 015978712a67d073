"""A file under its final name is whole."""

from __future__ import annotations

import errno
import fcntl
import os
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import av
import pytest

from engine.errors import EngineError, OutputError
from engine.files import file_url, remove_unfinished, whole_file


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


KILLED = """
import os, signal, sys
from pathlib import Path
from engine.files import whole_file
with whole_file(Path(sys.argv[1])) as path:
    path.write_text("half")
    os.kill(os.getpid(), signal.SIGKILL)
"""


def test_what_a_killed_writer_left_is_removed_by_the_next(tmp_path: Path) -> None:
    """By the next of the same name: other files in the folder are none of its business."""
    destination = tmp_path / "out.mp4"
    others = [tmp_path / name for name in (".out.mp4.partial", ".out.mp4.notes.partial")]
    for other in others:
        other.write_text("a user's")
    for _ in range(2):
        subprocess.run([sys.executable, "-c", KILLED, destination], check=False)
        assert len(list(tmp_path.iterdir())) == 3  # the second has removed what the first left
    with whole_file(tmp_path / "another.mp4") as path:
        path.write_text("another")
        assert len(list(tmp_path.iterdir())) == 4
    with whole_file(destination) as path:
        path.write_text("new")
    assert destination.read_text() == "new"
    assert sorted(tmp_path.iterdir()) == sorted([*others, tmp_path / "another.mp4", destination])


def test_a_living_writer_keeps_its_file(tmp_path: Path) -> None:
    """The last of two that succeeds wins; what they wrote is never mixed."""
    destination = tmp_path / "out.mp4"
    with whole_file(destination) as first:
        first.write_text("first")
        with whole_file(destination) as second:
            second.write_text("second")
            assert first.read_text() == "first"
        assert destination.read_text() == "second"
    assert destination.read_text() == "first"
    assert list(tmp_path.iterdir()) == [destination]


def test_many_writers_of_one_name_at_once(tmp_path: Path) -> None:
    destination = tmp_path / "out"
    contents = [bytes([number]) * 100_000 for number in range(8)]

    def write(content: bytes) -> None:
        for _ in range(20):
            with whole_file(destination) as path:
                path.write_bytes(content)

    with ThreadPoolExecutor(len(contents)) as pool:
        list(pool.map(write, contents))
    assert destination.read_bytes() in contents
    assert list(tmp_path.iterdir()) == [destination]


def test_a_file_that_is_taken_for_a_dead_one_is_made_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Another process may find a new file before its writer has locked it."""
    taken = iter([True, False])

    def flock(_descriptor: int, _how: int) -> None:
        if next(taken, False):
            for path in tmp_path.iterdir():
                path.unlink()

    monkeypatch.setattr(fcntl, "flock", flock)
    with whole_file(tmp_path / "out") as path:
        path.write_text("whole")
    assert (tmp_path / "out").read_text() == "whole"


def test_a_file_system_without_locks_is_written_to(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(_descriptor: int, _how: int) -> None:
        raise OSError(errno.ENOLCK, os.strerror(errno.ENOLCK))

    monkeypatch.setattr(fcntl, "flock", refuse)
    (left := tmp_path / ".out.0123abcd.partial").touch()
    with whole_file(tmp_path / "out") as path:
        path.write_text("whole")
    assert sorted(tmp_path.iterdir()) == [left, tmp_path / "out"]  # it may be a living writer's


def test_the_longest_name_can_be_written(tmp_path: Path) -> None:
    destination = tmp_path / ("\u00e9" * 125 + "x.mp4")  # 255 bytes
    with whole_file(destination) as path:
        path.write_text("x")
    assert list(tmp_path.iterdir()) == [destination]


def test_the_file_has_the_mode_that_the_user_gives_new_files(tmp_path: Path) -> None:
    before = os.umask(0o027)
    try:
        with whole_file(tmp_path / "out") as path:
            path.write_text("x")
    finally:
        os.umask(before)
    assert (tmp_path / "out").stat().st_mode & 0o777 == 0o640


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


def test_a_file_where_a_folder_should_be_is_an_error_that_names_both(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    said = r"file/out\.mp4: cannot be written: not a directory"
    with pytest.raises(OutputError, match=said), whole_file(tmp_path / "file" / "out.mp4") as path:
        path.write_text("x")


def test_a_colon_in_a_name_is_no_protocol(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    name = Path("final: 2-1.mp4")
    with av.open(file_url(name), "w", format="mp4") as container:
        container.add_stream("aac", rate=48_000, layout="mono")
        container.start_encoding()
    assert name.exists()


def test_what_dead_writers_left_goes_and_living_ones_stay(tmp_path: Path) -> None:
    (tmp_path / ".a.json.0123abcd.partial").write_text("half")
    (tmp_path / ".named by a user.partial").write_text("not ours")
    (tmp_path / "a.json").write_text("whole")
    with whole_file(tmp_path / "b.json") as unfinished:
        unfinished.write_text("{}")
        remove_unfinished(tmp_path)
        assert unfinished.exists()
    names = {path.name for path in tmp_path.iterdir()}
    assert names == {".named by a user.partial", "a.json", "b.json"}
