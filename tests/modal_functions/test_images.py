"""What the containers are made of, as far as that can be told without building them."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path
from typing import Any

import pytest
import torch
from packaging.requirements import Requirement

import engine
from engine.upscale.inference import Precision, Runner
from engine.upscale.models import MODELS
from engine.upscale.network import CompactShape, Network
from engine.upscale.network_stage import NetworkStage
from engine.upscale.stage import PlainResampler
from modal_functions import renderer
from modal_functions import video_processing as functions
from modal_functions.images import (
    _WEIGHTS_SOURCES,
    REQUIREMENTS,
    TENSORRT,
    TORCH,
    _fetches_no_weights,
    _weights_sha256,
)
from tests.engine.upscale.seeded import seeded_module
from tests.engine.upscale.stages import PerClip

ROOT = Path(engine.__file__).parent


def declared() -> dict[str, Requirement]:
    project = tomllib.loads((ROOT.parent / "pyproject.toml").read_text())["project"]
    extras = project["optional-dependencies"]
    lines = [*project["dependencies"], *extras["upscale"], *extras["s3"], *extras["tensorrt"]]
    return {Requirement(line).name: Requirement(line) for line in lines}


@pytest.mark.parametrize("line", [*REQUIREMENTS, TORCH, TENSORRT])
def test_what_is_installed_is_what_the_project_declares(line: str) -> None:
    installed = Requirement(line)
    project = declared()[installed.name]
    pinned = [each.version for each in installed.specifier if each.operator == "=="]
    if pinned:
        assert project.specifier.contains(pinned[0])
    else:
        assert installed.specifier == project.specifier


def test_nothing_that_the_engine_needs_is_left_out() -> None:
    shown = {"typer", "rich", "framestream", "tensorrt-cu12"}  # the command line's, and an extra
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


SNAPSHOT = """
import sys, torch
def refuse(*_): raise SystemExit("the GPU was asked for")
for name in ("is_available", "device_count", "init", "current_device", "get_device_properties"):
    setattr(torch.cuda, name, refuse)
from modal_functions.renderer import load_modules
load_modules()
print("engine.upscale.network_stage" in sys.modules)
"""


def test_a_renderer_s_memory_is_kept_before_anyone_asks_for_a_gpu() -> None:
    """There is none yet, which torch and the driver would remember."""
    environment = {**os.environ, "FRAMESTREAM_DEVICE": "cuda"}
    command = [sys.executable, "-c", SNAPSHOT]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert done.stdout == "True\n", done.stderr


class Recorder:
    """A `CompiledNetwork` that notes what it is given."""

    dtype = torch.float32
    fixed_shapes = False

    def __init__(self) -> None:
        self.shapes: list[tuple[int, ...]] = []

    def __call__(self, images: torch.Tensor) -> torch.Tensor:
        self.shapes.append(tuple(images.shape))
        return images


def test_a_renderer_is_warm_for_the_usual_crops(monkeypatch: pytest.MonkeyPatch) -> None:
    """A 9:16 crop of the full height, with 8 pixels around it, in multiples of 16."""
    shape = CompactShape(features=4, inner_convs=1, scale=4)
    network, recorder = Network(shape, seeded_module(shape, 1)), Recorder()
    runner = Runner(network, torch.device("cpu"), Precision.FP32, compiled=recorder)
    upscaler = PerClip(above=NetworkStage(runner), below=PlainResampler())
    monkeypatch.setattr(renderer, "choose_upscaler", lambda *_: upscaler)
    renderer.RendererState.loaded()
    sides = [(height, -(-(height * 9 / 16 + 16) // 16) * 16) for height in (1080, 720)]
    assert recorder.shapes == [(1, 3, height, width) for height, width in sides]
    assert runner.images == 0


def test_the_models_are_known_by_their_hashes() -> None:
    assert _weights_sha256() == {name: model.sha256 for name, model in MODELS.items()}
