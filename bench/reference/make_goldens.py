"""Makes the golden outputs of the networks with the reference implementation.

`python -m bench.reference.make_goldens [FOLDER_OF_REAL_WEIGHTS]`, from the root of the project, in
an environment with the reference (README.md here). Seeded weights need no file; with a folder of
real weights, their goldens are made too. Of the engine's own networks only the shapes are used.
"""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import torch

from tests.engine.upscale.material import GOLDENS, INPUT_SIZE, REAL_WEIGHTS, SEED, SHAPES
from tests.engine.upscale.original import original_network
from tests.engine.upscale.seeded import checksum, fill, noise

DENOISE_STRENGTH = 0.3


def main() -> None:
    torch.set_num_threads(2)
    for name, shape in SHAPES.items():
        network = original_network(shape)
        fill(network, SEED)
        write(f"seeded-{name}", network, checksum=np.uint32(checksum(network)))
    if len(sys.argv) > 1:
        make_real(Path(sys.argv[1]))


def make_real(folder: Path) -> None:
    states = {
        name: torch.load(folder / file, weights_only=True, map_location="cpu")["params"]
        for name, file in REAL_WEIGHTS.items()
    }
    strong, weak = states["general"], states["general-wdn"]
    states["general-denoise"] = {  # as RealESRGANer.dni does
        key: DENOISE_STRENGTH * strong[key] + (1 - DENOISE_STRENGTH) * weak[key] for key in strong
    }
    for name, state in states.items():
        kind = "realesr-animevideov3" if name == "animevideov3" else "realesr-general-x4v3"
        network = original_network(SHAPES[kind])
        network.load_state_dict(state, strict=True)
        write(f"real-{name}", network)


def write(name: str, network: torch.nn.Module, **more: np.generic) -> None:
    rgb = noise(SEED, *INPUT_SIZE)
    with torch.inference_mode():
        out = network(rgb)
    np.savez_compressed(GOLDENS / f"{name}.npz", input=rgb.numpy(), output=out.numpy(), **more)  # type: ignore[arg-type]
    print(f"{name}: {tuple(out.shape)}, {float(out.min()):.3f} to {float(out.max()):.3f}")


if __name__ == "__main__":
    main()
