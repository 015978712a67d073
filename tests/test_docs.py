"""What README.md and docs/ say is true: edits parse, scripts run, and all that is named exists."""

from __future__ import annotations

import os
import re
import subprocess
from functools import cache
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest
import typer.main
from typer.testing import CliRunner

from backend.app import create_app
from backend.modal_export import app as modal_export
from backend.settings import Settings
from engine.cli.main import app
from engine.errors import EditError
from engine.timeline.document_schema import ClipObject, EditObject
from engine.timeline.edit import Edit
from tests.clips import numbered_clip

ROOT = Path(__file__).parents[1]
README = ROOT / "README.md"
PAGES = [README, *sorted((ROOT / "docs").glob("*.md"))]
"""What users read."""
DEVELOPER_PAGES = [
    ROOT / "CONTRIBUTING.md",
    ROOT / "ARCHITECTURE.md",
    ROOT / "bench" / "README.md",
    ROOT / "bench" / "reference" / "README.md",
]
CHANGELOG = ROOT / "CHANGELOG.md"
EVERY_PAGE = [*PAGES, *DEVELOPER_PAGES, CHANGELOG]

COMMANDS = {
    "render", "plan", "frame", "extract", "concat", "probe", "cache", "doctor", "demo",
    "serve", "key",
}  # fmt: skip


def each(pages: list[Path]) -> pytest.MarkDecorator:
    """The test runs once per page."""
    names = [str(page.relative_to(ROOT)) for page in pages]
    return pytest.mark.parametrize("page", pages, ids=names)


def blocks(page: Path, language: str) -> list[str]:
    """The page's fenced blocks of one language."""
    return re.findall(rf"```{language}\n(.*?)```", page.read_text(), re.DOTALL)


def docs(name: str) -> Path:
    return ROOT / "docs" / name


# README.md


def test_the_readme_is_short() -> None:
    assert len(README.read_text().splitlines()) <= 160


def test_both_commands_make_their_own_environment() -> None:
    commands = re.findall(r"^    (.*-m venv.*)$", README.read_text(), re.MULTILINE)
    for command in commands:
        venv, *others = command.split(" && ")
        assert venv == "python3 -m venv .venv"
        assert all(other.startswith(".venv/bin/") for other in others)
    made, tested = commands
    assert made.endswith(" && .venv/bin/framestream demo")
    assert tested.endswith(" && .venv/bin/python -m pytest -n 2")


@pytest.mark.parametrize("developer", [False, True])
def test_ci_runs_the_command_that_follows_the_mark(tmp_path: Path, developer: bool) -> None:
    """In a project whose programs only write down that they were called."""
    script = tmp_path / ".ci" / "run"
    script.parent.mkdir()
    script.write_text((ROOT / ".ci" / "run").read_text())
    tools = tmp_path / "tools"
    tools.mkdir()
    for name in ("ruff", "mypy", "tests", "ffmpeg", "chromium", "npm"):
        (tools / name).write_text(f'#!/bin/sh\necho "{name} $*" >> log\n')
        (tools / name).chmod(0o755)
    (tmp_path / "README.md").write_text(
        "    another command\n<!-- test command -->\n"
        "    mkdir -p .venv && cp -R tools .venv/bin && .venv/bin/tests of everything\n"
    )
    if developer:
        (tmp_path / ".venv").mkdir()
        (tmp_path / ".venv" / "theirs").touch()
    path = f"{tools}:{os.environ['PATH']}"
    subprocess.run(["bash", script], check=True, env={**os.environ, "PATH": path}, timeout=60)
    npm, *called = (tmp_path / "log").read_text().splitlines()
    assert npm.startswith("npm install ") and npm.endswith(" tus-js-client@4.3")
    assert called == ["ruff check .", "ruff format --check .", "mypy ", "tests of everything"]
    left = [found.name for found in (tmp_path / ".venv").rglob("*")]
    assert left == (["theirs"] if developer else [])


# Edits and scripts


def test_the_edit_of_the_readme_parses() -> None:
    (document,) = blocks(README, "json")
    edit = Edit.parse(document)
    assert [clip.file_name for clip in edit.clips] == ["match.mp4", "match.mp4"]
    assert blocks(docs("edit.md"), "json")[0] == document


@each(PAGES)
def test_every_edit_parses(page: Path) -> None:
    for document in blocks(page, "json"):
        edit = Edit.parse(document)
        assert Edit.parse(edit.to_document()) == edit


def test_every_key_of_the_edit_is_known() -> None:
    """A null means the same as no key, but a key that nobody knows is an error."""
    cells = re.findall(r"^\| (`.*?) \|", docs("edit.md").read_text(), re.MULTILINE)
    keys = [key for cell in cells for key in _spelled_out(re.findall("`(.*?)`", cell))]
    assert "clips[].cropKeyframes[].height" in keys and "globalAspectRatio" in keys
    for key in keys:
        assert len(Edit.parse(_edit_with(key)).clips) == 1
    with pytest.raises(EditError, match="unknown key"):
        Edit.parse(_edit_with("clips[].cropKeyframes[].depth"))
    described = docs("edit.md").read_text()
    for field in (EditObject.model_fields | ClipObject.model_fields).values():
        assert re.search(rf"{field.alias}(\[\])?`", described), f"{field.alias} is not described"


def _spelled_out(keys: list[str]) -> list[str]:
    """`a.x`, `y` is `a.x` and `a.y`; keys of the edit itself have no dot."""
    prefix = keys[0].rpartition(".")[0]
    return [key if "." in key or not prefix else f"{prefix}.{key}" for key in keys]


def _edit_with(key: str) -> dict[str, Any]:
    """An edit with null at a key like `clips[].title`, where it does not need more."""
    required: dict[str, dict[str, Any]] = {
        "clips": {"fileName": "a.mp4"},
        "cropKeyframes": {"time": 0, "x": 0, "y": 0, "width": 9, "height": 9},
    }
    edit: dict[str, Any] = {"clips": [required["clips"]]}
    *outer, last = key.split(".")
    place = edit
    for step in outer:
        name = step.removesuffix("[]")
        inner = dict(required.get(name, {}))
        place[name] = [inner] if step.endswith("[]") else inner
        place = inner
    place.setdefault(last.removesuffix("[]"), None)
    return edit


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where a script finds the clips and the edit that it names."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("R2_BUCKET_NAME", raising=False)
    numbered_clip(tmp_path / "match.mp4", 30)
    (tmp_path / "edit.json").write_text(
        '{"clips": [{"fileName": "match.mp4"}], "targetWidth": 160, "targetHeight": 96}'
    )
    return tmp_path


def run(page: Path, number: int) -> None:
    """One Python script of a page, as it stands there."""
    exec(compile(blocks(page, "python")[number], page.name, "exec"), {})


def test_every_script_is_run_below() -> None:
    found = {page.name: len(blocks(page, "python")) for page in PAGES}
    assert {name: count for name, count in found.items() if count} == {
        "library.md": 3,
        "stores.md": 1,
    }


def test_the_script_runs(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run(docs("library.md"), 0)
    assert (folder / "reel.mp4").stat().st_size > 1000
    said = capsys.readouterr().out
    assert said.startswith("30 frames from 30 source frames\n") and "frames/s, busiest:" in said


def test_the_script_that_writes_an_edit_runs(capsys: pytest.CaptureFixture[str]) -> None:
    run(docs("library.md"), 1)
    assert capsys.readouterr().out == "{'type': 'dissolve', 'duration': 0.5}\n"


def test_the_script_on_processes_runs(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run(docs("library.md"), 2)
    assert (folder / "reel.mp4").stat().st_size > 1000
    assert len(list((folder / "chunks").rglob("*.mp4"))) == 1
    assert capsys.readouterr().out == "1 chunks\n"


def test_the_script_on_stores_runs(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run(docs("stores.md"), 0)
    assert (folder / "store").is_dir()
    assert capsys.readouterr().out == "30 frames; ['7/clips/match.mp4']\n"


# Commands, options, variables, routes


@cache
def helped(command: str) -> str:
    """What `--help` says of a command; `modal_export` is the program of that name."""
    program, arguments = (modal_export, []) if command == "modal_export" else (app, [command])
    return CliRunner(env={"COLUMNS": "200"}).invoke(program, [*arguments, "--help"]).stdout


def test_every_command_is_described() -> None:
    assert set(typer.main.get_group(app).commands) == COMMANDS
    described = re.findall(r"^\| `framestream (\w+)", docs("commands.md").read_text(), re.MULTILINE)
    assert set(described) == COMMANDS


@each(EVERY_PAGE)
def test_every_command_exists(page: Path) -> None:
    assert set(re.findall(r"`framestream (\w+)", page.read_text())) <= COMMANDS
    assert set(re.findall(r"^    framestream (\w+)", page.read_text(), re.MULTILINE)) <= COMMANDS


@each(PAGES)
def test_every_option_exists(page: Path) -> None:
    text = page.read_text()
    every = "".join(helped(command) for command in [*COMMANDS, "modal_export"])
    for option in re.findall(r"`(--[a-z-]+)", text):
        assert re.search(rf"{option}\b(?!-)", every), option
    called = r"(?:framestream|python -m backend\.)(?: ?)(\w+)([^`\n]*)"
    for command, arguments in re.findall(called, text):
        for option in re.findall(r"--[a-z-]+", arguments):
            assert re.search(rf"{option}\b(?!-)", helped(command)), (command, option)


def test_every_setting_of_the_backend_is_described() -> None:
    _, _, section = docs("backend.md").read_text().partition("### Settings\n")
    cells = re.findall(r"^\| (`.*?) \|", section.partition("\n### ")[0], re.MULTILINE)
    names = [name for cell in cells for name in re.findall(r"`([A-Z0-9_]+)`", cell)]
    assert sorted(name.lower() for name in names) == sorted(Settings.model_fields)


@each(EVERY_PAGE)
def test_every_variable_is_read_somewhere(page: Path) -> None:
    named = set(re.findall(r"\b(?:FRAMESTREAM|R2|MODAL|FAIL)_[A-Z_]*[A-Z]\b", page.read_text()))
    read = {name.upper() for name in Settings.model_fields}
    assert named - read <= set(re.findall(r"\b[A-Z][A-Z0-9_]+\b", _sources()))


@cache
def _sources() -> str:
    """The project's Python, but for this file."""
    folders = ("engine", "backend", "modal_functions", "bench", "tests")
    paths = (path for folder in folders for path in sorted((ROOT / folder).rglob("*.py")))
    return "\n".join(path.read_text() for path in paths if path.name != Path(__file__).name)


def test_every_route_is_described() -> None:
    server = create_app()
    offered = {
        (method.upper(), path)
        for path, methods in server.openapi()["paths"].items()
        for method in methods
    }
    beside = {
        ("GET", server.url_path_for("metrics")),
        ("WS", server.url_path_for("follow", export_id="{export_id}")),
    }
    text = docs("backend.md").read_text()
    described = re.findall(r"`(GET|HEAD|POST|PUT|PATCH|DELETE|OPTIONS|WS) (/\S+)`", text)
    assert set(described) == offered | beside


# Names of files and modules, and links


@each([*PAGES, *DEVELOPER_PAGES])
def test_every_module_exists(page: Path) -> None:
    text = re.sub(r"\]\([^)]*\)", "", page.read_text())
    dotted = r"\b((?:engine|backend|bench|modal_functions)(?:\.[a-z_]+)+)\b(?!\.?\w)"
    for name in set(re.findall(dotted, text)):
        if not name.endswith((".py", ".md", ".json")):
            assert find_spec(name) is not None, name


def test_every_module_is_where_the_changelog_says_it_is_now() -> None:
    rows = re.findall(r"^  \| (`.*?) \| (.*?) \|$", CHANGELOG.read_text(), re.MULTILINE)
    assert len(rows) > 10
    for was, now in rows:
        names = re.findall(r"`([\w.]+)`", now)
        if now.startswith("the same names in"):
            old = re.findall(r"`([\w.]+)`", was)
            names = [f"{names[0]}.{each.rpartition('.')[2]}" for each in old]
        for name in names:
            assert find_spec(name) is not None, name


@each([*PAGES, *DEVELOPER_PAGES])
def test_every_file_in_a_command_exists(page: Path) -> None:
    text = page.read_text()
    named = re.findall(r"[ `=]((?:tests|bench|docs|engine|backend)/[\w./-]+)", text)
    assert [path for path in named if not (ROOT / path).exists()] == []


@each(EVERY_PAGE)
def test_every_link_leads_somewhere(page: Path) -> None:
    targets = re.findall(r"\]\(([^)\s]+)\)", _prose(page)) + re.findall(
        r'src="(.*?)"', _prose(page)
    )
    for target in targets:
        if target.startswith(("https://", "http://")):
            continue
        path, _, anchor = target.partition("#")
        there = (page.parent / path).resolve() if path else page
        assert there.exists() and there.is_relative_to(ROOT), target
        assert not anchor or anchor in _anchors(there), target


def _prose(page: Path) -> str:
    """The page without its code."""
    return re.sub(r"^```.*?^```|`[^`\n]*`", "", page.read_text(), flags=re.DOTALL | re.MULTILINE)


def _anchors(page: Path) -> set[str]:
    """Of the page's headings, as GitHub makes them."""
    made: set[str] = set()
    fenced = re.compile(r"^```.*?^```", re.DOTALL | re.MULTILINE)
    for heading in re.findall(r"^#+ (.*)$", fenced.sub("", page.read_text()), re.MULTILINE):
        slug = re.sub(r"[^\w\- ]", "", heading.strip().lower()).replace(" ", "-")
        number = 0
        while (anchor := f"{slug}-{number}" if number else slug) in made:
            number += 1
        made.add(anchor)
    return made


def test_every_page_is_found_from_the_readme() -> None:
    linked = re.findall(r"\]\(([^)#\s]+)", README.read_text())
    assert {str(page.relative_to(ROOT)) for page in PAGES[1:]} <= set(linked)
