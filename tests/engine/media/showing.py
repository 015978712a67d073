"""What a viewer sees of a file's first frame: probed, read and sampled as an export does it."""

from __future__ import annotations

import subprocess
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from engine.geometry import Fit, Framing, Size
from engine.media.probe import probe
from engine.media.video_reader import FrameReader
from engine.pixels.picture import Picture
from engine.upscale.stage import FrameCrop, PlainResampler


def shown(
    path: Path,
    rect: tuple[float, float, float, float] | None = None,
    target: Size | None = None,
) -> Picture:
    """The first frame through a rectangle, both the whole frame by default."""
    source = probe(path)
    size = source.display_size
    with FrameReader(source, strict=True, on_warning=print) as reader:
        (frame,) = reader.frames(source.frame_pts[:1])
        crop = FrameCrop(frame, np.array(rect or (0, 0, size.width, size.height), np.float64))
        (picture,) = PlainResampler().pictures([crop], source, Framing(target or size, Fit.STRETCH))
    return picture


def encoded(
    path: Path, planes: list[NDArray[np.uint8]] | list[NDArray[np.uint16]], pixel_format: str,
    *options: str,
) -> Path:  # fmt: skip
    """A file of one picture with these planes, by the ffmpeg program."""
    height, width = planes[0].shape
    command = ["ffmpeg", "-v", "error", "-y", "-f", "rawvideo", "-pix_fmt", pixel_format]
    command += ["-s", f"{width}x{height}", "-r", "25", "-i", "-", *options, str(path)]
    raw = b"".join(plane.tobytes() for plane in planes)
    done = subprocess.run(command, input=raw, capture_output=True)
    assert done.returncode == 0, done.stderr.decode()
    return path
