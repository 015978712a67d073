"""What the containers are made of, as far as that can be told without building them."""

from __future__ import annotations

import shutil
import subprocess
import sys
import tomllib
from pathlib import Path
from typing import Any

import pytest
from packaging.requirements import Requirement

import engine
from engine.upscale.models import MODELS
from modal_functions import video_processing as functions
from modal_functions.images import (
    _WEIGHTS_SOURCES,
    REQUIREMENTS,
    TORCH,
    _fetches_no_weights,
    _weights_sha256,
)

ROOT = Path(engine.__file__).parent


def declared() -> dict[str, Requirement]:
    project = tomllib.loads((ROOT.parent / "pyproject.toml").read_text())["project"]
    extras = project["optional-dependencies"]
    lines = [*project["dependencies"], *extras["upscale"], *extras["s3"]]
    return {Requirement(line).name: Requirement(line) for line in lines}


@pytest.mark.parametrize("line", [*REQUIREMENTS, TORCH])
def test_what_is_installed_is_what_the_project_declares(line: str) -> None:
    installed = Requirement(line)
    project = declared()[installed.name]
    pinned = [each.version for each in installed.specifier if each.operator == "=="]
    if pinned:
        assert project.specifier.contains(pinned[0])
    else:
        assert installed.specifier == project.specifier


def test_nothing_that_the_engine_needs_is_left_out() -> None:
    shown = {"typer", "rich"}  # the command line's
    names = {Requirement(line).name for line in (*REQUIREMENTS, TORCH)}
    assert names == set(declared()) - shown


def test_the_files_that_fetch_weights_need_no_others(tmp_path: Path) -> None:
    for name in _WEIGHTS_SOURCES:
        place = tmp_path / "engine" / name
        place.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(ROOT / name, place)
        assert not _fetches_no_weights(Path(name))
    assert _fetches_no_weights(Path("render.py"))
    code = "import engine.upscale.weights as w; print(w.__file__)"
    done = subprocess.run(
        [
            sys.executable,
            "-P",
            "-S",
            "-c",
            f"import sys; sys.path[:0] = {_paths(tmp_path)}; {code}",
        ],
        capture_output=True,
        text=True,
    )
    assert str(tmp_path) in done.stdout, done.stderr


def _paths(folder: Path) -> list[str]:
    """The folder first, then what is installed, without the project's own sources."""
    return [str(folder), *(path for path in sys.path if "site-packages" in path)]


def test_what_each_function_is_given() -> None:
    renderer: Any = functions.Renderer
    for function in (functions.process_multi_clip_item, renderer._get_class_service_function()):
        spec = function._spec_
        assert (spec.gpus, spec.cpu, len(spec.secrets)) == ("T4", 4, 1)
    for function in (functions.concatenate_clips_modal, functions.export_multi_clip):
        spec = function._spec_
        assert (spec.gpus, spec.cpu, len(spec.secrets)) == (None, 2, 1)


def test_the_models_are_known_by_their_hashes() -> None:
    assert _weights_sha256() == {name: model.sha256 for name, model in MODELS.items()}
