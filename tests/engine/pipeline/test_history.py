"""The history of speeds: kept by many at once, and never more than a hint."""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from engine.errors import EngineError, OutputError
from engine.geometry import Size
from engine.pipeline.history import KEPT_PER_KIND, History, Run

RUN = Run("none", "libx264 fast", 64, 48, 1, frames=100, source_frames=50, wall_s=2.0)

ADD = """
import sys
from pathlib import Path
from engine.pipeline.history import History, Run
path, number = Path(sys.argv[1]), int(sys.argv[2])
sys.stdin.read()  # until all are ready
for again in range(KEPT):
    History(path).add(Run(f"network {number}", "libx264", 64, 48, 1, again + 1, 1, 1.0))
""".replace("KEPT", str(KEPT_PER_KIND))


def test_the_latest_of_each_kind_are_kept(tmp_path: Path) -> None:
    history = History(tmp_path / "speeds")
    other = replace(RUN, width=128)
    history.add(other)
    for frames in range(1, KEPT_PER_KIND + 4):
        history.add(replace(RUN, frames=frames))
    kept = history.alike("none", "libx264 fast", Size(64, 48), 1)
    assert [run.frames for run in kept] == list(range(4, KEPT_PER_KIND + 4))
    assert other in history.runs()


def test_eight_processes_at_once_lose_nothing(tmp_path: Path) -> None:
    path = tmp_path / "cache" / "speeds"
    writers = [
        subprocess.Popen([sys.executable, "-c", ADD, path, str(number)], stdin=subprocess.PIPE)
        for number in range(8)
    ]
    for writer in writers:
        assert writer.stdin is not None
        writer.stdin.close()
    assert [writer.wait(120) for writer in writers] == [0] * 8
    for number in range(8):
        kept = History(path).alike(f"network {number}", "libx264", Size(64, 48), 1)
        assert [run.frames for run in kept] == list(range(1, KEPT_PER_KIND + 1))
    assert sorted(each.name for each in path.parent.iterdir()) == [".speeds.lock", "speeds"]


@pytest.mark.parametrize(
    "content",
    [
        b"", b"\xff", b"[]", b"{}", b"7", b"[" * 100_000,
        b'[{"upscaler": "none", "encoder": "libx264", "width": 64, "height": 48, "workers": 1,'
        b' "frames": 1, "source_frames": 1, "wall_s": 1}]',
    ],
    ids=["empty", "no text", "list", "no runs", "number", "nested", "without checksum"],
)  # fmt: skip
def test_a_damaged_history_is_empty_and_replaced(content: bytes, tmp_path: Path) -> None:
    history = History(path := tmp_path / "speeds")
    path.write_bytes(content)
    assert history.runs() == []
    history.add(RUN)
    assert history.runs() == [RUN]


def test_a_history_in_which_a_value_was_changed_is_not_believed(tmp_path: Path) -> None:
    history = History(path := tmp_path / "speeds")
    history.add(RUN)
    document = json.loads(path.read_text())
    document["runs"][0]["wall_s"] = 2000.0
    path.write_text(json.dumps(document))
    assert history.runs() == []


def test_a_folder_that_cannot_be_written_is_an_error_of_the_engine(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    (tmp_path / "folder").mkdir()
    odd = (tmp_path / "file" / "speeds", tmp_path / ("x" * 300) / "speeds", tmp_path / "folder")
    for path in odd:
        with pytest.raises(OutputError, match="cannot be written"):
            History(path).add(RUN)
        assert History(path).runs() == []


def nobody(number: int) -> None:
    raise KeyError(number)


def test_a_user_without_a_home_has_no_history(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As in a container that runs under a number of its own."""
    for variable in ("HOME", "XDG_CACHE_HOME", "FRAMESTREAM_HISTORY"):
        monkeypatch.delenv(variable, raising=False)
    monkeypatch.setattr("pwd.getpwuid", nobody)
    monkeypatch.chdir(tmp_path)
    history = History.of_user()
    assert history.runs() == []
    with pytest.raises(EngineError, match="FRAMESTREAM_HISTORY may name a file"):
        history.add(RUN)
    assert list(tmp_path.iterdir()) == []
