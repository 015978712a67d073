"""Guard of upscaling on a CPU: frames in, pictures out, against the bare network."""

from __future__ import annotations

import numpy as np
import torch

from bench.guard import Guard
from bench.noise import shots_of_noise
from engine.geometry import Fit, Framing, Size
from engine.upscale.inference import Runner, best_precision
from engine.upscale.network import Network
from engine.upscale.network_stage import NetworkStage
from engine.upscale.regions import covering
from tests.engine.upscale.material import SEED, SHAPES
from tests.sources import a_source

FRAME, CROP, TARGET = Size(320, 180), Size(64, 114), Size(256, 456)
SHOTS = 2


def test_upscale(guard: Guard) -> None:
    """Weights are seeded: speed does not depend on them."""
    torch.manual_seed(SEED)
    shape = SHAPES["realesr-animevideov3"]
    network = Network(shape, shape.build().eval().requires_grad_(False))
    device = torch.device("cpu")
    runner = Runner(network, device, best_precision(device))
    stage = NetworkStage(runner, batch=1)
    source, shots = a_source(size=FRAME), shots_of_noise(FRAME, CROP, SHOTS, 100)
    region = covering(np.array([shots[0].rect]), FRAME, shape.multiple)
    image = torch.rand(1, 3, region.height, region.width)

    def ours() -> None:
        assert sum(1 for _ in stage.pictures(shots, source, Framing(TARGET, Fit.STRETCH))) == SHOTS

    def bare() -> None:
        for _ in range(SHOTS):
            runner(image)

    guard("upscale on a CPU", ours, bare, peer="the bare network", rounds=7)
