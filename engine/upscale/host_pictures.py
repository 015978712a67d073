"""Finished pictures from a network's result in host memory, by the integer sampler.

On a CPU it is far faster than resampling in torch.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import astuple

import numpy as np
import torch
from torch import Tensor

from engine.geometry import Framing, Size
from engine.pixels.crop import CropSampler
from engine.pixels.picture import Picture, SourceFrame
from engine.source import Colour, Matrix, Transfer
from engine.upscale.regions import UpscaleRegion
from engine.upscale.tensors import ycc_of_rgb

_UPSCALED = Colour(Matrix.BT709, full_range=False, transfer=Transfer.SDR, assumed=False)
_DEPTH = 14
"""Bits of an upscaled sample that the sampler is given."""


def host_pictures(
    made: Tensor, batch: Sequence[UpscaleRegion], framing: Framing, scale: int
) -> list[Picture]:
    """A picture for each rectangle of each region, in order.

    `made`: the regions enlarged `scale` times, RGB, float32 (n, 3, h * scale, w * scale).
    """
    codes = ycc_of_rgb(made).mul_(1 << _DEPTH - 8).round_()
    planes = codes.to(torch.uint16).numpy()
    pictures = []
    for each, (y, cb, cr) in zip(batch, planes, strict=True):
        frame = SourceFrame(0, (y, cb, cr), _DEPTH, (1, 1), (0.0, 0.0), planes)
        sampler = CropSampler(
            display_size=Size(y.shape[1], y.shape[0]),
            rotation_deg=0,
            colour=_UPSCALED,
            target=framing.target,
            fit=framing.fit,
            tilt_deg=framing.tilt_deg,
            whole=each.enlarged_frame(scale),
        )
        for rect in each.rects:
            picture = Picture(framing.target)
            place = astuple(each.enlarged(rect, scale))
            sampler.sample(frame, np.array(place), picture)
            pictures.append(picture)
    return pictures
