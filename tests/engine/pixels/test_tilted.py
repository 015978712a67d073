"""Tilted crops, against an affine resampler in float64, arithmetic by hand and ffmpeg."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from engine.geometry import Box, Fit, Size
from engine.pixels.crop import CropSampler
from engine.pixels.picture import Picture, SourceFrame
from engine.pixels.recolour import colour_conversion
from engine.source import Colour, Matrix, Transfer
from tests.engine.pixels.affine import View
from tests.engine.pixels.test_crop import LAYOUTS, a_frame, colour

TARGET = Size(96, 64)
FRAME = Size(160, 120)


def tilted(
    frame: SourceFrame,
    rect: tuple[float, float, float, float],
    tilt_deg: float,
    target: Size = TARGET,
    **sampler: Any,
) -> Picture:
    options: dict[str, Any] = {
        "display_size": frame.size,
        "rotation_deg": 0,
        "colour": colour(),
        "fit": Fit.STRETCH,
    }
    made = CropSampler(target=target, tilt_deg=tilt_deg, **(options | sampler))
    picture = Picture(target)
    made.sample(frame, np.array(rect, np.float64), picture)
    return picture


def witness(frame: SourceFrame, view: View, *, full_range: bool = False) -> list[Any]:
    """The picture's planes as 8-bit limited-range codes, in the source's colours, not rounded."""
    top = 2 ** (frame.depth - 8)
    planes = []
    for index, samples in enumerate(frame.planes):
        step, offset = (frame.chroma_step, frame.chroma_offset) if index else ((1, 1), (0.0, 0.0))
        black = 128 * top if index else 0 if full_range else 16 * top
        codes = view.plane(samples, black, step, offset, 2 if index else 1)
        if full_range:
            peak = 2**frame.depth - 1
            planes.append(128 + (codes - black) * 224 / peak if index else 16 + codes * 219 / peak)
        else:
            planes.append(codes / top)
    return planes


def furthest(picture: Picture, planes: list[Any]) -> float:
    """The largest difference, in codes, to what is wanted."""
    return max(
        float(np.abs(ours.astype(float) - wanted.clip(0, 255)).max())
        for ours, wanted in zip(picture.planes, planes, strict=True)
    )


# Against the witness

RECTS = {
    "enlarged": (40.3, 31.7, 48.9, 32.6),
    "as it is": (30.25, 20.5, 96.0, 64.0),
    "shrunk": (3.1, 4.9, 150.2, 100.4),
    "one way only": (60.4, 2.3, 36.5, 115.0),
    "a corner": (-0.2, -0.1, 40.0, 30.0),
}


@pytest.mark.parametrize("tilt_deg", [20.0, -20.0, 0.3, -0.3, 7.3])
@pytest.mark.parametrize("place", RECTS)
def test_agrees_with_an_affine_resampler(tilt_deg: float, place: str) -> None:
    frame, rect = a_frame(FRAME), RECTS[place]
    view = View(rect, (96, 64), tilt_deg, (160, 120), (160, 120))
    assert furthest(tilted(frame, rect, tilt_deg), witness(frame, view)) <= 1


@pytest.mark.parametrize("full_range", [False, True])
@pytest.mark.parametrize("pixel_format", LAYOUTS)
def test_layouts_agree_with_an_affine_resampler(pixel_format: str, full_range: bool) -> None:
    frame, rect = a_frame(Size(161, 121), pixel_format, full_range=full_range), RECTS["enlarged"]
    view = View(rect, (96, 64), 7.3, (161, 121), (161, 121))
    got = tilted(frame, rect, 7.3, colour=colour(full_range=full_range))
    assert furthest(got, witness(frame, view, full_range=full_range)) <= 1


@pytest.mark.parametrize("mirrored", [False, True])
@pytest.mark.parametrize("quarter_deg", [0, 90, 180, 270])
@pytest.mark.parametrize("pixel_format", ["yuv420p", "yuv422p"])
def test_turned_and_stretched_sources_agree_with_an_affine_resampler(
    quarter_deg: int, mirrored: bool, pixel_format: str
) -> None:
    """Coded 150x110, shown 200 pixels wide: its pixels are not square."""
    frame = a_frame(Size(150, 110), pixel_format)
    display = (200, 110) if quarter_deg % 180 == 0 else (110, 200)
    rect = (20.3, 10.6, 70.2, 81.7)
    view = View(rect, (96, 64), -11.9, display, (150, 110), quarter_deg, mirrored)
    got = tilted(
        frame,
        rect,
        -11.9,
        display_size=Size(*display),
        rotation_deg=quarter_deg,
        mirrored=mirrored,
    )
    assert furthest(got, witness(frame, view)) <= 1


@pytest.mark.parametrize(
    "source",
    [
        Colour(Matrix.BT601, False, Transfer.SDR, assumed=False),
        Colour(Matrix.BT601, True, Transfer.SDR, assumed=False),
        Colour(Matrix.BT2020, False, Transfer.HLG, assumed=False),
        Colour(Matrix.BT2020, False, Transfer.PQ, assumed=False),
    ],
    ids=["bt601", "bt601 full", "hlg", "pq"],
)
def test_other_colours_are_converted_after_the_one_interpolation(source: Colour) -> None:
    hdr = source.transfer is not Transfer.SDR
    frame = a_frame(FRAME, "yuv420p10le" if hdr else "yuv420p", full_range=source.full_range)
    rect = RECTS["a corner"]
    wanted = witness(
        frame, View(rect, (96, 64), 12.5, (160, 120), (160, 120)), full_range=source.full_range
    )
    fine = [np.round(plane * 64).clip(0, 16383).astype(np.uint16) for plane in wanted]
    picture = Picture(TARGET)
    convert = colour_conversion(source)
    assert convert is not None
    convert(fine, picture, Box(0, 0, 96, 64))
    got = tilted(frame, rect, 12.5, colour=source)
    assert np.abs(got.buffer.astype(int) - picture.buffer).max() <= 1


@settings(max_examples=40, deadline=None)
@given(
    tilt_deg=st.floats(-20, 20).filter(lambda tilt: tilt != 0),
    x=st.floats(0, 100),
    y=st.floats(0, 80),
    width=st.floats(4, 60),
    height=st.floats(4, 40),
    target=st.sampled_from([Size(96, 64), Size(16, 16), Size(18, 50)]),
)
def test_any_tilted_crop_agrees_with_an_affine_resampler(
    tilt_deg: float, x: float, y: float, width: float, height: float, target: Size
) -> None:
    frame, rect = a_frame(FRAME), (x, y, width, height)
    view = View(rect, (target.width, target.height), tilt_deg, (160, 120), (160, 120))
    assert furthest(tilted(frame, rect, tilt_deg, target), witness(frame, view)) <= 1
