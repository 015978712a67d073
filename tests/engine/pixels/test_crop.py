"""Crop sampling, against arithmetic, numpy's rotations and the ffmpeg program."""

from __future__ import annotations

import subprocess
from typing import Any

import av
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from engine.geometry import Fit, Rect, Size, fit_crop
from engine.pixels.crop import CropSampler
from engine.pixels.picture import BLACK, Picture, SourceFrame
from engine.pixels.resample import taps
from engine.source import Colour, Matrix, Transfer
from tests.media import needs_ffmpeg, real_media

LAYOUTS = {  # depth, chroma step, chroma offset
    "yuv420p": (8, (2, 2), (0.0, 0.5)),
    "yuv422p": (8, (2, 1), (0.0, 0.0)),
    "yuv444p": (8, (1, 1), (0.0, 0.0)),
    "yuv420p10le": (10, (2, 2), (0.0, 0.5)),
    "yuv422p12le": (12, (2, 1), (0.0, 0.0)),
    "yuv444p16le": (16, (1, 1), (0.0, 0.0)),
}
TARGET = Size(96, 64)


def colour(*, full_range: bool = False) -> Colour:
    return Colour(Matrix.BT709, full_range, Transfer.SDR, assumed=False)


def scene(width: int, height: int, seed: int = 0) -> NDArray[np.float64]:
    """Blobs and a few hard edges, 0 ... 1."""
    y, x = np.mgrid[:height, :width]
    rng = np.random.default_rng(seed)
    picture = np.zeros((height, width))
    for _ in range(12):
        fx, fy, phase = rng.uniform(-0.5, 0.5), rng.uniform(-0.5, 0.5), rng.uniform(0, 6)
        picture += np.sin(fx * x + fy * y + phase)
    picture += 4.0 * (np.hypot(x - width * 0.4, y - height * 0.5) < height * 0.3)
    return np.asarray((picture - picture.min()) / np.ptp(picture))


def a_frame(size: Size, pixel_format: str = "yuv420p", *, full_range: bool = False) -> SourceFrame:
    depth, step, offset = LAYOUTS[pixel_format]
    low, high = (0, 255) if full_range else (16, 235)
    planes: list[NDArray[Any]] = []
    for index in range(3):
        across, down = step if index else (1, 1)
        picture = scene(-(-size.width // across), -(-size.height // down), seed=index)
        codes = np.round((low + picture * (high - low)) * 2 ** (depth - 8))
        planes.append(codes.astype(np.uint8 if depth == 8 else np.uint16))
    y, u, v = planes
    return SourceFrame(0, (y, u, v), depth, step, offset, None)


def flat_frame(size: Size, codes: tuple[int, int, int], depth: int = 8) -> SourceFrame:
    kind: Any = np.uint8 if depth == 8 else np.uint16
    half = ((size.height + 1) // 2, (size.width + 1) // 2)
    shapes = ((size.height, size.width), half, half)
    y, u, v = (np.full(shape, code, kind) for shape, code in zip(shapes, codes, strict=True))
    return SourceFrame(0, (y, u, v), depth, (2, 2), (0.0, 0.5), None)


def luma_frame(luma: NDArray[Any]) -> SourceFrame:
    height, width = luma.shape
    grey = np.full(((height + 1) // 2, (width + 1) // 2), 128, np.uint8)
    return SourceFrame(0, (luma.astype(np.uint8), grey, grey), 8, (2, 2), (0.0, 0.5), None)


def sampled(
    frame: SourceFrame,
    rect: tuple[float, float, float, float] | None = None,
    target: Size = TARGET,
    *,
    fit: Fit = Fit.STRETCH,
    rotation_deg: int = 0,
    full_range: bool = False,
) -> Picture:
    size = frame.size
    display = size if rotation_deg % 180 == 0 else Size(size.height, size.width)
    sampler = CropSampler(
        display_size=display,
        rotation_deg=rotation_deg,
        colour=colour(full_range=full_range),
        target=target,
        fit=fit,
    )
    picture = Picture(target)
    whole = (0.0, 0.0, float(display.width), float(display.height))
    sampler.sample(frame, np.array(rect or whole, np.float64), picture)
    return picture


def by_ffmpeg(
    frame: SourceFrame, pixel_format: str, target: Size, options: str = ""
) -> tuple[NDArray[np.uint8], ...]:
    """The planes that the ffmpeg program's bicubic makes of the whole frame."""
    step, offset = LAYOUTS[pixel_format][1:] if pixel_format in LAYOUTS else ((2, 2), (0.0, 0.5))
    sites = f"in_h_chr_pos={int(offset[0] * 256)}:out_h_chr_pos=0:out_v_chr_pos=128"
    sites += f":in_v_chr_pos={int(offset[1] * 256)}" if step[1] == 2 else ""
    scale = f"scale={target.width}:{target.height}:flags=bicubic+accurate_rnd:{sites}{options}"
    count = 1 if pixel_format == "gray" else 3
    raw = subprocess.run(
        ["ffmpeg", "-v", "error", "-f", "rawvideo", "-pix_fmt", pixel_format]
        + ["-s", str(frame.size), "-i", "-", "-vf", scale]
        + ["-f", "rawvideo", "-pix_fmt", "yuv420p", "-"],
        input=b"".join(plane.tobytes() for plane in frame.planes[:count]),
        capture_output=True,
        check=True,
    ).stdout
    picture = Picture(target)
    picture.buffer.reshape(-1)[:] = np.frombuffer(raw, np.uint8)
    return picture.planes


def mean_difference(a: NDArray[Any], b: NDArray[Any]) -> float:
    return float(np.abs(a.astype(int) - b.astype(int)).mean())


# Where samples come from


@pytest.mark.parametrize("shift", [0.0, 0.1, 0.37, 0.5, 0.93])
def test_a_ramp_is_read_between_its_samples(shift: float) -> None:
    y, x = np.mgrid[:80, :120]
    frame = luma_frame(20 + x + y)
    got = sampled(frame, (11 + shift, 7.25 - shift, 48, 32)).y.astype(float)
    across = 11 + shift + (np.arange(96) + 0.5) / 2 - 0.5
    down = 7.25 - shift + (np.arange(64) + 0.5) / 2 - 0.5
    ideal = 20 + across[None, :] + down[:, None]
    # the cubic with a = -0.6 bends a line of slope 1 by up to 0.02, on each axis
    assert np.abs(got - ideal).max() <= 0.5 + 0.045


@pytest.mark.parametrize("axis", [0, 1])
@pytest.mark.parametrize("zoom", [2.0, 0.75])
def test_an_edge_in_a_slow_pan_moves_as_slowly(axis: int, zoom: float) -> None:
    luma = np.full((200, 200), 40)
    luma[(slice(None),) * axis + (slice(100, None),)] = 200
    target = Size(96, 96)
    extent = 96 / zoom
    places, ideals = [], []
    for step in range(30):
        corner = 100 - extent / 2 - 1.5 + 0.1 * step
        rect = (corner, 30.0, extent, extent) if axis == 1 else (30.0, corner, extent, extent)
        got = sampled(luma_frame(luma), rect, target).y.astype(float)
        places.append(((200 - got) / 160).sum(axis).mean())
        ideals.append((100 - corner) * zoom)
    assert np.abs(np.array(places) - ideals).max() < 0.25
    assert (np.diff(places) < 0).all()


def test_chroma_moves_with_luma() -> None:
    """An edge in both, at luma sample 60: left-sited chroma sample 30 is the first behind it."""
    luma = np.full((120, 120), 60, np.uint8)
    luma[:, 60:] = 180
    blue = np.full((60, 60), 100, np.uint8)
    blue[:, 30:] = 160
    frame = SourceFrame(0, (luma, blue, blue), 8, (2, 2), (0.0, 0.5), None)
    for corner in (10.0, 10.3, 10.9):
        got = sampled(frame, (corner, 10, 96, 64))
        of_luma = ((180 - got.y.astype(float)) / 120).sum(1).mean()
        of_chroma = 2 * ((160 - got.u.astype(float)) / 60).sum(1).mean()
        assert of_luma == pytest.approx(60 - corner, abs=0.15)
        # half way between chroma samples 29 and 30 is luma position 59, whose centre is at 59.5
        assert of_chroma == pytest.approx(59.5 - corner + 0.5, abs=0.15)


def test_what_lies_beside_the_crop_does_not_show() -> None:
    """A bright neighbour may ring over the crop's border, and no further."""
    luma = np.full((120, 160), 50)
    luma[:, 100:] = 220
    got = sampled(luma_frame(luma), (4, 10, 96, 64)).y
    assert (got[:, :-2] == 50).all()


def test_a_crop_at_full_scale_is_a_copy() -> None:
    frame = a_frame(Size(160, 120))
    got = sampled(frame, (20, 10, 96, 64))
    assert (got.y == frame.planes[0][10:74, 20:116]).all()
    assert (got.u == frame.planes[1][5:37, 10:58]).all()
    assert (got.v == frame.planes[2][5:37, 10:58]).all()


def test_the_copy_is_what_the_kernel_makes() -> None:
    frame = a_frame(Size(160, 120))
    y, u, v = (plane.astype(np.uint16) * np.uint16(4) for plane in frame.planes)
    deeper = SourceFrame(0, (y, u, v), 10, frame.chroma_step, frame.chroma_offset, None)
    for corner in ((20, 10), (20.5, 10), (19, 11)):
        rect = (*corner, 96, 64)
        assert (sampled(frame, rect).buffer == sampled(deeper, rect).buffer).all()


# Against other programs


@needs_ffmpeg
@pytest.mark.parametrize("target", [Size(240, 180), Size(96, 72), Size(250, 46)])
@pytest.mark.parametrize("pixel_format", LAYOUTS)
def test_agrees_with_ffmpeg(pixel_format: str, target: Size) -> None:
    frame = a_frame(Size(160, 120), pixel_format)
    got = sampled(frame, target=target)
    for ours, theirs in zip(got.planes, by_ffmpeg(frame, pixel_format, target), strict=True):
        assert mean_difference(ours, theirs) < 0.6


@needs_ffmpeg
@pytest.mark.parametrize("pixel_format", ["yuv420p", "yuv422p", "yuv420p10le"])
def test_odd_sizes_agree_with_ffmpeg(pixel_format: str) -> None:
    frame = a_frame(Size(161, 121), pixel_format)
    got = sampled(frame, target=Size(322, 242))
    assert mean_difference(got.y, by_ffmpeg(frame, pixel_format, Size(322, 242))[0]) < 0.6


@needs_ffmpeg
@pytest.mark.parametrize("pixel_format", ["yuv420p", "yuv444p", "yuv420p10le"])
def test_full_range_agrees_with_ffmpeg(pixel_format: str) -> None:
    frame = a_frame(Size(160, 120), pixel_format, full_range=True)
    theirs = by_ffmpeg(frame, pixel_format, Size(240, 180), ":in_range=pc:out_range=tv")
    got = sampled(frame, target=Size(240, 180), full_range=True)
    for ours, plane in zip(got.planes, theirs, strict=True):
        assert mean_difference(ours, plane) < 1


@needs_ffmpeg
def test_grey_sources_agree_with_ffmpeg() -> None:
    frame = luma_frame(16 + 219 * scene(160, 120))
    got = sampled(frame, target=Size(240, 180))
    theirs = by_ffmpeg(frame, "gray", Size(240, 180), ":in_range=tv:out_range=tv")
    assert mean_difference(got.y, theirs[0]) < 0.6
    assert (got.u == 128).all()
    assert (got.v == 128).all()


@needs_ffmpeg
def test_a_real_turned_clip_agrees_with_ffmpeg() -> None:
    path = real_media("iphone_portrait_h264_rot90_mono44k.mov")
    with av.open(str(path)) as container:
        picture = next(container.decode(video=0))
    y, u, v = (
        np.frombuffer(memoryview(plane), np.uint8).reshape(plane.height, plane.line_size)[
            :, : plane.width
        ]
        for plane in picture.planes
    )
    got = sampled(
        SourceFrame(0, (y, u, v), 8, (2, 2), (0.0, 0.5), picture),
        target=Size(480, 852),
        rotation_deg=90,
    )
    raw = subprocess.run(
        ["ffmpeg", "-v", "error", "-i", str(path), "-frames:v", "1"]
        + ["-vf", "scale=480:852:flags=bicubic+accurate_rnd"]
        + ["-f", "rawvideo", "-pix_fmt", "yuv420p", "-"],
        capture_output=True,
        check=True,
    ).stdout
    theirs = np.frombuffer(raw, np.uint8).reshape(got.buffer.shape)
    assert mean_difference(got.buffer, theirs) < 1


# Turned and stretched


@pytest.mark.parametrize("rotation_deg", [90, 180, 270])
@pytest.mark.parametrize("target", [Size(96, 64), Size(42, 34), Size(200, 120)])
def test_a_turned_source_is_turned_back(rotation_deg: int, target: Size) -> None:
    upright = a_frame(Size(150, 110), "yuv444p")
    y, u, v = (np.rot90(plane, rotation_deg // 90) for plane in upright.planes)  # anticlockwise
    coded = SourceFrame(0, (y, u, v), 8, (1, 1), (0.0, 0.0), None)
    rect = (21.3, 8.6, 90.5, 60.25)
    wanted = sampled(upright, rect, target)
    got = sampled(coded, rect, target, rotation_deg=rotation_deg)
    assert np.abs(got.buffer.astype(int) - wanted.buffer).max() <= 1


@pytest.mark.parametrize("rotation_deg", [0, 90, 180, 270])
def test_siting_is_that_of_the_coded_picture(rotation_deg: int) -> None:
    """A plane of chroma that grows with its site shows whether the site was turned with it."""
    y, x = np.mgrid[:60, :60]
    blue = (40 + 2 * x + y).astype(np.uint8)  # left-sited: luma position (2 x, 2 y + 0.5)
    luma = np.full((120, 120), 90, np.uint8)
    frame = SourceFrame(0, (luma, blue, blue), 8, (2, 2), (0.0, 0.5), None)
    got = sampled(frame, (0, 0, 120, 120), Size(120, 120), rotation_deg=rotation_deg).u
    down, across = np.mgrid[:60, :60]
    # display luma position of each output sample, then the coded position it is taken from
    px, py = 2.0 * across, 2.0 * down + 0.5
    cx, cy = {0: (px, py), 90: (py, 119 - px), 180: (119 - px, 119 - py), 270: (119 - py, px)}[
        rotation_deg
    ]
    ideal = 40 + 2 * (cx / 2) + (cy - 0.5) / 2
    inside = (slice(3, -3), slice(3, -3))
    assert np.abs(got[inside] - ideal[inside]).max() <= 0.5 + 0.07


def test_pixels_that_are_not_square_are_squared() -> None:
    """Coded 120x100, shown as 160x100: a display pixel is 3/4 of a coded one."""
    _, x = np.mgrid[:100, :120]
    sampler = CropSampler(
        display_size=Size(160, 100),
        rotation_deg=0,
        colour=colour(),
        target=TARGET,
        fit=Fit.STRETCH,
    )
    picture = Picture(TARGET)
    sampler.sample(luma_frame(30 + x), np.array([20.0, 10.0, 96.0, 64.0]), picture)
    ideal = 30 + (20 + np.arange(96) + 0.5) * 0.75 - 0.5
    assert np.abs(picture.y - ideal[None, :]).max() <= 0.53


# Fits


def test_contain_has_black_bars() -> None:
    got = sampled(flat_frame(Size(100, 100), (200, 90, 160)), fit=Fit.CONTAIN)
    assert (got.y[:, 16:80] == 200).all()
    assert (got.u[:, 8:40] == 90).all()
    assert (got.v[:, 8:40] == 160).all()
    for plane, code, bar in zip(got.planes, BLACK, (16, 8, 8), strict=True):
        assert (plane[:, :bar] == code).all()
        assert (plane[:, -bar:] == code).all()


def test_bars_do_not_keep_the_last_picture() -> None:
    frame = flat_frame(Size(200, 200), (200, 90, 160))
    sampler = CropSampler(
        display_size=Size(200, 200), rotation_deg=0, colour=colour(), target=TARGET, fit=Fit.CONTAIN
    )
    picture = Picture(TARGET)
    sampler.sample(frame, np.array([0.0, 0.0, 150.0, 100.0]), picture)
    assert (picture.y == 200).all()
    sampler.sample(frame, np.array([0.0, 0.0, 100.0, 200.0]), picture)
    assert (picture.y[:, 0] == 16).all()
    assert (picture.y[:, 48] == 200).all()


def test_cover_shows_the_middle() -> None:
    frame = a_frame(Size(160, 160))
    rect = (10.0, 20.0, 120.0, 120.0)
    shown, _ = fit_crop(Rect(*rect), TARGET, Fit.COVER)
    wanted = sampled(frame, (shown.x, shown.y, shown.width, shown.height), fit=Fit.STRETCH)
    assert (sampled(frame, rect, fit=Fit.COVER).buffer == wanted.buffer).all()
    assert (shown.y, shown.height) == (40.0, 80.0)


# Any rectangle, any frame


@settings(max_examples=60, deadline=None)
@given(
    x=st.floats(-20, 140),
    y=st.floats(-20, 110),
    width=st.floats(0.5, 400),
    height=st.floats(0.5, 400),
    rotation_deg=st.sampled_from([0, 90, 180, 270]),
    depth=st.sampled_from([8, 10]),
    codes=st.tuples(st.integers(0, 255), st.integers(0, 255), st.integers(0, 255)),
)
def test_one_colour_stays_that_colour(
    x: float,
    y: float,
    width: float,
    height: float,
    rotation_deg: int,
    depth: int,
    codes: tuple[int, int, int],
) -> None:
    raised = (codes[0] << (depth - 8), codes[1] << (depth - 8), codes[2] << (depth - 8))
    frame = flat_frame(Size(161, 121), raised, depth)
    got = sampled(frame, (x, y, width, height), rotation_deg=rotation_deg)
    for plane, code in zip(got.planes, codes, strict=True):
        assert (plane == code).all()


@pytest.mark.parametrize(
    "rect", [(0, 0, 7.5, 5), (152.5, 115, 7.5, 5), (0, 0, 160, 0.5), (159, 119, 1, 1)]
)
def test_the_border_of_the_frame_is_extended(rect: tuple[float, float, float, float]) -> None:
    """Next to a corner nothing but that corner's neighbourhood can show."""
    frame = a_frame(Size(160, 120))
    got = sampled(frame, rect)
    x, y, width, height = rect
    rows = slice(max(0, int(y) - 2), int(y + height) + 3)
    columns = slice(max(0, int(x) - 2), int(x + width) + 3)
    near = frame.planes[0][rows, columns].astype(float)
    slack = 0.4 * np.ptp(near) + 1
    assert got.y.min() >= near.min() - slack
    assert got.y.max() <= near.max() + slack


@pytest.mark.parametrize("size", [Size(2, 2), Size(1, 1), Size(3, 200), Size(200, 3)])
def test_frames_smaller_than_the_kernel(size: Size) -> None:
    assert (sampled(flat_frame(size, (77, 99, 140))).y == 77).all()


def test_shrinking_to_a_speck_averages() -> None:
    luma = np.tile(np.array([[20, 220], [220, 20]]), (200, 200))
    speck = sampled(luma_frame(luma), target=Size(4, 2)).y.astype(int)
    assert np.abs(speck - 120).max() <= 1  # the extended corner counts a little more


def test_planes_may_be_views_with_gaps() -> None:
    """Padded rows, interleaved chroma as in NV12, read-only memory: the same bytes."""
    frame = a_frame(Size(160, 120))
    y = np.zeros((120, 192), np.uint8)
    y[:, :160] = frame.planes[0]
    uv = np.stack(frame.planes[1:], -1).reshape(60, 160)
    uv.flags.writeable = False
    views = (y[:, :160], uv[:, ::2], uv[:, 1::2])
    gappy = SourceFrame(0, views, 8, (2, 2), (0.0, 0.5), None)
    rect = (10.2, 3.4, 100.0, 66.0)
    assert (sampled(gappy, rect).buffer == sampled(frame, rect).buffer).all()


def test_a_frame_of_another_size_still_fills_the_display() -> None:
    sampler = CropSampler(
        display_size=Size(192, 128), rotation_deg=0, colour=colour(), target=TARGET, fit=Fit.STRETCH
    )
    rect = np.array([0.0, 0.0, 192.0, 128.0])
    whole, half = Picture(TARGET), Picture(TARGET)
    _, x = np.mgrid[:128, :192]
    sampler.sample(luma_frame(20 + x), rect, whole)
    _, x = np.mgrid[:64, :96]
    sampler.sample(luma_frame(20.5 + 2 * x), rect, half)
    assert np.abs(whole.y[:, 3:-3].astype(int) - half.y[:, 3:-3]).max() <= 1


# Levels and weights


@pytest.mark.parametrize(("depth", "top"), [(8, 255), (10, 1023), (12, 4095)])
def test_full_range_ends_where_limited_range_does(depth: int, top: int) -> None:
    middle = 1 << (depth - 1)
    for codes, wanted in (((0, middle, middle), (16, 128, 128)), ((top, 0, top), (235, 16, 240))):
        got = sampled(flat_frame(Size(40, 40), codes, depth), full_range=True)
        assert tuple(int(plane[5, 5]) for plane in got.planes) == wanted


@pytest.mark.parametrize("step", [0.3, 1.0, 1.3, 2.0, 7.7, -0.5, -2.5])
@pytest.mark.parametrize("unit", [1 << 14, 14071])
def test_weights_sum_exactly(step: float, unit: int) -> None:
    of_axis = taps(50, 3.21, step, unit)
    sums = of_axis.weights.astype(int).sum((0, 2))
    assert (sums == unit).all()
    assert len(of_axis) == 50


def test_weights_of_keys_cubic_half_way() -> None:
    """At 1/2: w(1/2) = 1/2 - a/8 = 0.575 and w(3/2) = a/8 = -0.075, in 14 bits."""
    of_axis = taps(1, 10.5, 1.0)
    assert of_axis.starts.tolist() == [9]
    assert of_axis.weights[0, 0].tolist() == [-1229, 9421, 9421, -1229]


def test_wrong_uses_are_named() -> None:
    with pytest.raises(ValueError, match="not 45 degrees"):
        sampled(a_frame(Size(40, 40)), rotation_deg=45)
    sampler = CropSampler(
        display_size=Size(40, 40), rotation_deg=0, colour=colour(), target=TARGET, fit=Fit.STRETCH
    )
    with pytest.raises(ValueError, match="the picture is 64x96, the target 96x64"):
        sampler.sample(a_frame(Size(40, 40)), np.array([0.0, 0, 40, 40]), Picture(Size(64, 96)))
