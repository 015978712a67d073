"""CUDA streams of a stage: pictures come up while the network is at work, and go down meanwhile.

FFmpeg works on CUDA's default stream, and so does what cuts its frames and what feeds its encoder;
those must not wait for a network that is busy for seconds. On a CPU all of this is nothing.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import torch
from torch import Tensor


class Lanes:
    """The streams of one device. Several threads may use them."""

    def __init__(self, device: torch.device) -> None:
        self._device = device
        self._streams: tuple[torch.cuda.Stream, torch.cuda.Stream] | None = None
        if device.type == "cuda":
            upload, compute = (torch.cuda.Stream(device) for _ in range(2))  # type: ignore[no-untyped-call]
            self._streams = upload, compute

    def empty(self, shape: tuple[int, ...]) -> Tensor:
        """Host memory that is copied to the device without waiting; uint8."""
        return torch.empty(shape, dtype=torch.uint8, pin_memory=self._streams is not None)

    def gathered(self, pictures: Sequence[Tensor]) -> Tensor:
        """The pictures stacked on the device, to be used in `computing`.

        They have to live until the device has come that far.
        """
        if self._streams is None:
            return torch.stack(list(pictures))
        upload, _ = self._streams
        upload.wait_stream(torch.cuda.default_stream(self._device))
        with torch.cuda.stream(upload):
            return torch.stack([each.to(self._device, non_blocking=True) for each in pictures])

    @contextmanager
    def computing(self) -> Iterator[None]:
        """What is done on tensors inside comes after all that was gathered before."""
        if self._streams is None:
            yield
            return
        upload, compute = self._streams
        compute.wait_stream(upload)
        with torch.cuda.stream(compute):
            yield

    def handed_out(self, tensor: Tensor) -> Tensor:
        """A tensor that was computed and is complete, for use on the default stream."""
        if self._streams is not None:
            tensor.record_stream(torch.cuda.default_stream(self._device))
        return tensor
