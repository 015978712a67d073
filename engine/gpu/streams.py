"""CUDA streams of a stage: pictures are uploaded and downloaded while the network computes.

FFmpeg works on CUDA's default stream, and so does what cuts its frames and what feeds its encoder.
None of them may wait for a network that is busy for seconds. On a CPU there are no streams, and
every method is a plain copy or nothing.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import torch
from torch import Tensor


class DeviceStreams:
    """The upload and the compute stream of one device. Several threads may use them."""

    def __init__(self, device: torch.device) -> None:
        self._device = device
        self._streams: tuple[torch.cuda.Stream, torch.cuda.Stream] | None = None
        if device.type == "cuda":
            upload, compute = (torch.cuda.Stream(device) for _ in range(2))  # type: ignore[no-untyped-call]
            self._streams = upload, compute

    def host_buffer(self, shape: tuple[int, ...]) -> Tensor:
        """Empty host memory, uint8, from which an upload need not wait for the device."""
        return torch.empty(shape, dtype=torch.uint8, pin_memory=self._streams is not None)

    def upload(self, pictures: Sequence[Tensor]) -> Tensor:
        """The pictures stacked on the device, for use in `computing`.

        The caller must keep them until the device has copied them.
        """
        if self._streams is None:
            return torch.stack(list(pictures))
        upload, _ = self._streams
        upload.wait_stream(torch.cuda.default_stream(self._device))
        with torch.cuda.stream(upload):
            return torch.stack([each.to(self._device, non_blocking=True) for each in pictures])

    @contextmanager
    def computing(self) -> Iterator[None]:
        """What is computed inside comes after all uploads that were begun before."""
        if self._streams is None:
            yield
            return
        upload, compute = self._streams
        compute.wait_stream(upload)
        with torch.cuda.stream(compute):
            yield

    def for_default_stream(self, tensor: Tensor) -> Tensor:
        """A tensor whose computation has ended, for use on the default stream."""
        if self._streams is not None:
            tensor.record_stream(torch.cuda.default_stream(self._device))
        return tensor
