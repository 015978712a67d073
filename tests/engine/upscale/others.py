"""What the tests of other people's networks share, and spandrel where it is installed."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from engine.pixels.picture import Picture
from engine.upscale.inference import Precision, Runner
from engine.upscale.network import Network
from engine.upscale.network_stage import NetworkStage
from engine.upscale.other_networks import network_of_descriptor
from engine.upscale.stage import FrameCrop
from tests.engine.upscale.test_stage import pictures

STUBS = ("torchvision", "torchvision.transforms", "torchvision.transforms.functional")


@contextmanager
def installed_spandrel() -> Iterator[Any]:
    """The package, or a skip that says why there is none.

    torchvision serves two of its architectures, which no test uses, but is imported with it. Where
    there is none that fits, three empty modules stand in for it, so that
    `pip install --no-deps spandrel safetensors einops` is enough beside any torch.
    """
    before = dict(sys.modules)
    try:
        if not _fits("torchvision.transforms.functional"):
            for name in [each for each in sys.modules if each.split(".")[0] == "torchvision"]:
                del sys.modules[name]
            for name in STUBS:
                sys.modules[name] = ModuleType(name)
            functional: Any = sys.modules[STUBS[-1]]
            functional.InterpolationMode = functional.rotate = functional.normalize = None
        try:
            yield importlib.import_module("spandrel")
        except ModuleNotFoundError as error:
            pytest.skip(f"{error.name} is not installed (extra 'models')")
    finally:
        for name in sys.modules.keys() - before.keys():
            if name.split(".")[0] == "torchvision":
                del sys.modules[name]


def _fits(name: str) -> bool:
    try:
        importlib.import_module(name)
    except (ImportError, RuntimeError, OSError, AttributeError):
        return False
    return True


class OneByOne(nn.Module):
    """A descriptor's own call for each image."""

    def __init__(self, descriptor: Any) -> None:
        super().__init__()
        self._descriptor = descriptor

    def forward(self, rgb: Tensor) -> Tensor:
        return torch.cat([self._descriptor(image.clone()) for image in torch.split(rgb, 1)])


def by_descriptor(descriptor: Any, given: list[FrameCrop]) -> list[Picture]:
    """The pictures of a stage whose network is the descriptor's own call, in float32."""
    network = Network(network_of_descriptor(descriptor).shape, OneByOne(descriptor))
    runner = Runner(network, torch.device("cpu"), Precision.FP32)
    return pictures(NetworkStage(runner, batch=1), given)


def unknown_checkpoint(folder: Path) -> Path:
    """Weights that are of no architecture at all."""
    path = folder / "other.pth"
    torch.save({"params": {"head.weight": torch.zeros(3, 3, 3, 3)}}, path)
    return path
