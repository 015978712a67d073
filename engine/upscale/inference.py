"""Runs a network on batches of pictures, in the precision that suits the device.

When memory runs out, the batch is halved, and then the picture is tiled. A result that is not
finite is computed again in float32. No picture is lost in silence: it comes out or an error does.
"""

from __future__ import annotations

import threading
from dataclasses import dataclass
from enum import StrEnum
from typing import Protocol

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
"""The part of the device's free memory that a batch is planned to take."""


class Precision(StrEnum):
    """The arithmetic of a network."""

    FP32 = "fp32"
    FP16 = "fp16"
    BF16 = "bf16"

    @property
    def dtype(self) -> torch.dtype:
        """The same as a type of torch."""
        return _DTYPES[self]


_DTYPES = {
    Precision.FP32: torch.float32,
    Precision.FP16: torch.float16,
    Precision.BF16: torch.bfloat16,
}


def best_precision(device: torch.device) -> Precision:
    """The precision that is fast on the device and loses little.

    float16 on CUDA: below compute capability 8.0, as on a T4, bfloat16 is slow. On a CPU bfloat16
    where oneDNN computes in it (AVX-512 and up), else float32: emulated bfloat16 is ten times
    slower.
    """
    if device.type == "cuda":
        return Precision.FP16
    return Precision.BF16 if torch.ops.mkldnn._is_mkldnn_bf16_supported() else Precision.FP32


class CompiledNetwork(Protocol):
    """A network that something else than torch's modules computes."""

    @property
    def dtype(self) -> torch.dtype:
        """The type of the batches that it takes."""

    @property
    def fixed_shapes(self) -> bool:
        """Whether each new shape of a batch costs much time, so that a short batch is padded."""

    def __call__(self, images: Tensor) -> Tensor:
        """A batch (n, 3, h, w), as `Network` takes it, enlarged: any float type."""


@dataclass(frozen=True, slots=True, eq=False)
class TorchCompiled:
    """A `CompiledNetwork` by `torch.compile`, which takes a minute for every new input size.

    It is not the default until `bench/upscale.py` has shown on a CUDA machine that it pays.
    """

    network: Network
    dtype: torch.dtype
    fixed_shapes = True

    def __call__(self, images: Tensor) -> Tensor:
        """See `CompiledNetwork`."""
        return self.network(images)


def torch_compiled(network: Network, device: torch.device, precision: Precision) -> TorchCompiled:
    """The network compiled by torch, on the device. It compiles when it is first called."""
    module = network.to(device, precision.dtype).module
    compiled = torch.compile(module, dynamic=False)
    return TorchCompiled(Network(network.shape, compiled), precision.dtype)  # type: ignore[arg-type]


class Runner:
    """A network on a device. Threads may share it; it computes for one at a time."""

    def __init__(
        self,
        network: Network,
        device: torch.device,
        precision: Precision,
        *,
        compiled: CompiledNetwork | None = None,
    ) -> None:
        """`compiled`: computes batches in place of `network`, in about `precision`.

        What it makes that is not finite is still computed again by `network`, in float32.
        """
        self.shape = network.shape
        self.device = device
        self.precision = precision
        self.images = 0
        """Pictures upscaled so far, each counted once however often it was computed."""
        self.events: list[str] = []
        """What had to be done about memory or precision, one line each."""
        self._full = network
        self._fast = compiled or network.to(device, precision.dtype)
        self._takes = compiled.dtype if compiled else precision.dtype
        self._most = 1 << 30
        """The largest batch that may be tried: it shrinks when memory runs out."""
        self._planned: dict[Size, int] = {}
        """Batch sizes by the size of a picture, as they were first planned."""
        self._pads = device.type == "cuda" or bool(compiled and compiled.fixed_shapes)
        """Whether a new batch size costs more than computing a few pictures in vain."""
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
        if size not in self._planned:  # once: later, memory in use would count as not free
            free_bytes, _ = torch.cuda.mem_get_info(self.device)
            image_bytes = size.width * size.height * pixel_bytes
            fitting = int(MEMORY_SHARE * free_bytes / image_bytes)
            self._planned[size] = max(1, min(fitting, MOST_IMAGES))
        return min(self._planned[size], self._most)

    @torch.inference_mode()
    def __call__(self, images: Tensor) -> Tensor:
        """The upscaled `images`: float32 (n, 3, h * scale, w * scale), not clamped, not checked.

        `images`: float32 (n, 3, h, w) in [0, 1]. Raises `UpscalerError` where not even a small
        tile fits into memory.
        """
        with self._lock:
            self.images += len(images)
            return self._in_parts(self._padded(images))[: len(images)]

    @torch.inference_mode()
    def in_full_precision(self, images: Tensor) -> Tensor:
        """The same computed in float32, for results that were not finite.

        Raises `UpscalerError` where the result is not finite in float32 either.
        """
        with self._lock:
            self.events.append("a result was not finite and was computed again in float32")
            network = self._full.to(self.device)
            made = torch.cat([network(image) for image in torch.split(images, 1)])
        if not bool(made.isfinite().all()):
            raise UpscalerError("the network's result is not finite, in float32 either")
        return made

    def _padded(self, images: Tensor) -> Tensor:
        """Fills the last batch of a run up to the size of those before it, with copies.

        A batch that follows no larger one stays as it is, as in a zoom, where every frame has a
        size of its own.
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
        """Is told that a batch of `images` pictures did not fit. The next are half as large."""
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
        fast = images.to(self._takes, memory_format=self.shape.memory_format)
        return self._fast(fast).float()

    def _free(self) -> None:
        if self.device.type == "cuda":
            torch.cuda.empty_cache()
