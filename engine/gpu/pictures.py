"""A finished picture on a device: made there, blended there, copied only where it must be."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from engine.geometry import Size
from engine.gpu.streams import streams_of
from engine.pixels.blend import WEIGHT_STEPS, fixed_point_weights
from engine.pixels.picture import BLACK, FinishedPicture, Picture


@dataclass(frozen=True, slots=True, eq=False)
class DevicePicture:
    """A `Picture` on a device. `buffer` is its I420, uint8 (h * 3 / 2, w), and complete.

    On CUDA it must be read and written on the default stream.
    """

    size: Size
    buffer: Tensor

    def on_host(self) -> Picture:
        """A copy of it in host memory. Waits for it."""
        return self.download()()

    def download(self) -> Callable[[], Picture]:
        """Starts to copy it to host memory. Calling the result waits for the copy and gives it."""
        copied = streams_of(self.buffer.device).download(self.buffer)
        return lambda: Picture(self.size, copied().numpy())


class DeviceCompositor:
    """The `Compositor` (see `pixels/blend.py`) on a device."""

    def __init__(self, device: torch.device) -> None:
        self._device = device

    def to_device(self, picture: FinishedPicture) -> DevicePicture:
        """See `Compositor`."""
        return on_device(picture, self._device)

    def blend(self, layers: Sequence[tuple[FinishedPicture, float]]) -> DevicePicture:
        """See `Compositor`."""
        return blended([(self.to_device(picture), weight) for picture, weight in layers])


def on_device(picture: FinishedPicture, device: torch.device) -> DevicePicture:
    """The picture itself where it lies on a device already, else a copy of it on `device`."""
    return picture if isinstance(picture, DevicePicture) else uploaded(picture.on_host(), device)


def uploaded(picture: Picture, device: torch.device) -> DevicePicture:
    """A copy of the picture on the device."""
    buffer = torch.from_numpy(picture.buffer)
    return DevicePicture(picture.size, streams_of(device).to_device(buffer))


def blended(layers: Sequence[tuple[DevicePicture, float]]) -> DevicePicture:
    """`pixels.blend.blend` on the device: the same integers, so the same picture bit for bit.

    `layers`: one or two pictures with weights from 0 to 1. What they lack of 1 is black.
    """
    first, second = layers[0][0], layers[-1][0]
    of_first, of_second = fixed_point_weights([weight for _, weight in layers])
    rest = WEIGHT_STEPS - of_first - of_second
    sums = first.buffer.int() * of_first + second.buffer.int() * of_second + WEIGHT_STEPS // 2
    sums[: first.size.height] += rest * BLACK[0]
    sums[first.size.height :] += rest * BLACK[1]
    return DevicePicture(first.size, (sums >> 16).to(torch.uint8))
