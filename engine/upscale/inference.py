"""Runs a network on batches of pictures, in the precision that suits the device.

Where memory runs out, it makes do with less, in either precision: see `fitting.py`.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import dataclass
from enum import StrEnum
from typing import Protocol

import torch
from torch import Tensor

from engine.geometry import Size
from engine.upscale.fitting import FittingForward
from engine.upscale.fused import fused_on_cuda
from engine.upscale.network import Network
from engine.upscale.tuning import TUNED, Tuning

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

    float16 on CUDA: below compute capability 8.0, as on a T4, bfloat16 is slow. float32 on Apple's
    GPUs, where others report black pictures in float16. On a CPU bfloat16 where oneDNN computes in
    it (AVX-512 and up), else float32: emulated bfloat16 is ten times slower.
    """
    if device.type == "cuda":
        return Precision.FP16
    if device.type == "mps":
        return Precision.FP32
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
    """A network on a device. Threads may share it."""

    def __init__(
        self,
        network: Network,
        device: torch.device,
        precision: Precision,
        *,
        compiled: CompiledNetwork | None = None,
        tuning: Tuning = TUNED,
        at_once: int = 1,
    ) -> None:
        """`compiled`: computes batches in place of `network`, in about `precision`.

        What it makes that is not finite is still computed again by `network`, in float32.
        `at_once`: for how many threads it computes at the same time; others wait.
        """
        self.shape = network.shape
        self.device = device
        self.precision = precision
        self.images = 0
        """Pictures upscaled so far, each counted once however often it was computed."""
        self.events: list[str] = []
        """What had to be done about memory or precision, one line each."""
        self.tuning = tuning
        self._network = network
        self._fast = compiled or self._of_torch(network)
        self._fitting = FittingForward(
            self._forward(self._fast, compiled.dtype if compiled else precision.dtype),
            self.shape,
            device,
            self.events,
        )
        self._fitting_in_full: FittingForward | None = None
        """The same in float32, from when it is first needed."""
        self._planned: dict[Size, int] = {}
        """Batch sizes by the size of a picture, as they were first planned."""
        self._pads = device.type == "cuda" or bool(compiled and compiled.fixed_shapes)
        """Whether a new batch size costs more than computing a few pictures in vain."""
        self._fullest: dict[torch.Size, int] = {}
        """The most pictures of one size that were in a batch."""
        self.at_once = at_once
        self._computing = threading.Semaphore(at_once)
        self._counting = threading.Lock()

    def batch_size(self, size: Size, asked: int | None = None) -> int:
        """Pictures of that size in one batch, at most as many as were asked for.

        By default one on a CPU, which gains nothing by more, and on CUDA what memory allows, or one
        where it is not known what a picture takes.
        """
        if asked is not None:
            return min(asked, self._fitting.most_images)
        pixel_bytes = self.shape.bytes_per_pixel
        if self.device.type != "cuda" or pixel_bytes is None:
            return 1
        if size not in self._planned:  # once: later, memory in use would count as not free
            free_bytes, _ = torch.cuda.mem_get_info(self.device)
            image_bytes = size.width * size.height * pixel_bytes
            fitting = int(MEMORY_SHARE * free_bytes / image_bytes)
            self._planned[size] = max(1, min(fitting, MOST_IMAGES))
        return min(self._planned[size], self._fitting.most_images)

    @torch.inference_mode()
    def __call__(self, images: Tensor) -> Tensor:
        """The upscaled `images`, (n, 3, h * scale, w * scale): not clamped, not checked.

        `images`: float32 (n, 3, h, w) in [0, 1]. The result is float32, or float16 where the
        network computes in that. Raises `UpscalerError` where not even a small tile fits into
        memory.
        """
        with self._counting:
            self.images += len(images)
        with self._computing:
            return self._fitting(self._padded(images))[: len(images)]

    @torch.inference_mode()
    def warm_up(self, size: Size) -> None:
        """Computes one batch of black pictures of that size, so that the first real one is quick.

        Raises `UpscalerError` where not even a small tile fits into memory.
        """
        shape = (self.batch_size(size), 3, size.height, size.width)
        with self._computing:
            self._fitting(torch.zeros(shape, device=self.device))
        if self.device.type == "cuda":
            torch.cuda.synchronize(self.device)

    @torch.inference_mode()
    def in_full_precision(self, images: Tensor) -> Tensor:
        """The same in float32, for pictures whose result was not finite.

        Raises `UpscalerError` where not even a small tile fits into memory.
        """
        with self._computing:
            return self._full()(images)

    def not_finite(self) -> None:
        """Is told that a batch was not finite, and is computed again in float32."""
        self.events.append("a result was not finite and was computed again in float32")

    def out_of_memory(self, images: int, *, in_full_precision: bool = False) -> None:
        """Is told that a batch of `images` pictures did not fit. The next are half as large."""
        with self._computing:
            (self._full() if in_full_precision else self._fitting).halve(images)

    def _of_torch(self, network: Network) -> Network:
        copy = network.to(self.device, self.precision.dtype)
        if self.device.type == "cuda" and self.tuning.fused_activations:
            return fused_on_cuda(copy, self.events)
        return copy

    def _full(self) -> FittingForward:
        if self._fitting_in_full is None:
            network = self._network.to(self.device)
            self._fitting_in_full = FittingForward(
                self._forward(network, torch.float32),
                self.shape,
                self.device,
                self.events,
                lack="out of memory in float32",
                most_images=max(1, self._fitting.most_images // 2),  # it takes twice as much
            )
        return self._fitting_in_full

    def _forward(
        self, network: Callable[[Tensor], Tensor], dtype: torch.dtype
    ) -> Callable[[Tensor], Tensor]:
        def forward(images: Tensor) -> Tensor:
            made = network(images.to(dtype, memory_format=self.shape.memory_format))
            half = made.dtype == torch.float16 and self.tuning.half_results
            return made if half else made.float()

        return forward

    def _padded(self, images: Tensor) -> Tensor:
        """Fills the last batch of a run up to the size of those before it, with copies.

        A batch that follows no larger one stays as it is, as in a zoom, where every frame has a
        size of its own.
        """
        if not self._pads:
            return images
        size = images.shape[-2:]
        most = self._fullest[size] = max(self._fullest.get(size, 0), len(images))
        lacking = min(most, self._fitting.most_images) - len(images)
        return (
            images if lacking <= 0 else torch.cat([images, images[-1:].expand(lacking, -1, -1, -1)])
        )
