"""What the engine asks of torch on CUDA, for the CPU build of torch and the stand-in driver.

Tensors lie in memory that the stand-in driver allocated, in the primary context of its device, as
torch's own do. They compute as any tensor of the CPU does, and say in DLPack that they are CUDA's.
Like torch, it keeps what is freed for the next tensor of that size, and makes its context current
in each thread that works with CUDA.
"""

from __future__ import annotations

import ctypes
import threading
import weakref
from collections import defaultdict
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import numpy as np
import pytest
import torch
import torch.utils.dlpack

from engine.gpu import streams

HOST, CUDA = 1, 2
"""DLPack's numbers of device types."""
FREED = 0xEE
"""Every byte of memory that no tensor uses."""
OUT_OF_MEMORY = 2


class Memory:
    """Torch's allocator of one device, on the stand-in driver."""

    def __init__(self, driver: ctypes.CDLL, ordinal: int = 0) -> None:
        self._driver = driver
        self._lock = threading.RLock()
        self._free: dict[int, list[int]] = defaultdict(list)
        self._ordinal = ordinal

    def make_current(self) -> None:
        """The primary context, in this thread."""
        device, context = ctypes.c_int(), ctypes.c_void_p()
        self._call("cuInit", 0)
        self._call("cuDeviceGet", ctypes.byref(device), self._ordinal)
        self._call("cuDevicePrimaryCtxRetain", ctypes.byref(context), device)
        self._call("cuCtxSetCurrent", context)

    def empty(self, size: int) -> np.ndarray[tuple[int], np.dtype[np.uint8]]:
        """So many bytes on the device."""
        self.make_current()
        with self._lock:
            pointer = self._free[size].pop() if self._free[size] else self._allocated(size)
        buffer = (ctypes.c_uint8 * size).from_address(pointer)
        weakref.finalize(buffer, self._freed, pointer, size).atexit = False
        return np.ctypeslib.as_array(buffer)

    def empty_cache(self) -> None:
        """Gives the driver back what no tensor uses."""
        self.make_current()
        for pointers in self._free.values():
            while pointers:
                self._call("cuMemFree_v2", ctypes.c_ulonglong(pointers.pop()))

    def check(self, tensor: torch.Tensor) -> None:
        """Has the driver complain unless the tensor lies in memory of torch's own context."""
        self.make_current()
        rows, row = tensor.shape[0], tensor[0].numel()
        place = ctypes.c_void_p(tensor.data_ptr())
        sizes = (ctypes.c_size_t(size) for size in (tensor.stride(0), row, rows))
        self._driver.driver_need_memory(place, *sizes, b"torch")

    def _allocated(self, size: int) -> int:
        pointer = ctypes.c_ulonglong()
        self._call("cuMemAlloc_v2", ctypes.byref(pointer), ctypes.c_size_t(size))
        return pointer.value

    def _freed(self, pointer: int, size: int) -> None:
        ctypes.memset(pointer, FREED, size)  # it may be another's at once
        with self._lock:
            self._free[size].append(pointer)

    def _call(self, name: str, *arguments: Any) -> None:
        error = getattr(self._driver, name)(*arguments)
        if error == OUT_OF_MEMORY:
            raise torch.OutOfMemoryError("CUDA out of memory.")
        if error:
            raise RuntimeError(f"CUDA error: {name} gave {error}")


class CudaTensor(torch.Tensor):
    """A tensor in such memory. Its views are such tensors, too."""

    def __dlpack__(self, **options: Any) -> Any:
        return declared(super().__dlpack__(**options), CUDA)


def declared(capsule: Any, device_type: int) -> Any:
    """The capsule, after its DLTensor was told of another type of device."""
    pointer_of = ctypes.pythonapi.PyCapsule_GetPointer
    pointer_of.restype, pointer_of.argtypes = ctypes.c_void_p, [ctypes.py_object, ctypes.c_char_p]
    after_data = pointer_of(capsule, b"dltensor") + ctypes.sizeof(ctypes.c_void_p)
    ctypes.c_int32.from_address(after_data).value = device_type
    return capsule


class DoneAtOnce:
    """A stream and an event. Torch's make its context current in the thread that uses them."""

    def __init__(self, memory: Memory) -> None:
        self._memory = memory

    def wait_stream(self, _: object, /) -> None:
        """See `engine.gpu.streams.Stream`."""
        self._memory.make_current()

    def synchronize(self) -> None:
        """See `engine.gpu.streams.Event`."""
        self._memory.make_current()


class StandInCuda:
    """`engine.gpu.streams.Cuda` in the stand-in driver's memory."""

    def __init__(self, memory: Memory) -> None:
        self._memory = memory

    def new_stream(self) -> DoneAtOnce:
        """See `Cuda`."""
        return DoneAtOnce(self._memory)

    def default_stream(self) -> DoneAtOnce:
        """See `Cuda`."""
        return DoneAtOnce(self._memory)

    def on(self, _: object) -> AbstractContextManager[None]:
        """See `Cuda`."""
        return nullcontext()

    def event(self, _: object, *, blocking: bool) -> DoneAtOnce:  # noqa: ARG002
        """See `Cuda`."""
        return DoneAtOnce(self._memory)

    def pinned(self, shape: tuple[int, ...], dtype: torch.dtype) -> torch.Tensor:
        """See `Cuda`."""
        return torch.empty(shape, dtype=dtype)

    def holds(self, tensor: torch.Tensor) -> bool:
        """See `Cuda`."""
        return isinstance(tensor, CudaTensor)

    def copied_up(self, tensor: torch.Tensor) -> torch.Tensor:
        """See `Cuda`."""
        return torch.empty(tensor.shape, dtype=tensor.dtype, device="cuda").copy_(tensor)

    def copy_down(self, host: torch.Tensor, there: torch.Tensor) -> None:
        """See `Cuda`."""
        host.copy_(there)

    def used_by(self, tensor: torch.Tensor, stream: object) -> None:
        """See `Cuda`."""


def declare_host_memory_as_cuda(patch: pytest.MonkeyPatch, memory: Memory) -> None:
    """What the engine calls for a device of CUDA works on `memory`: streams, and torch itself."""
    empty_here, take_here = torch.empty, torch.utils.dlpack.from_dlpack

    def empty(*shape: Any, device: Any = None, **options: Any) -> torch.Tensor:
        if device is None or torch.device(device).type != "cuda":
            return empty_here(*shape, device=device, **options)
        model = empty_here(*shape, device="meta", **options)
        there = torch.from_numpy(memory.empty(model.nbytes)).view(model.dtype).view(model.shape)
        return there.as_subclass(CudaTensor)

    def zeros(*shape: Any, **options: Any) -> torch.Tensor:
        return empty(*shape, **options).zero_()

    def from_dlpack(capsule: Any) -> torch.Tensor:
        taken = take_here(declared(capsule, HOST))
        memory.check(taken)
        return taken.as_subclass(CudaTensor)

    patch.setattr(torch, "empty", empty)
    patch.setattr(torch, "zeros", zeros)
    patch.setattr(torch.utils.dlpack, "from_dlpack", from_dlpack)
    patch.setattr(
        torch.cuda, "is_available", lambda: False
    )  # its CUDA build needs more of a driver
    patch.setattr(streams, "TorchCuda", lambda _: StandInCuda(memory))
