"""Weights and pictures that anyone can make again from a seed, bit for bit, without a file.

Drawn from the raw bits of PCG64, which numpy promises never to change, and scaled by plain IEEE
arithmetic.
"""

from __future__ import annotations

import math
import zlib

import numpy as np
import torch
from numpy.typing import NDArray

from engine.upscale.network import Shape

FLOATS = NDArray[np.float32]


def uniform(bits: np.random.PCG64, shape: tuple[int, ...]) -> FLOATS:
    """Numbers from 0 up to 1, multiples of 2**-24."""
    raw = bits.random_raw(math.prod(shape)) >> np.uint64(40)
    return (raw.astype(np.float32) * np.float32(2**-24)).reshape(shape)


def noise(seed: int, height: int, width: int, batch: int = 1) -> torch.Tensor:
    """Shape (batch, 3, height, width), white noise from 0 to 1."""
    return torch.from_numpy(uniform(np.random.PCG64(seed), (batch, 3, height, width)))


def seeded_module(shape: Shape, seed: int) -> torch.nn.Module:
    """Our network of that shape with seeded weights."""
    with torch.device("meta"):
        module = shape.build()
    module.to_empty(device="cpu")
    fill(module, seed)
    return module


def fill(module: torch.nn.Module, seed: int) -> None:
    """Gives every weight of a module a value, in the order of its state dictionary.

    Convolutions are scaled by their number of inputs, as He et al. do, so that activations keep
    their size; the one behind RRDBNet's blocks is smaller, since each block adds a fifth.
    """
    bits = np.random.PCG64(seed)
    for name, tensor in module.state_dict().items():
        numbers = uniform(bits, tuple(tensor.shape))
        if tensor.ndim == 4:
            gain = 1 / 32 if name == "conv_body.weight" else 1
            bound = gain * math.sqrt(6 / math.prod(tensor.shape[1:]))
            numbers = (numbers * 2 - 1) * np.float32(bound)
        elif name.endswith("bias"):
            numbers = (numbers - np.float32(0.5)) * np.float32(0.1)
        else:  # slopes of PReLU
            numbers = numbers * np.float32(0.5)
        tensor.copy_(torch.from_numpy(numbers))


def checksum(module: torch.nn.Module) -> int:
    """CRC-32 of all weights."""
    crc = 0
    for tensor in module.state_dict().values():
        crc = zlib.crc32(tensor.numpy().tobytes(), crc)
    return crc
