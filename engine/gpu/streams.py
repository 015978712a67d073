"""CUDA's streams and events: pictures go up and down while a network computes.

    upload ──▶ compute ──▶ default (FFmpeg, the encoder's frames) ──▶ download

FFmpeg works on CUDA's default stream, and so does what cuts its frames and what feeds its encoder.
None of them may wait for a network that is busy for seconds. What crosses from one stream to
another waits on the device, not on the host.

All use of streams, events and pinned memory is here. On a CPU there are none of them, and every
method is a plain copy or nothing. `Cuda` is what is used of CUDA. Tests put a recorder in its
place.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from functools import cache
from typing import Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from engine.gpu.memory import is_out_of_memory

_ALIGNED = 16
"""Arrays that go up together start at multiples of so many bytes."""


class Event(Protocol):
    """A place in the order of a stream's work."""

    def synchronize(self) -> None:
        """Waits on the host until the stream has come there."""


class Stream(Protocol):
    """Work on the device, done in the order in which it is given."""

    def wait_stream(self, stream: Stream, /) -> None:
        """Work from here on comes after all that the other stream was given so far."""


class Cuda(Protocol):
    """What is used of one CUDA device."""

    def new_stream(self) -> Stream:
        """A stream besides the default one."""

    def default_stream(self) -> Stream:
        """The stream that FFmpeg uses."""

    def on(self, stream: Stream) -> AbstractContextManager[object]:
        """What this thread gives the device inside goes to that stream."""

    def event(self, stream: Stream, *, blocking: bool) -> Event:
        """The end of what the stream was given so far.

        `blocking`: a thread that waits for it sleeps. Otherwise it spins, and wakes sooner.
        """

    def pinned(self, shape: tuple[int, ...], dtype: torch.dtype) -> Tensor:
        """Empty host memory that is copied without the host's help."""

    def holds(self, tensor: Tensor) -> bool:
        """Whether the tensor lies on the device."""

    def copied_up(self, tensor: Tensor) -> Tensor:
        """A copy on the device. The host does not wait where the tensor is pinned."""

    def copy_down(self, host: Tensor, there: Tensor) -> None:
        """Copies into host memory. The host does not wait where that is pinned."""

    def used_by(self, tensor: Tensor, stream: Stream) -> None:
        """The tensor's memory is not given to another before the stream has done its work so far.

        That is needed on every stream but the one it was made on.
        """


class TorchCuda:
    """`Cuda` by torch."""

    def __init__(self, device: torch.device) -> None:
        self._device = device

    def new_stream(self) -> Stream:
        """See `Cuda`."""
        return torch.cuda.Stream(self._device)  # type: ignore[no-untyped-call, return-value]

    def default_stream(self) -> Stream:
        """See `Cuda`."""
        return torch.cuda.default_stream(self._device)  # type: ignore[return-value]

    def on(self, stream: Stream) -> AbstractContextManager[object]:
        """See `Cuda`."""
        return torch.cuda.stream(stream)  # type: ignore[arg-type]

    def event(self, stream: Stream, *, blocking: bool) -> Event:
        """See `Cuda`."""
        event = torch.cuda.Event(blocking=blocking)  # type: ignore[no-untyped-call]
        event.record(stream)  # type: ignore[arg-type]
        return event

    def pinned(self, shape: tuple[int, ...], dtype: torch.dtype) -> Tensor:
        """See `Cuda`."""
        return torch.empty(shape, dtype=dtype, pin_memory=True)

    def holds(self, tensor: Tensor) -> bool:
        """See `Cuda`."""
        return tensor.is_cuda

    def copied_up(self, tensor: Tensor) -> Tensor:
        """See `Cuda`."""
        return tensor.to(self._device, non_blocking=True)

    def copy_down(self, host: Tensor, there: Tensor) -> None:
        """See `Cuda`."""
        host.copy_(there, non_blocking=True)

    def used_by(self, tensor: Tensor, stream: Stream) -> None:
        """See `Cuda`."""
        tensor.record_stream(stream)  # type: ignore[arg-type]


class DeviceStreams:
    """The streams of one device. Several threads may use them."""

    def __init__(self, cuda: Cuda | None) -> None:
        """`cuda`: None for a device whose work is done when a call returns."""
        self._cuda = cuda
        if cuda is not None:
            self._default = cuda.default_stream()
            self._upload, self._compute, self._download = (cuda.new_stream() for _ in range(3))

    @property
    def asynchronous(self) -> bool:
        """Whether the device works while the host goes on."""
        return self._cuda is not None

    def host_buffer(self, shape: tuple[int, ...], dtype: torch.dtype = torch.uint8) -> Tensor:
        """Empty host memory, from which an upload need not wait for the device.

        Where no more memory can be pinned, it is of the usual kind: then copies wait.
        """
        if self._cuda is None:
            return torch.empty(shape, dtype=dtype)
        try:
            return self._cuda.pinned(shape, dtype)
        except RuntimeError as error:
            if not is_out_of_memory(error):
                raise
        return torch.empty(shape, dtype=dtype)

    def upload(self, pictures: Sequence[Tensor]) -> Tensor:
        """The pictures, in host memory or on the device, stacked there for use in `computing`.

        Those on the device were made on the default stream.
        """
        cuda = self._cuda
        if cuda is None:
            return torch.stack(list(pictures))
        self._upload.wait_stream(self._default)
        with cuda.on(self._upload):
            there = [each if cuda.holds(each) else cuda.copied_up(each) for each in pictures]
            stacked = torch.stack(there)
        for each in pictures:
            if cuda.holds(each):
                cuda.used_by(each, self._upload)
        cuda.used_by(stacked, self._compute)
        return stacked

    def upload_arrays(
        self, arrays: Sequence[NDArray[np.generic]], *, together: bool = True
    ) -> list[Tensor]:
        """Small arrays on the device, for use in `computing`: in one copy where `together`."""
        tensors = [torch.from_numpy(np.ascontiguousarray(array)) for array in arrays]
        cuda = self._cuda
        if cuda is None or not tensors:
            return tensors
        with cuda.on(self._upload):
            if together:
                return self._uploaded_together(cuda, tensors)
            sent = [cuda.copied_up(self._staged(tensor)) for tensor in tensors]
        for tensor in sent:
            cuda.used_by(tensor, self._compute)
        return sent

    def _uploaded_together(self, cuda: Cuda, tensors: Sequence[Tensor]) -> list[Tensor]:
        sizes = [tensor.nbytes for tensor in tensors]
        starts = np.cumsum([0, *(-(-size // _ALIGNED) * _ALIGNED for size in sizes)]).tolist()
        staging = self.host_buffer((starts[-1],))
        for tensor, start in zip(tensors, starts, strict=False):
            staging[start : start + tensor.nbytes] = tensor.flatten().view(torch.uint8)
        there = cuda.copied_up(staging)
        cuda.used_by(there, self._compute)
        return [
            there[start : start + size].view(tensor.dtype).view(tensor.shape)
            for tensor, start, size in zip(tensors, starts, sizes, strict=False)
        ]

    def _staged(self, tensor: Tensor) -> Tensor:
        return self.host_buffer(tuple(tensor.shape), tensor.dtype).copy_(tensor)

    @contextmanager
    def computing(self) -> Iterator[None]:
        """What is computed inside comes after all uploads that were begun before."""
        if self._cuda is None:
            yield
            return
        self._compute.wait_stream(self._upload)
        with self._cuda.on(self._compute):
            yield

    def answer(self, question: Tensor) -> Tensor:
        """One truth value, copied to host memory behind what `computing` was given so far.

        It may be read after a wait for `computed`.
        """
        if self._cuda is None:
            return question
        host = self.host_buffer((), torch.bool)
        with self._cuda.on(self._compute):
            self._cuda.copy_down(host, question)
        return host

    def computed(self, *, blocking: bool = True) -> Callable[[], None]:
        """Waits for all that `computing` was given until now, and for nothing that comes later.

        `blocking`: see `Cuda.event`.
        """
        if self._cuda is None:
            return lambda: None
        return self._cuda.event(self._compute, blocking=blocking).synchronize

    def for_default_stream(self, tensor: Tensor) -> Tensor:
        """A tensor whose computation has ended, for use on the default stream."""
        if self._cuda is not None:
            self._cuda.used_by(tensor, self._default)
        return tensor

    def to_device(self, tensor: Tensor) -> Tensor:
        """A copy of host memory on the device, for use on the default stream."""
        if self._cuda is None:
            return tensor.clone()
        with self._cuda.on(self._default):
            return self._cuda.copied_up(self._staged(tensor))

    def download(self, tensor: Tensor) -> Callable[[], Tensor]:
        """Starts to copy a tensor of the default stream to host memory.

        Calling the result waits for the copy and gives it. On a CPU it is the tensor itself.
        """
        if self._cuda is None:
            return lambda: tensor
        host = self.host_buffer(tuple(tensor.shape), tensor.dtype)
        self._download.wait_stream(self._default)
        with self._cuda.on(self._download):
            self._cuda.copy_down(host, tensor)
        self._cuda.used_by(tensor, self._download)
        done = self._cuda.event(self._download, blocking=True)

        def waited() -> Tensor:
            done.synchronize()
            return host

        return waited

    def wait_for_default_stream(self) -> None:
        """Waits on the host for what the default stream was given so far."""
        if self._cuda is not None:
            self._cuda.event(self._default, blocking=True).synchronize()


@cache
def streams_of(device: torch.device) -> DeviceStreams:
    """The streams of that device, the same for all who work on it."""
    return DeviceStreams(TorchCuda(device) if device.type == "cuda" else None)
