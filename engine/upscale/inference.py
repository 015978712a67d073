"""Runs a network on batches of pictures, in the precision that suits the device.

When memory runs out the batch is halved, and then the picture is tiled; a result that is not
finite is computed again in float32. No picture is given up in silence.
"""

from __future__ import annotations

import threading
from enum import StrEnum

import torch
from torch import Tensor

from engine.errors import UpscalerError
from engine.geometry import Size
from engine.upscale.network import Network
from engine.upscale.tiling import halvings, in_tiles

LEAST_TILE_PX = 64
MOST_IMAGES = 8
"""Larger batches gain nothing on pictures of some hundred thousand pixels."""
MEMORY_SHARE = 0.5
"""Of the device's free memory, what a batch is planned to take."""


class Precision(StrEnum):
    """The arithmetic of a network."""

    FP32 = "fp32"
    FP16 = "fp16"
    BF16 = "bf16"

    @property
    def dtype(self) -> torch.dtype:
        return _DTYPES[self]


_DTYPES = {
    Precision.FP32: torch.float32,
    Precision.FP16: torch.float16,
    Precision.BF16: torch.bfloat16,
}


def best_precision(device: torch.device) -> Precision:
    """float16 on CUDA, since a T4 has no bfloat16 worth the name; on a CPU bfloat16 where oneDNN
    computes in it (AVX-512 and up), elsewhere it would be emulated, ten times slower."""
    if device.type == "cuda":
        return Precision.FP16
    return Precision.BF16 if torch.ops.mkldnn._is_mkldnn_bf16_supported() else Precision.FP32


class Runner:
    """A network on a device. Threads may share it; one at a time is at work."""

    def __init__(
        self,
        network: Network,
        device: torch.device,
        precision: Precision,
        *,
        compiled: bool = False,
    ) -> None:
        """`compiled` by torch, which takes a minute for every shape that comes: not the default
        before `bench/upscale.py` has shown on a CUDA machine that it is worth that."""
        self.shape = network.shape
        self.device = device
        self.precision = precision
        self.images = 0
        """Pictures upscaled so far, each counted once however often it was computed."""
        self.events: list[str] = []
        """What had to be done about memory or precision, one line each."""
        self._full = network
        self._fast = network.to(device, precision.dtype)
        if compiled:
            self._fast = Network(network.shape, torch.compile(self._fast.module, dynamic=False))  # type: ignore[arg-type]
        self._most = 1 << 30
        """Pictures in a batch that are known to fit."""
        self._planned: dict[Size, int] = {}
        """Batch sizes that were told."""
        self._pads = device.type == "cuda" or compiled
        """Whether another shape costs more than the work on a few pictures for nothing."""
        self._fullest: dict[torch.Size, int] = {}
        """The most pictures of one size that were in a batch."""
        self._lock = threading.Lock()

    def batch_size(self, size: Size, asked: int | None = None) -> int:
        """Pictures of that size in one batch, at most as many as were asked for.

        By default one on a CPU, which gains nothing by more, and on CUDA what memory allows, or one
        where it is not known what a picture takes.
        """
        if asked is not None:
            return min(asked, self._most)
        pixel_bytes = self.shape.bytes_per_pixel
        if self.device.type != "cuda" or pixel_bytes is None:
            return 1
        if size not in self._planned:  # once, since what is at work is not free
            free_bytes, _ = torch.cuda.mem_get_info(self.device)
            image_bytes = size.width * size.height * pixel_bytes
            fitting = int(MEMORY_SHARE * free_bytes / image_bytes)
            self._planned[size] = max(1, min(fitting, MOST_IMAGES))
        return min(self._planned[size], self._most)

    @torch.inference_mode()
    def __call__(self, images: Tensor) -> Tensor:
        """`images` (n, 3, h, w), float32 in [0, 1], upscaled; float32, not clamped, not checked.

        Raises `UpscalerError` where not even a small tile fits into memory.
        """
        with self._lock:
            self.images += len(images)
            return self._in_parts(self._padded(images))[: len(images)]

    @torch.inference_mode()
    def in_full_precision(self, images: Tensor) -> Tensor:
        """The same in float32, for results that were not finite. Raises `UpscalerError`."""
        with self._lock:
            self.events.append("a result was not finite and was computed again in float32")
            network = self._full.to(self.device)
            made = torch.cat([network(image) for image in torch.split(images, 1)])
        if not bool(made.isfinite().all()):
            raise UpscalerError("the network's result is not finite, in float32 either")
        return made

    def _padded(self, images: Tensor) -> Tensor:
        """The last batch of a run made as large as those before it, with copies of a picture.

        One that follows no larger one, as in a zoom where every frame has its own size, is left
        as it is.
        """
        if not self._pads:
            return images
        size = images.shape[-2:]
        most = self._fullest[size] = max(self._fullest.get(size, 0), len(images))
        lacking = min(most, self._most) - len(images)
        return (
            images if lacking <= 0 else torch.cat([images, images[-1:].expand(lacking, -1, -1, -1)])
        )

    def out_of_memory(self, images: int) -> None:
        """A batch of so many did not fit: the next are at most half as large."""
        fitting = max(1, images // 2)
        if fitting < self._most:
            self._most = fitting
            self.events.append(f"out of memory: batches of {fitting} from here on")
        self._free()

    def _in_parts(self, images: Tensor) -> Tensor:
        parts = [self._in_memory(part) for part in torch.split(images, self._most)]
        return parts[0] if len(parts) == 1 else torch.cat(parts)

    def _in_memory(self, images: Tensor) -> Tensor:
        try:
            return self._forward(images)
        except torch.OutOfMemoryError:
            self._free()
        if len(images) == 1:
            return self._tiled(images)
        self.out_of_memory(len(images))
        return self._in_parts(images)

    def _tiled(self, image: Tensor) -> Tensor:
        shape = self.shape
        if not shape.can_be_tiled:
            raise UpscalerError(f"{self.device} has not enough memory, and the network cannot tile")
        radius = shape.receptive_radius if shape.tiles_exactly else None
        for side in halvings(max(image.shape[-2:]), LEAST_TILE_PX):
            tile = max(1, side // shape.multiple) * shape.multiple
            self.events.append(f"out of memory: in tiles of {tile} pixels from here on")
            try:
                return in_tiles(self._forward, image, shape.scale, tile, radius, shape.multiple)
            except torch.OutOfMemoryError:
                self._free()
        raise UpscalerError(
            f"{self.device} has not enough memory for a tile of {LEAST_TILE_PX} pixels"
        )

    def _forward(self, images: Tensor) -> Tensor:
        fast = images.to(self.precision.dtype, memory_format=self.shape.memory_format)
        return self._fast(fast).float()

    def _free(self) -> None:
        if self.device.type == "cuda":
            torch.cuda.empty_cache()
