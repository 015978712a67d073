"""Guards of what makes pixels: one 600x1066 crop of a 1080p frame to 1080x1920; a blend of two."""

from __future__ import annotations

import av
import numpy as np
import pytest
from av.video.reformatter import Interpolation, VideoReformatter

from bench.guard import Guard
from engine.geometry import Fit, Size
from engine.pixels.blend import blend
from engine.pixels.crop import CropSampler
from engine.pixels.picture import Picture, SourceFrame
from engine.source import Colour, Matrix, Transfer

FRAME, CROP, TARGET = Size(1920, 1080), Size(600, 1066), Size(1080, 1920)
KINDS = {
    "sdr": (0, 0.0, 8, Colour(Matrix.BT709, False, Transfer.SDR, assumed=False)),
    "sdr_turned": (90, 0.0, 8, Colour(Matrix.BT709, False, Transfer.SDR, assumed=False)),
    "sdr_tilted": (0, 7.3, 8, Colour(Matrix.BT709, False, Transfer.SDR, assumed=False)),
    "bt601_full": (0, 0.0, 8, Colour(Matrix.BT601, True, Transfer.SDR, assumed=False)),
    "hlg_turned": (90, 0.0, 10, Colour(Matrix.BT2020, False, Transfer.HLG, assumed=False)),
}


@pytest.mark.parametrize("kind", KINDS)
def test_crop(guard: Guard, kind: str) -> None:
    """libswscale's is always the plain one: whole pixels, upright, no conversion of colours."""
    rotation_deg, tilt_deg, depth, colour = KINDS[kind]
    sampler = CropSampler(
        display_size=FRAME if rotation_deg == 0 else Size(FRAME.height, FRAME.width),
        rotation_deg=rotation_deg,
        colour=colour,
        target=TARGET,
        fit=Fit.STRETCH,
        tilt_deg=tilt_deg,
    )
    frame, picture = a_frame(depth), Picture(TARGET)
    rect = np.array([200.0, 5.0, CROP.width, CROP.height])
    cropped, reformatter = crop_of(a_frame(8)), VideoReformatter()

    def one_frame_of_a_pan() -> None:
        rect[0] += 0.01
        sampler.sample(frame, rect, picture)

    def whole_pixels() -> None:
        reformatter.reformat(
            cropped, TARGET.width, TARGET.height, "yuv420p", interpolation=Interpolation.BICUBIC
        )

    guard(f"crop, {kind}", one_frame_of_a_pan, whole_pixels, peer="libswscale", rounds=50)


def test_blend(guard: Guard) -> None:
    first, second, out = (Picture(TARGET) for _ in range(3))
    first.buffer[:], second.buffer[:] = 40, 200

    def with_numpy() -> None:
        mixed = first.buffer * np.uint32(16384) + second.buffer * np.uint32(49152) + 32768
        out.buffer[:] = mixed >> 16

    guard("blend", lambda: blend([(first, 0.25), (second, 0.75)], out), with_numpy, peer="numpy")


def a_frame(depth: int) -> SourceFrame:
    rows, columns = np.mgrid[: FRAME.height, : FRAME.width]
    wave = 128 + 60 * np.sin(rows / 17) + 40 * np.cos(columns / 11)
    codes = np.round(wave * 2 ** (depth - 8)).astype(np.uint8 if depth == 8 else np.uint16)
    chroma = np.ascontiguousarray(codes[::2, ::2])
    return SourceFrame(0, (codes, chroma, chroma), depth, (2, 2), (0.0, 0.5), None)


def crop_of(frame: SourceFrame) -> av.VideoFrame:
    crop = av.VideoFrame(CROP.width, CROP.height, "yuv420p")
    for plane, samples in zip(crop.planes, frame.planes, strict=True):
        view = np.frombuffer(memoryview(plane), np.uint8).reshape(plane.height, plane.line_size)
        view[:, : plane.width] = samples[: plane.height, : plane.width]
    return crop
