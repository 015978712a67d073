"""The encoder's frames on a device: finished pictures become NV12 without leaving it."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from functools import cache

import av
import torch
import xxhash
from av.video.frame import CudaContext
from torch import Tensor

from engine.geometry import Size
from engine.gpu.pictures import DevicePicture, on_device
from engine.gpu.streams import streams_of
from engine.pixels.picture import FinishedPicture, Picture

PITCH_BYTES = 256
"""Rows start at multiples of this, as in CUDA's own pitched allocations."""
HASHED_BEHIND = 2
"""How many pictures may be on their way to the hash while the next is encoded."""


class DeviceFrameSink:
    """A `FrameSink` (see `media/frame_sink.py`) for the pictures of one chunk on `device`.

    NVENC knows its inputs by their address and reads them until their packets are out. So frames
    lie in slots that live as long as the encoder, and no slot is filled again before its packet is
    out. Only a copy for the hash leaves the device, while the encoder works.
    """

    def __init__(self, size: Size, device: torch.device) -> None:
        self.pixel_format = "cuda" if device.type == "cuda" else "nv12"
        self._size = size
        self._device = device
        self._held: deque[Tensor] = deque()
        """Slots that the encoder reads, in the order of their frames."""
        self._free: list[Tensor] = []
        self._first_held = 0
        self._out: set[int] = set()
        """Frames from `_first_held` on whose packets are out already."""
        self._hash = xxhash.xxh3_128()
        self._on_the_way: deque[Callable[[], Picture]] = deque()

    def frame(self, picture: FinishedPicture) -> av.VideoFrame:
        """See `FrameSink`."""
        there = on_device(picture, self._device)
        self._on_the_way.append(there.download())
        self._hash_all_but(HASHED_BEHIND)
        slot = self._free.pop() if self._free else _slot(self._size, self._device)
        self._held.append(slot)
        _fill(slot, there)
        return self._frame_of(slot)

    def released(self, index: int) -> None:
        """See `FrameSink`.

        Slots are freed in the order of their frames. FFmpeg releases frames in the order of its
        packets.
        """
        self._out.add(index)
        while self._first_held in self._out:
            self._out.remove(self._first_held)
            self._free.append(self._held.popleft())
            self._first_held += 1

    def frame_hash(self) -> str:
        """See `FrameSink`."""
        self._hash_all_but(0)
        return self._hash.hexdigest()

    def _hash_all_but(self, latest: int) -> None:
        while len(self._on_the_way) > latest:
            self._hash.update(self._on_the_way.popleft()().buffer.data)

    def _frame_of(self, slot: Tensor) -> av.VideoFrame:
        width, height = self._size.width, self._size.height
        planes = slot[:height], slot[height:]
        if self._device.type != "cuda":
            return av.VideoFrame.from_dlpack(planes, "nv12", width, height)
        streams_of(self._device).wait_for_default_stream()  # the encoder waits for no stream
        context = _cuda_context(self._device.index or 0)
        return av.VideoFrame.from_dlpack(planes, "nv12", width, height, cuda_context=context)


def _slot(size: Size, device: torch.device) -> Tensor:
    """Memory of one NV12 frame in one piece, Y then CbCr: uint8 (h * 3 / 2, w), pitched."""
    pitch = -(-size.width // PITCH_BYTES) * PITCH_BYTES
    shape = (size.height * 3 // 2, pitch)
    return torch.empty(shape, dtype=torch.uint8, device=device)[:, : size.width]


def _fill(slot: Tensor, picture: DevicePicture) -> None:
    width, height = picture.size.width, picture.size.height
    slot[:height] = picture.buffer[:height]
    chroma = picture.buffer[height:].reshape(2, height // 2, width // 2)
    torch.unflatten(slot[height:], 1, (-1, 2)).copy_(chroma.permute(1, 2, 0))


@cache
def _cuda_context(index: int) -> CudaContext:
    """FFmpeg's handle of torch's CUDA context: torch's pointers are valid in no other.

    It is first called after torch has worked in this thread, which makes that context current.
    """
    return CudaContext(index, primary_ctx=False, current_ctx=True)
