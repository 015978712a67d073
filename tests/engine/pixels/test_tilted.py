"""Tilted crops, against an affine resampler in float64, arithmetic by hand and ffmpeg."""

from __future__ import annotations

import subprocess
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import pytest
import xxhash
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from engine.geometry import Box, Fit, Rect, Size
from engine.pixels.crop import CropSampler
from engine.pixels.picture import BLACK, Picture, SourceFrame
from engine.pixels.recolour import colour_conversion
from engine.source import Colour, Matrix, Transfer
from tests.engine.pixels.affine import View
from tests.engine.pixels.test_crop import LAYOUTS, a_frame, colour, flat_frame, luma_frame
from tests.media import needs_ffmpeg

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
    assert (got.y[0, 0], got.u[0, 0], got.v[0, 0]) == BLACK


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


def test_hardly_any_tilt_is_hardly_a_change() -> None:
    """The two kernels, on the same places: what one rounds up, the other may round down."""
    frame, rect = a_frame(FRAME), RECTS["enlarged"]
    straight, tilted_by_nothing = tilted(frame, rect, 0.0), tilted(frame, rect, 1e-7)
    assert np.abs(straight.buffer.astype(int) - tilted_by_nothing.buffer).max() <= 1


# Which way, and what is outside


def test_a_mark_moves_counter_clockwise() -> None:
    """60 pixels to the right of the centre, turned by 20 degrees: right and above it."""
    luma = np.full((240, 320), 40)
    luma[118:122, 218:222] = 220
    got = tilted(luma_frame(luma), (0, 0, 320, 240), 20.0, Size(320, 240)).y.astype(float)
    light = (got[60:180, 160:300] - 40).clip(0)
    y, x = np.mgrid[60:180, 160:300] + 0.5
    place = float((x * light).sum() / light.sum()), float((y * light).sum() / light.sum())
    # 60 cos 20 = 56.38 to the right, 60 sin 20 = 20.52 up
    assert place == pytest.approx((160 + 56.38, 120 - 20.52), abs=0.05)


@needs_ffmpeg
@pytest.mark.parametrize("tilt_deg", [11.0, -17.5])
def test_turns_as_far_as_ffmpeg_does(tilt_deg: float) -> None:
    """Its filter turns clockwise, and interpolates linearly."""
    frame = a_frame(FRAME, "yuv444p")
    turn = f"rotate=a={-np.deg2rad(tilt_deg)}:fillcolor=black,format=yuv444p"
    raw = subprocess.run(
        ["ffmpeg", "-v", "error", "-f", "rawvideo", "-pix_fmt", "yuv444p", "-s", str(FRAME)]
        + ["-i", "-", "-vf", turn, "-f", "rawvideo", "-pix_fmt", "yuv444p", "-"],
        input=b"".join(plane.tobytes() for plane in frame.planes),
        capture_output=True,
        check=True,
    ).stdout
    theirs = np.frombuffer(raw, np.uint8).reshape(3, 120, 160)[0].astype(float)
    ours = tilted(frame, (0, 0, 160, 120), tilt_deg, FRAME).y.astype(float)
    other_way = tilted(frame, (0, 0, 160, 120), -tilt_deg, FRAME).y.astype(float)
    off, off_the_other_way = np.abs(ours - theirs).mean(), np.abs(other_way - theirs).mean()
    # its pixel (x, y) lies at x - 80, not at x + 0.5 - 80: half a pixel of difference at the rim
    assert off < 4 < 20 < off_the_other_way


@pytest.mark.parametrize("full_range", [False, True])
@pytest.mark.parametrize("depth", [8, 10])
@pytest.mark.parametrize("quarter_deg", [0, 90])
def test_outside_of_the_frame_it_is_black(full_range: bool, depth: int, quarter_deg: int) -> None:
    frame = flat_frame(FRAME, tuple(c << depth - 8 for c in (200, 90, 160)), depth)  # type: ignore[arg-type]
    size = FRAME if quarter_deg == 0 else Size(120, 160)
    got = tilted(
        frame,
        (0, 0, size.width, size.height),
        20.0,
        size,
        display_size=size,
        rotation_deg=quarter_deg,
        colour=colour(full_range=full_range),
    )
    middle = tuple(int(plane[len(plane) // 2, plane.shape[1] // 2]) for plane in got.planes)
    for index, (plane, code) in enumerate(zip(got.planes, middle, strict=True)):
        step = 2 if index else 1
        y, x = np.mgrid[: plane.shape[0], : plane.shape[1]] * step + 0.5 * step
        offset = (x - size.width / 2) + 1j * (y - size.height / 2)
        place = offset * np.exp(1j * np.deg2rad(20.0))
        beyond_x = np.abs(place.real) - size.width / 2
        beyond_y = np.abs(place.imag) - size.height / 2
        beyond = np.maximum(beyond_x, beyond_y)
        reach = 2.5 * step + 1
        assert (plane[beyond > reach] == BLACK[index]).all()
        assert (plane[beyond < -reach] == code).all()
        assert (beyond > reach).sum() > 100 / step**2


def test_the_frame_ends_in_the_fraction_of_a_pixel_where_it_ends() -> None:
    """The border of a white frame is a straight line, which a column crosses where it must."""
    frame = flat_frame(FRAME, (235, 128, 128))
    got = tilted(frame, (0, 0, 160, 120), 5.0, Size(320, 240)).y.astype(float)
    angle = np.deg2rad(5.0)
    for column in range(30, 110, 7):
        black = ((235 - got[:120, column]) / 219).sum() / 2
        # the top border: (x - 80) sin 5 + (y - 60) cos 5 = -60
        ideal = 60 + (-60 - ((column + 0.5) / 2 - 80) * np.sin(angle)) / np.cos(angle)
        assert black == pytest.approx(ideal, abs=0.03)


def test_bars_are_those_of_the_fit() -> None:
    frame = flat_frame(Size(400, 300), (200, 90, 160))
    got = tilted(frame, (150, 100, 100, 100), 13.0, fit=Fit.CONTAIN)
    for plane, code, black, bar in zip(got.planes, (200, 90, 160), BLACK, (16, 8, 8), strict=True):
        assert (plane[:, bar:-bar] == code).all()
        assert (plane[:, :bar] == black).all() and (plane[:, -bar:] == black).all()


# A part of a frame, as a network gives it


def test_a_part_of_a_frame_is_tilted_about_the_centre_of_the_whole() -> None:
    """Cut out of a 160x120 frame from (40, 30) on, with room for what the crop needs."""
    frame = a_frame(FRAME)
    part = SourceFrame(
        0,
        (frame.planes[0][30:, 40:], frame.planes[1][15:, 20:], frame.planes[2][15:, 20:]),
        8, (2, 2), (0.0, 0.5), None,
    )  # fmt: skip
    made = tilted(
        part, (45.5, 36.25, 60, 40), 15.0, display_size=part.size, whole=Rect(-40, -30, 160, 120)
    )
    assert (made.buffer == tilted(frame, (85.5, 66.25, 60, 40), 15.0).buffer).all()


def test_what_a_part_lacks_repeats_its_border() -> None:
    """And what it has beyond the frame is black."""
    part = flat_frame(Size(80, 60), (200, 90, 160))
    whole = Rect(-40, -30, 110, 82)
    made = tilted(part, (-20, -15, 120, 80), 10.0, display_size=part.size, whole=whole)
    assert (made.y[3:30, 3:40] == 200).all()
    assert (made.y[-3:, -9:] == 16).all()


# Bits


def test_the_bits_are_the_same_every_time_and_from_every_thread() -> None:
    frame, rect = a_frame(FRAME), RECTS["shrunk"]
    first = tilted(frame, rect, 7.3).buffer.tobytes()
    with ThreadPoolExecutor(4) as pool:
        made = list(pool.map(lambda _: tilted(frame, rect, 7.3).buffer.tobytes(), range(12)))
    assert set(made) == {first}


def test_the_bits_are_these() -> None:
    """Pinned, so that another machine or library shows where it makes others."""
    y, x = np.mgrid[:120, :160]
    luma = (x * 7 + y * 13 + (x * y) % 31) % 220 + 16
    made = tilted(luma_frame(luma), RECTS["enlarged"], 7.3)
    assert xxhash.xxh3_64_hexdigest(made.buffer.tobytes()) == "b0ea03688bc2fa80"


def test_one_sampler_serves_every_rectangle() -> None:
    frame = a_frame(FRAME)
    sampler = CropSampler(
        display_size=FRAME, rotation_deg=0, colour=colour(), target=TARGET, fit=Fit.STRETCH,
        tilt_deg=-4.5,
    )  # fmt: skip
    picture = Picture(TARGET)
    for rect in (*RECTS.values(), RECTS["enlarged"]):
        sampler.sample(frame, np.array(rect), picture)
        assert (picture.buffer == tilted(frame, rect, -4.5).buffer).all()


# A slow pan


def places_of_an_edge(tilt_deg: float, zoom: float) -> NDArray[np.float64]:
    """How far a painted edge is from where the pan has it, in output pixels: (frames, rows).

    The pan goes a tenth of a pixel per frame.
    """
    luma = np.full((300, 300), 40)
    luma[:, 150:] = 200
    side, off = 96 / zoom, []
    for step in range(40):
        left, top = 150 - side / 2 - 2 + 0.1 * step, 100.0
        got = tilted(luma_frame(luma), (left, top, side, side), tilt_deg, Size(96, 96)).y
        y = top + (np.arange(96) + 0.5) / zoom
        # of the turned edge: (x - 150) cos = (y - 150) sin
        edge = 150 + (y - 150) * np.tan(np.deg2rad(tilt_deg))
        off.append(((200 - got.astype(float)) / 160).sum(1) - (edge - left) * zoom)
    return np.array(off)


@pytest.mark.parametrize("zoom", [2.0, 1.0, 0.75])
def test_a_tilted_pan_shakes_no_more_than_an_upright_one(zoom: float) -> None:
    upright = places_of_an_edge(0.0, zoom)
    for tilt_deg in (20.0, -7.3, 0.4):
        turned = places_of_an_edge(tilt_deg, zoom)
        assert turned.mean(1).std() <= upright.mean(1).std()
        assert np.abs(turned - turned.mean()).max() < 0.05
