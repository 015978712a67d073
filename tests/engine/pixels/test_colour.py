"""Colour, against published values, hand-worked ones and the ffmpeg program."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray

from engine.geometry import Box, Fit, Size
from engine.pixels.colour import (
    BT2020_TO_BT709,
    colour_conversion,
    hlg_to_nit,
    levels,
    map_to_gamut,
    matrix_weights,
    nit_to_pq,
    pq_to_nit,
    rgb_to_ycc,
    to_bt709,
    tone_map,
    unrounded_table,
    ycc_to_rgb,
)
from engine.pixels.crop import CropSampler
from engine.pixels.picture import Picture, SourceFrame
from engine.source import Colour, Matrix, Transfer
from tests.engine.pixels.test_crop import a_frame, by_ffmpeg, mean_difference
from tests.media import needs_ffmpeg

SIZE = Size(64, 48)
WHOLE = Box(0, 0, 64, 48)
TABLED = [
    (Matrix.BT2020, Transfer.HLG),
    (Matrix.BT2020, Transfer.PQ),
    (Matrix.BT2020, Transfer.SDR),
]


def fine(codes: NDArray[np.float64]) -> NDArray[np.uint16]:
    return np.round(codes * 64).astype(np.uint16)


def converted(
    matrix: Matrix, transfer: Transfer, planes: list[NDArray[np.float64]], box: Box = WHOLE
) -> Picture:
    conversion = colour_conversion(Colour(matrix, False, transfer, assumed=False))
    assert conversion
    out = Picture(SIZE)
    out.fill_black()
    conversion([fine(plane) for plane in planes], out, box)
    return out


def flat_codes(codes: tuple[float, float, float]) -> list[NDArray[np.float64]]:
    shapes = ((48, 64), (24, 32), (24, 32))
    return [np.full(shape, code) for shape, code in zip(shapes, codes, strict=True)]


def one_colour(
    matrix: Matrix, transfer: Transfer, codes: tuple[float, float, float]
) -> tuple[int, ...]:
    out = converted(matrix, transfer, flat_codes(codes))
    for plane in out.planes:
        assert (plane == plane[0, 0]).all()
    return tuple(int(plane[0, 0]) for plane in out.planes)


# Levels and matrices


def test_limited_range_needs_no_levels() -> None:
    luma, chroma = levels(False, 10)
    assert (luma.unit, luma.bias, chroma.unit, chroma.bias) == (16384, 0, 16384, 0)


def test_bt709_needs_no_conversion() -> None:
    assert colour_conversion(Colour(Matrix.BT709, True, Transfer.SDR, assumed=False)) is None


@pytest.mark.parametrize(
    ("bt601", "bt709"),
    [  # 100 % bars in 8 bits, as tabled for either standard
        ((16, 128, 128), (16, 128, 128)),
        ((235, 128, 128), (235, 128, 128)),
        ((81, 90, 240), (63, 102, 240)),
        ((145, 54, 34), (173, 42, 26)),
        ((41, 240, 110), (32, 240, 118)),
        ((210, 16, 146), (219, 16, 138)),
    ],
)
def test_bars_of_bt601(bt601: tuple[int, int, int], bt709: tuple[int, int, int]) -> None:
    got = one_colour(Matrix.BT601, Transfer.SDR, bt601)
    assert np.abs(np.subtract(got, bt709)).max() <= 1


def test_grey_has_no_part_in_chroma() -> None:
    change = rgb_to_ycc(ycc_to_rgb(np.eye(3), Matrix.BT601), Matrix.BT709)
    assert np.abs(change[0] - (1, 0, 0)).max() < 1e-12
    assert matrix_weights(Matrix.BT709).tolist() == [0, 0, 16384, 0, 0, 16384]


@needs_ffmpeg
@pytest.mark.parametrize("full_range", [False, True])
def test_bt601_agrees_with_ffmpeg(full_range: bool) -> None:
    size, target = Size(160, 120), Size(240, 180)
    loud = a_frame(size, full_range=full_range)
    y, u, v = (  # colours that RGB has, since ffmpeg goes through RGB
        np.round(128 + (plane.astype(float) - 128) * share).astype(np.uint8)
        for plane, share in zip(loud.planes, (0.6, 0.3, 0.3), strict=True)
    )
    frame = SourceFrame(0, (y, u, v), 8, loud.chroma_step, loud.chroma_offset, None)
    sampler = CropSampler(
        display_size=size,
        rotation_deg=0,
        colour=Colour(Matrix.BT601, full_range, Transfer.SDR, assumed=False),
        target=target,
        fit=Fit.STRETCH,
    )
    got = Picture(target)
    sampler.sample(frame, np.array([0.0, 0.0, 160.0, 120.0]), got)
    change = (
        f":in_color_matrix=bt601:out_color_matrix=bt709:in_range={'pc' if full_range else 'tv'}"
    )
    theirs = by_ffmpeg(frame, "yuv420p", target, change + ":out_range=tv")
    for ours, plane in zip(got.planes, theirs, strict=True):
        assert mean_difference(ours, plane) < 2


def test_chroma_is_read_where_luma_is() -> None:
    """Left-sited chroma that grows with its site adds a straight line to luma."""
    down, across = np.mgrid[:24, :32]
    red = 128.0 + (2 * across - 30) + (2 * down + 0.5 - 20)
    out = converted(Matrix.BT601, Transfer.SDR, [*flat_codes((100, 128, 128))[:2], red])
    y, x = np.mgrid[:48, :64]
    weight = matrix_weights(Matrix.BT601)[1] / 16384
    ideal = 100 + weight * ((x - 30) + (y - 20))
    assert np.abs(out.y - ideal)[1:-1, :-1].max() <= 0.51


def test_ycc_and_rgb_are_inverses() -> None:
    colours = np.random.default_rng(1).uniform(0, 1, (50, 3))
    for matrix in Matrix:
        assert ycc_to_rgb(rgb_to_ycc(colours, matrix), matrix) == pytest.approx(colours, abs=1e-12)
    red = rgb_to_ycc(np.array([1.0, 0.0, 0.0]), Matrix.BT709)
    assert red == pytest.approx([0.2126, -0.2126 / 1.8556, 0.5])


# Published curves


def test_pq_of_published_levels() -> None:
    """ITU-R BT.2408, table 1, and BT.2100: 10 000 at the top."""
    for nit, signal in ((0.0, 0.0), (100.0, 0.508), (203.0, 0.581), (1000.0, 0.752), (1e4, 1.0)):
        assert nit_to_pq(np.array(nit)) == pytest.approx(signal, abs=0.0005)
    light = np.array([0.01, 1.0, 203.0, 9000.0])
    assert pq_to_nit(nit_to_pq(light)) == pytest.approx(light, rel=1e-9)


def test_hlg_of_published_levels() -> None:
    """ITU-R BT.2408: reference white is 75 % HLG and 203 cd/m2 on a display of 1000."""
    for signal, nit in ((0.0, 0.0), (0.75, 203.0), (1.0, 1000.0)):
        light = hlg_to_nit(np.full(3, signal))
        assert light == pytest.approx(np.full(3, nit), rel=0.005)


def test_tone_mapping_bends_only_the_bright() -> None:
    """The knee is at 1.5 * 0.581 / 0.752 - 0.5 = 0.659 of PQ(1000), which is 90 cd/m2."""
    dark = np.array([0.0, 0.1, 5.0, 50.0, 85.0])
    assert tone_map(dark) == pytest.approx(dark, rel=1e-6)
    assert tone_map(np.array(1000.0)) == pytest.approx(203.0)
    assert tone_map(np.array(4000.0)) == pytest.approx(203.0)
    assert (np.diff(tone_map(np.linspace(0, 1000, 500))) > 0).all()


def test_colours_outside_the_gamut_keep_their_lightness() -> None:
    outside = np.array([[1.3, 0.2, 0.1], [-0.2, 0.6, 0.1], [0.4, 0.5, 0.6], [2.0, 2.0, 2.0]])
    inside = map_to_gamut(outside)
    assert inside.min() >= 0
    assert inside.max() <= 1
    luma = np.array([0.2126, 0.7152, 0.0722])
    assert inside[:3] @ luma == pytest.approx(outside[:3] @ luma)
    assert inside[2].tolist() == outside[2].tolist()
    assert inside[3].tolist() == [1, 1, 1]


# What a viewer sees


@pytest.mark.parametrize(("matrix", "transfer"), TABLED)
def test_black_white_and_grey(matrix: Matrix, transfer: Transfer) -> None:
    assert one_colour(matrix, transfer, (16, 128, 128)) == (16, 128, 128)
    assert one_colour(matrix, transfer, (235, 128, 128)) == (235, 128, 128)
    ramp = flat_codes((0, 128, 128))
    ramp[0] = np.broadcast_to(np.linspace(4, 246, 64), (48, 64))
    out = converted(matrix, transfer, ramp)
    assert (np.diff(out.y[0].astype(int)) >= 0).all()
    assert (out.u == 128).all()
    assert (out.v == 128).all()


def test_grey_of_bt2020_is_grey_of_bt709() -> None:
    ramp = flat_codes((0, 128, 128))
    ramp[0] = np.broadcast_to(np.linspace(16, 235, 64), (48, 64))
    out = converted(Matrix.BT2020, Transfer.SDR, ramp)
    assert np.abs(out.y - ramp[0]).max() <= 0.75


@pytest.mark.parametrize(
    ("transfer", "signal"), [(Transfer.HLG, 0.75), (Transfer.PQ, 0.5807)], ids=str
)
def test_reference_white_is_bright_and_leaves_room(transfer: Transfer, signal: float) -> None:
    """203 cd/m2 becomes 160 of 203: (160 / 203) ** (1 / 2.4) = 0.905, code 16 + 219 * 0.905."""
    code = 16 + 219 * signal
    y, u, v = one_colour(Matrix.BT2020, transfer, (code, 128, 128))
    assert abs(y - 214) <= 1
    assert (u, v) == (128, 128)


def test_a_bt709_colour_survives_the_way_through_bt2020() -> None:
    """Linear light of a BT.709 colour, written in BT.2020 (the inverse of BT.2087's matrix)."""
    wide = np.linalg.inv(BT2020_TO_BT709)
    for rgb in ([0.6, 0.3, 0.2], [0.1, 0.5, 0.2], [0.15, 0.2, 0.7]):
        signal = np.array(rgb)
        coded = (wide @ signal**2.4) ** (1 / 2.4)
        codes = rgb_to_ycc(coded, Matrix.BT2020) * (219, 224, 224) + (16, 128, 128)
        wanted = rgb_to_ycc(signal, Matrix.BT709) * (219, 224, 224) + (16, 128, 128)
        y, u, v = (float(code) for code in codes)
        got = one_colour(Matrix.BT2020, Transfer.SDR, (y, u, v))
        assert np.abs(got - wanted).max() <= 2.5


@pytest.mark.parametrize(("matrix", "transfer"), TABLED)
def test_the_table_follows_its_formula(matrix: Matrix, transfer: Transfer) -> None:
    """Colours that a camera records: dark to highlights, with some saturation."""
    rng = np.random.default_rng(4)
    top, spread = (0.7, 0.04) if transfer is Transfer.PQ else (0.9, 0.08)  # PQ is the steeper curve
    signal = rng.uniform(0.1, top, (24 * 32, 1)) + rng.uniform(-spread, spread, (24 * 32, 3))
    codes = rgb_to_ycc(signal, matrix) * (219, 224, 224) + (16, 128, 128)
    wanted = to_bt709(codes, matrix, transfer)
    off = []
    for colour, ideal in list(zip(codes, wanted, strict=True))[::16]:
        y, u, v = (float(code) for code in colour)
        off.append(np.abs(np.subtract(one_colour(matrix, transfer, (y, u, v)), ideal)))
    assert np.mean(off) < 0.7  # of which rounding is 0.25
    assert np.max(off) < 4


@pytest.mark.parametrize(("matrix", "transfer"), TABLED)
def test_the_table_is_the_same_on_every_machine(matrix: Matrix, transfer: Transfer) -> None:
    """No value is so near a whole number that another CPU's last bits could change the table."""
    values = unrounded_table(matrix, transfer)
    assert np.abs(values - np.round(values)).min() > 1e-9


def test_only_the_box_is_filled() -> None:
    planes = [np.full(shape, 200.0) for shape in ((20, 30), (10, 15), (10, 15))]
    for matrix, transfer in ((Matrix.BT601, Transfer.SDR), (Matrix.BT2020, Transfer.HLG)):
        out = converted(matrix, transfer, planes, Box(8, 4, 30, 20))
        assert (out.y[4:24, 8:38] != 16).all()
        assert (out.u[2:12, 4:19] != 128).any()
        out.y[4:24, 8:38] = 16
        out.u[2:12, 4:19] = 128
        out.v[2:12, 4:19] = 128
        empty = Picture(SIZE)
        empty.fill_black()
        assert (out.buffer == empty.buffer).all()
