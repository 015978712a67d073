"""Turns finished pictures into an encoder's frames, and hashes them."""

from __future__ import annotations

from typing import Protocol

import av
import numpy as np
import xxhash

from engine.pixels.picture import FinishedPicture, Picture


class FrameSink(Protocol):
    """Turns the pictures of one chunk into an encoder's frames, and hashes them."""

    @property
    def pixel_format(self) -> str:
        """FFmpeg's name of the frames' format."""

    def frame(self, picture: FinishedPicture) -> av.VideoFrame:
        """The next frame for the encoder. The caller may reuse the picture afterwards."""

    def released(self, index: int) -> None:
        """Called when the encoder has put out the packet of frame `index`, counted from 0."""

    def frame_hash(self) -> str:
        """Hex XXH3-128 of the frames so far, in order, each as I420."""


class HostFrameSink:
    """The `FrameSink` for frames in host memory."""

    pixel_format = "yuv420p"
    """See `FrameSink`."""

    def __init__(self) -> None:
        self._hash = xxhash.xxh3_128()

    def frame(self, picture: FinishedPicture) -> av.VideoFrame:
        """See `FrameSink`."""
        on_host = picture.on_host()
        self._hash.update(on_host.buffer.data)
        return _video_frame(on_host)

    def released(self, index: int) -> None:
        """See `FrameSink`. There is nothing to release: the frame was a copy."""

    def frame_hash(self) -> str:
        """See `FrameSink`."""
        return self._hash.hexdigest()


def _video_frame(picture: Picture) -> av.VideoFrame:
    """A copy of the picture as a frame for FFmpeg.

    `VideoFrame.from_numpy_buffer` cannot be used: it takes every height for a multiple of 4, and
    the encoder would silently stretch the rest.
    """
    frame = av.VideoFrame(picture.size.width, picture.size.height, "yuv420p")
    for plane, samples in zip(frame.planes, picture.planes, strict=True):
        rows = np.frombuffer(memoryview(plane), np.uint8).reshape(plane.height, plane.line_size)
        rows[:, : plane.width] = samples
    return frame
