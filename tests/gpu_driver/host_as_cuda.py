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
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
import torch.utils.dlpack

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


def declare_host_memory_as_cuda(patch: pytest.MonkeyPatch, memory: Memory) -> None:
    """Torch's functions, as far as the engine calls them for a device of CUDA, work on `memory`."""
    empty_here, to_here = torch.empty, torch.Tensor.to
    take_here = torch.utils.dlpack.from_dlpack

    def is_cuda(device: object) -> bool:
        return isinstance(device, str | torch.device) and torch.device(device).type == "cuda"

    def empty(*shape: Any, device: Any = None, **options: Any) -> torch.Tensor:
        if not is_cuda(device):
            return empty_here(*shape, device=device, **options)
        model = empty_here(*shape, device="meta", **options)
        there = torch.from_numpy(memory.empty(model.nbytes)).view(model.dtype).view(model.shape)
        return there.as_subclass(CudaTensor)

    def zeros(*shape: Any, device: Any = None, **options: Any) -> torch.Tensor:
        return empty(*shape, device=device, **options).zero_()

    def to(tensor: torch.Tensor, *target: Any, **options: Any) -> torch.Tensor:
        if not (target and is_cuda(target[0])):
            return to_here(tensor, *target, **options)
        return empty(tensor.shape, dtype=tensor.dtype, device=target[0]).copy_(tensor)

    def from_dlpack(capsule: Any) -> torch.Tensor:
        return take_here(declared(capsule, HOST)).as_subclass(CudaTensor)

    patch.setattr(torch, "empty", empty)
    patch.setattr(torch, "zeros", zeros)
    patch.setattr(torch.Tensor, "to", to)
    patch.setattr(torch.Tensor, "pin_memory", lambda tensor: tensor)
    patch.setattr(torch.utils.dlpack, "from_dlpack", from_dlpack)
    stream = SimpleNamespace(synchronize=lambda: memory.make_current())
    patch.setattr(torch.cuda, "current_stream", lambda _: stream)
