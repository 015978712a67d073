"""What the tests of networks compare: cases, goldens, and real weights where there are any."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest
import torch

from engine.upscale.network import CompactShape, RRDBShape, Shape

GOLDENS = Path(__file__).parent / "goldens"

SHAPES: dict[str, Shape] = {
    "realesr-general-x4v3": CompactShape(features=64, inner_convs=32, scale=4),
    "realesr-animevideov3": CompactShape(features=64, inner_convs=16, scale=4),
    "realesrgan-x4plus": RRDBShape(features=64, growth=32, blocks=23, scale=4),
    "realesrgan-x2plus": RRDBShape(features=64, growth=32, blocks=23, scale=2),
    "realesrgan-x4plus-anime-6b": RRDBShape(features=64, growth=32, blocks=6, scale=4),
}
"""The networks of the official models; the wdn companion has the shape of its partner."""

REAL_WEIGHTS = {
    "animevideov3": "realesr-animevideov3.pth",
    "general": "realesr-general-x4v3.approx.pth",
    "general-wdn": "realesr-general-wdn-x4v3.approx.pth",
}
"""Files that are not part of the project."""

SEED = 20_240_607
INPUT_SIZE = 10, 12
"""Height and width of the goldens' inputs."""


def real_weights(name: str) -> Path:
    """A file of real weights, or a skip that says how to have it."""
    beside = Path(__file__).resolve().parents[4] / "shared" / "weights"
    folder = Path(os.environ.get("FRAMESTREAM_WEIGHTS_DIR", beside))
    path = folder / REAL_WEIGHTS[name]
    if not path.exists():
        pytest.skip(f"{path.name} is not in {folder} (set FRAMESTREAM_WEIGHTS_DIR)")
    return path


def psnr_db(found: torch.Tensor, wanted: torch.Tensor) -> float:
    """Peak signal to noise ratio; the peak is the range of what is wanted, 1 for pictures."""
    wanted = wanted.double()
    peak = float(wanted.max() - wanted.min())
    error = float((found.double().to(wanted.device) - wanted).square().mean())
    return float(10 * np.log10(max(1.0, peak) ** 2 / max(error, 1e-30)))
