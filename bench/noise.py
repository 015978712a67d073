"""Frames of noise in memory, for stages that are measured without files and decoders."""

from __future__ import annotations

import numpy as np

from engine.geometry import Size
from engine.pixels.picture import SourceFrame
from engine.upscale.stage import FrameCrop


def shots_of_noise(frame: Size, crop: Size, count: int, first_x: float) -> list[FrameCrop]:
    """A slow pan over `count` frames of noise, for a stage that enlarges the crop."""
    random = np.random.default_rng(0)
    half = (frame.height // 2, frame.width // 2)
    planes = (
        random.integers(16, 235, (frame.height, frame.width), np.uint8),
        random.integers(90, 166, half, np.uint8),
        random.integers(90, 166, half, np.uint8),
    )
    return [
        FrameCrop(
            SourceFrame(number, planes, 8, (2, 2), (0.0, 0.5), None),
            np.array([first_x + 0.1 * number, 5.0, crop.width, crop.height]),
        )
        for number in range(count)
    ]
