"""Outputs go into regular files only: links stay, devices and pipes are refused before any work."""

from __future__ import annotations

import os
import socket
import stat
from pathlib import Path

import pytest
from typer.testing import CliRunner

from backend.modal_export import app as modal_export
from engine.cli.main import app
from engine.destination import FILM_SUFFIXES, beside, output_file
from engine.errors import EngineError
from engine.files import whole_file
from engine.media.probe import probe
from engine.pipeline.extract import extract
from engine.pipeline.history import History, Run
from tests.clips import numbered_clip


def special(folder: Path, kind: str) -> Path:
    """Something at `out.mp4` that is no regular file."""
    path = folder / "out.mp4"
    match kind:
        case "a pipe":
            os.mkfifo(path)
        case "a folder":
            path.mkdir()
        case "a socket":
            with socket.socket(socket.AF_UNIX) as server:
                server.bind(os.path.relpath(path))
        case "a device":
            path.symlink_to("/dev/null")
    return path


KINDS = ["a pipe", "a folder", "a socket", "a device"]


@pytest.mark.parametrize("kind", KINDS)
def test_only_a_regular_file_is_written(
    tmp_path: Path, kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)  # the address of a socket may not be long
    path = special(tmp_path, kind)
    before = path.stat()
    with pytest.raises(EngineError, match=rf"out\.mp4: is {kind}, not a file to write"):
        output_file(path)
    assert os.path.samestat(before, path.stat())


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(
    "command",
    [
        ["render", "edit.json", "--upscaler", "none", "-o", "OUT"],
        ["render", "edit.json", "--upscaler", "none", "-o", "film.mp4", "--report", "OUT"],
        ["frame", "edit.json", "--upscaler", "none", "--at", "0", "-o", "OUT"],
    ],
    ids=["render", "report", "frame"],
)
def test_every_command_refuses_it_before_the_work(
    tmp_path: Path, kind: str, command: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "edit.json").write_text('{"clips": [{"fileName": "is not there.mp4"}]}')
    special(tmp_path, kind).rename(tmp_path / "OUT")
    before = (tmp_path / "OUT").stat()
    done = CliRunner().invoke(app, command)
    assert done.exit_code == 1 and f"OUT: is {kind}, not a file to write" in done.output
    assert os.path.samestat(before, (tmp_path / "OUT").stat())
    assert not (tmp_path / "film.mp4").exists()


def test_a_link_stays_and_the_file_behind_it_is_written(tmp_path: Path) -> None:
    (tmp_path / "elsewhere").mkdir()
    target, link = tmp_path / "elsewhere" / "film.mp4", tmp_path / "out.mp4"
    link.symlink_to(target)
    source = probe(numbered_clip(tmp_path / "a.mp4", 12))
    for _ in range(2):  # a link to nothing yet, then to a file
        extract(source, "0", "0.2", link, on_progress=lambda *_: None)
        assert link.is_symlink() and target.is_file() and not target.is_symlink()
        assert len(probe(target).frame_pts) == 6
    assert sorted(path.name for path in target.parent.iterdir()) == ["film.mp4"]


def test_a_circle_of_links_leads_nowhere(tmp_path: Path) -> None:
    (tmp_path / "a.mp4").symlink_to(tmp_path / "b.mp4")
    (tmp_path / "b.mp4").symlink_to(tmp_path / "a.mp4")
    with pytest.raises(EngineError, match=r"a\.mp4"):
        output_file(tmp_path / "a.mp4")


def test_a_needed_file_is_not_overwritten_under_any_name(tmp_path: Path) -> None:
    needed = tmp_path / "edit.json"
    needed.write_text("{}")
    (tmp_path / "link").symlink_to(needed)
    (tmp_path / "hard").hardlink_to(needed)
    for name in ("edit.json", "link", "hard", "../" + tmp_path.name + "/edit.json"):
        with pytest.raises(EngineError, match="is the edit; it is not overwritten"):
            output_file(tmp_path / name, keep={needed: "the edit"})


@pytest.mark.parametrize("name", ["out.webm", "out.MKV", "out.mov", "out.jpg"])
def test_a_name_that_promises_another_format_is_refused(tmp_path: Path, name: str) -> None:
    with pytest.raises(EngineError, match=r"name it \.m4v or \.mp4"):
        output_file(tmp_path / name, suffixes=FILM_SUFFIXES)


@pytest.mark.parametrize("name", ["out.mp4", "out.MP4", "out.m4v", "out"])
def test_names_of_films(tmp_path: Path, name: str) -> None:
    assert output_file(tmp_path / name, suffixes=FILM_SUFFIXES) == tmp_path / name


def test_the_users_own_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.chdir(tmp_path)
    assert output_file("~/out.mp4") == tmp_path / "out.mp4"
    (tmp_path / "~").mkdir()
    assert output_file("~/out.mp4") == tmp_path / "~" / "out.mp4"


def test_a_long_name_has_room_for_its_parts(tmp_path: Path) -> None:
    longest = tmp_path / ("ü" * 125 + ".mp4")
    assert output_file(longest) == longest
    parts = beside(longest, ".parts")
    parts.mkdir()
    assert len(os.fsencode(parts.name)) <= 255 and parts.name.endswith(".parts")
    assert beside(tmp_path / "out.mp4", ".parts") == tmp_path / "out.mp4.parts"
    other = beside(longest.with_name("ü" * 124 + "xx.mp4"), ".parts")
    assert other.name != parts.name
    with pytest.raises(EngineError, match="more than 255 bytes"):
        output_file(tmp_path / ("a" * 252 + ".mp4"))


def test_no_writer_replaces_a_device_or_a_link(tmp_path: Path) -> None:
    """Not only outputs: whoever has no wish for a history names /dev/null."""
    device, target, link = tmp_path / "null", tmp_path / "speeds", tmp_path / "link"
    try:
        os.mknod(device, 0o666 | stat.S_IFCHR, os.makedev(1, 3))
    except OSError:
        os.mkfifo(device)
    link.symlink_to(target)
    before = device.stat()
    with pytest.raises(EngineError, match="not a file to write"), whole_file(device):
        pytest.fail("nothing is written")
    run = Run("none", "libx264", 2, 2, 1, 1, 1, 1.0)
    with pytest.raises(EngineError, match="not a file to write"):
        History(device).add(run)
    History(link).add(run)
    assert link.is_symlink() and History(target).runs() == [run]
    assert os.path.samestat(before, device.stat())
    assert {path.name for path in tmp_path.iterdir()} <= {"null", "speeds", "link", ".speeds.lock"}


def test_an_export_on_modal_refuses_it_before_the_work(tmp_path: Path) -> None:
    (tmp_path / "edit.json").write_text("{}")
    os.mkfifo(tmp_path / "out.mp4")
    command = [str(tmp_path / "edit.json"), "-o", str(tmp_path / "out.mp4")]
    done = CliRunner().invoke(modal_export, command)
    assert done.exit_code == 1 and "is a pipe, not a file to write" in done.output
