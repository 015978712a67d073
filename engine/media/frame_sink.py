"""Finished pictures on their way into an encoder: as its frames, counted and hashed."""

from __future__ import annotations

from typing import Protocol

import av
import numpy as np
import xxhash

from engine.pixels.picture import FinishedPicture, Picture


class FrameSink(Protocol):
    """Makes an encoder's frames of the pictures of one chunk, and hashes them."""

    @property
    def pixel_format(self) -> str:
        """Of the frames, as FFmpeg names it."""

    def frame(self, picture: FinishedPicture) -> av.VideoFrame:
        """The next frame for the encoder. The picture may be reused afterwards."""

    def released(self, index: int) -> None:
        """The encoder has put out the packet of that frame."""

    def frame_hash(self) -> str:
        """Hash of the frames so far, in order, each as I420."""


class HostFrameSink:
    """The `FrameSink` for frames in host memory."""

    pixel_format = "yuv420p"

    def __init__(self) -> None:
        self._hash = xxhash.xxh3_128()

    def frame(self, picture: FinishedPicture) -> av.VideoFrame:
        """See `FrameSink`."""
        on_host = picture.on_host()
        self._hash.update(on_host.buffer.data)
        return _video_frame(on_host)

    def released(self, index: int) -> None:
        """See `FrameSink`. Nothing to release: the frame was a copy."""

    def frame_hash(self) -> str:
        """See `FrameSink`."""
        return self._hash.hexdigest()


def _video_frame(picture: Picture) -> av.VideoFrame:
    """A copy of the picture as a frame for FFmpeg.

    Not `VideoFrame.from_numpy_buffer`: it takes I420 of any height for one of a multiple of 4, and
    the encoder would silently stretch the rest.
    """
    frame = av.VideoFrame(picture.size.width, picture.size.height, "yuv420p")
    for plane, samples in zip(frame.planes, picture.planes, strict=True):
        rows = np.frombuffer(memoryview(plane), np.uint8).reshape(plane.height, plane.line_size)
        rows[:, : plane.width] = samples
    return frame
