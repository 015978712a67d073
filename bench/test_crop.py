"""Crop sampling against libswscale: one 600x1066 crop of a 1080p frame to 1080x1920.

`pytest bench/test_crop.py` prints both; libswscale can only crop at whole pixels.
"""

from __future__ import annotations

from typing import Any

import av
import numpy as np
import pytest
from av.video.reformatter import Interpolation, VideoReformatter

from engine.crop import CropSampler
from engine.geometry import Fit, Size
from engine.picture import Picture, SourceFrame
from engine.source import Colour, Matrix, Transfer

FRAME, TARGET = Size(1920, 1080), Size(1080, 1920)
KINDS = {
    "sdr": (0, 8, Colour(Matrix.BT709, False, Transfer.SDR, assumed=False)),
    "sdr_turned": (90, 8, Colour(Matrix.BT709, False, Transfer.SDR, assumed=False)),
    "bt601_full": (0, 8, Colour(Matrix.BT601, True, Transfer.SDR, assumed=False)),
    "hlg_turned": (90, 10, Colour(Matrix.BT2020, False, Transfer.HLG, assumed=False)),
}


def a_frame(depth: int) -> SourceFrame:
    rows, columns = np.mgrid[: FRAME.height, : FRAME.width]
    wave = 128 + 60 * np.sin(rows / 17) + 40 * np.cos(columns / 11)
    codes = np.round(wave * 2 ** (depth - 8)).astype(np.uint8 if depth == 8 else np.uint16)
    chroma = np.ascontiguousarray(codes[::2, ::2])
    return SourceFrame(0, (codes, chroma, chroma), depth, (2, 2), (0.0, 0.5), None)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.benchmark(group="600x1066 -> 1080x1920")
def test_crop_sampler(benchmark: Any, kind: str) -> None:
    rotation_deg, depth, colour = KINDS[kind]
    sampler = CropSampler(
        display_size=FRAME if rotation_deg == 0 else Size(FRAME.height, FRAME.width),
        rotation_deg=rotation_deg,
        colour=colour,
        target=TARGET,
        fit=Fit.STRETCH,
    )
    frame, picture = a_frame(depth), Picture(TARGET)
    rect = np.array([200.0, 5.0, 600.0, 1066.0])

    def one_frame_of_a_pan() -> None:
        rect[0] += 0.01
        sampler.sample(frame, rect, picture)

    benchmark(one_frame_of_a_pan)


@pytest.mark.benchmark(group="600x1066 -> 1080x1920")
def test_libswscale(benchmark: Any) -> None:
    frame = a_frame(8)
    crop = av.VideoFrame(600, 1066, "yuv420p")
    for plane, samples, step in zip(crop.planes, frame.planes, (1, 2, 2), strict=True):
        rows, columns = 1066 // step, 600 // step
        view = np.frombuffer(memoryview(plane), np.uint8).reshape(plane.height, plane.line_size)
        view[:rows, :columns] = samples[:rows, :columns]
    reformatter = VideoReformatter()
    benchmark(
        lambda: reformatter.reformat(
            crop, TARGET.width, TARGET.height, "yuv420p", interpolation=Interpolation.BICUBIC
        )
    )
