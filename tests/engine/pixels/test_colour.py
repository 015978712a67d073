"""Colour, against published values, hand-worked ones and the ffmpeg program."""

from __future__ import annotations

import colorsys
import inspect
import re
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from numba import njit
from numpy.typing import NDArray

from engine.geometry import Box, Fit, Size
from engine.pixels import recolour
from engine.pixels.colour import (
    TO_BT709,
    hlg_system_gain,
    hlg_to_scene,
    levels,
    matrix_weights,
    nit_to_pq,
    pq_to_nit,
    rgb_to_ycc,
    to_bt709,
    tone_curve,
    without_negatives,
    ycc_to_rgb,
)
from engine.pixels.crop import CropSampler
from engine.pixels.picture import Picture, SourceFrame
from engine.pixels.recolour import colour_conversion, light_tables, unrounded_tables
from engine.source import Colour, Matrix, Primaries, Transfer
from tests.engine.pixels.test_crop import a_frame, by_ffmpeg, mean_difference
from tests.media import needs_ffmpeg

SIZE = Size(64, 48)
WHOLE = Box(0, 0, 64, 48)
HLG = Colour(Matrix.BT2020, False, Transfer.HLG, assumed=False)
PQ = Colour(Matrix.BT2020, False, Transfer.PQ, assumed=False)
WIDE = Colour(Matrix.BT2020, False, Transfer.SDR, assumed=False)
P3 = Colour(Matrix.BT709, False, Transfer.SDR, assumed=False, primaries=Primaries.DISPLAY_P3)
THROUGH_LIGHT = {"hlg": HLG, "pq": PQ, "bt2020": WIDE, "p3": P3}
through_light = pytest.mark.parametrize("colour", THROUGH_LIGHT.values(), ids=THROUGH_LIGHT.keys())


def fine(codes: NDArray[np.float64]) -> NDArray[np.uint16]:
    return np.round(codes * 64).astype(np.uint16)


def sdr(matrix: Matrix) -> Colour:
    return Colour(matrix, False, Transfer.SDR, assumed=False)


def converted(colour: Colour, planes: list[NDArray[np.float64]], box: Box = WHOLE) -> Picture:
    conversion = colour_conversion(colour)
    assert conversion
    out = Picture(SIZE)
    out.fill_black()
    conversion([fine(plane) for plane in planes], out, box)
    return out


def flat_codes(codes: tuple[float, float, float]) -> list[NDArray[np.float64]]:
    shapes = ((48, 64), (24, 32), (24, 32))
    return [np.full(shape, code) for shape, code in zip(shapes, codes, strict=True)]


def one_colour(colour: Colour, codes: tuple[float, float, float]) -> tuple[int, ...]:
    out = converted(colour, flat_codes(codes))
    for plane in out.planes:
        assert (plane == plane[0, 0]).all()
    return tuple(int(plane[0, 0]) for plane in out.planes)


# Levels and matrices


def test_limited_range_needs_no_levels() -> None:
    luma, chroma = levels(False, 10)
    assert (luma.unit, luma.bias, chroma.unit, chroma.bias) == (16384, 0, 16384, 0)


def test_bt709_needs_no_conversion() -> None:
    assert colour_conversion(sdr(Matrix.BT709)) is None


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
    got = one_colour(sdr(Matrix.BT601), bt601)
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
    out = converted(sdr(Matrix.BT601), [*flat_codes((100, 128, 128))[:2], red])
    y, x = np.mgrid[:48, :64]
    weight = matrix_weights(Matrix.BT601)[1] / 16384
    ideal = 100 + weight * ((x - 30) + (y - 20))
    assert np.abs(out.y - ideal)[1:-1, :-1].max() <= 0.51


def test_ycc_and_rgb_are_inverses() -> None:
    colours = np.random.default_rng(1).uniform(0, 1, (50, 3))
    for matrix in (Matrix.BT601, Matrix.BT709, Matrix.BT2020, Matrix.FCC, Matrix.SMPTE240M):
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
        scene = hlg_to_scene(np.array(signal))
        assert 1000 * scene * hlg_system_gain(scene) == pytest.approx(nit, rel=0.005)


def test_the_tone_curve_bends_only_the_bright() -> None:
    """The knee is at 1.5 * 0.581 / 0.752 - 0.5 = 0.659 of PQ(1000), which is 90 cd/m2."""
    dark = np.array([0.0, 0.1, 5.0, 50.0, 85.0])
    assert tone_curve(dark) == pytest.approx(dark, rel=1e-6)
    assert tone_curve(np.array(1000.0)) == pytest.approx(203.0)
    assert tone_curve(np.array(4000.0)) == pytest.approx(203.0)
    assert (np.diff(tone_curve(np.linspace(0, 1000, 500))) > 0).all()


def test_colours_outside_the_gamut_keep_their_lightness() -> None:
    outside = np.array([[1.3, -0.2, 0.1], [-0.2, 0.6, 0.1], [0.4, 0.5, 0.6], [2.0, 2.0, 2.0]])
    inside = without_negatives(outside)
    assert inside.min() >= 0
    luma = np.array([0.2126, 0.7152, 0.0722])
    assert inside @ luma == pytest.approx(outside @ luma)
    assert inside[2:].tolist() == outside[2:].tolist()
    tint, kept = (rgb - (rgb @ luma)[:, None] for rgb in (outside, inside))
    assert np.cross(tint, kept) == pytest.approx(0, abs=1e-12)


# What a viewer sees


@through_light
def test_black_white_and_grey(colour: Colour) -> None:
    assert one_colour(colour, (16, 128, 128)) == (16, 128, 128)
    assert one_colour(colour, (235, 128, 128)) == (235, 128, 128)
    ramp = flat_codes((0, 128, 128))
    ramp[0] = np.broadcast_to(np.linspace(4, 246, 64), (48, 64))
    out = converted(colour, ramp)
    assert (np.diff(out.y[0].astype(int)) >= 0).all()
    assert (out.u == 128).all()
    assert (out.v == 128).all()


def test_grey_of_bt2020_is_grey_of_bt709() -> None:
    ramp = flat_codes((0, 128, 128))
    ramp[0] = np.broadcast_to(np.linspace(16, 254, 64), (48, 64))
    out = converted(WIDE, ramp)
    assert np.abs(out.y - ramp[0]).max() <= 0.75


@pytest.mark.parametrize(("colour", "signal"), [(HLG, 0.75), (PQ, 0.5807)], ids=["hlg", "pq"])
def test_reference_white_is_bright_and_leaves_room(colour: Colour, signal: float) -> None:
    """203 cd/m2 becomes 160 of 203: (160 / 203) ** (1 / 2.4) = 0.905, code 16 + 219 * 0.905."""
    code = 16 + 219 * signal
    y, u, v = one_colour(colour, (code, 128, 128))
    assert abs(y - 214) <= 1
    assert (u, v) == (128, 128)


CHROMATICITIES = {  # x and y of red, green, blue (ITU-T H.273, table 2); white is D65
    Primaries.BT709: ((0.64, 0.33), (0.30, 0.60), (0.15, 0.06)),
    Primaries.BT2020: ((0.708, 0.292), (0.170, 0.797), (0.131, 0.046)),
    Primaries.DISPLAY_P3: ((0.68, 0.32), (0.265, 0.69), (0.15, 0.06)),
}


def to_xyz(primaries: Primaries) -> NDArray[np.float64]:
    def xyz(x: float, y: float) -> list[float]:
        return [x / y, 1.0, (1 - x - y) / y]

    unscaled = np.array([xyz(*place) for place in CHROMATICITIES[primaries]]).T
    return np.asarray(unscaled * np.linalg.solve(unscaled, xyz(0.3127, 0.3290)))


@pytest.mark.parametrize("primaries", [Primaries.BT2020, Primaries.DISPLAY_P3])
def test_primaries_follow_their_chromaticities(primaries: Primaries) -> None:
    wanted = np.linalg.solve(to_xyz(Primaries.BT709), to_xyz(primaries))
    assert TO_BT709[primaries] == pytest.approx(wanted, abs=1e-6)


def test_every_primaries_keep_grey_grey() -> None:
    for weights in TO_BT709.values():
        assert weights.sum(1) == pytest.approx(1, abs=1e-12)


@pytest.mark.parametrize("colour", [WIDE, P3], ids=["bt2020", "p3"])
def test_a_bt709_colour_survives_the_way_through_a_wide_gamut(colour: Colour) -> None:
    wide = np.linalg.solve(to_xyz(colour.gamut), to_xyz(Primaries.BT709))
    for rgb in ([0.6, 0.3, 0.2], [0.1, 0.5, 0.2], [0.15, 0.2, 0.7], [1.0, 0.02, 0.02]):
        signal = np.array(rgb)
        coded = (wide @ signal**2.4) ** (1 / 2.4)
        codes = rgb_to_ycc(coded, colour.matrix) * (219, 224, 224) + (16, 128, 128)
        wanted = rgb_to_ycc(signal, Matrix.BT709) * (219, 224, 224) + (16, 128, 128)
        y, u, v = (float(code) for code in codes)
        assert np.abs(one_colour(colour, (y, u, v)) - wanted).max() <= 0.75


# Hues of HDR, by formulas of the standards that are written again here


def hue_deg(rgb: NDArray[np.float64]) -> float:
    """HSV's hue."""
    red, green, blue = (float(each) for each in rgb)
    return 360 * colorsys.rgb_to_hsv(red, green, blue)[0]


def pq_signal(nit: NDArray[np.float64]) -> NDArray[np.float64]:
    """SMPTE ST 2084, equation 5.2."""
    power = (nit / 10000) ** 0.1593017578125
    return np.asarray(((0.8359375 + 18.8515625 * power) / (1 + 18.6875 * power)) ** 78.84375)


def hlg_signal(nit: NDArray[np.float64]) -> NDArray[np.float64]:
    """ITU-R BT.2100, table 5: inverse OOTF at 1000 cd/m2 with a system gamma of 1.2, then OETF."""
    display = nit / 1000
    scene = display * (np.array([0.2627, 0.678, 0.0593]) @ display) ** (1 / 1.2 - 1)
    high = 0.17883277 * np.log(np.maximum(12 * scene - 0.28466892, 1e-9)) + 0.55991073
    return np.asarray(np.where(scene <= 1 / 12, np.sqrt(3 * scene), high))


HDR_COLOURS = {  # BT.709 light in cd/m2
    "sky": (44, 252, 727),
    "bright sky": (150, 400, 1000),
    "sunset": (980, 310, 40),
    "flame": (900, 520, 90),
    "grass in the sun": (95, 260, 30),
    "skin in the sun": (420, 230, 150),
    "red shirt": (560, 24, 30),
    "neon": (700, 35, 640),
    "shade": (6, 12, 25),
}


@pytest.mark.parametrize("curve", ["pq", "hlg"])
@pytest.mark.parametrize("nit", HDR_COLOURS.values(), ids=HDR_COLOURS.keys())
def test_bright_colours_keep_their_hue(curve: str, nit: tuple[int, int, int]) -> None:
    """A viewer's hue: of the light, as a BT.709 display is driven to show it.

    Of a signal's tint, as much is kept as of its brightest channel: at 1000 cd/m2 that is
    (203 / 1000) ** (1 / 2.4) = 0.51.
    """
    light = np.array(nit, np.float64)
    wide = np.asarray(np.linalg.solve(to_xyz(Primaries.BT2020), to_xyz(Primaries.BT709) @ light))
    signal = pq_signal(wide) if curve == "pq" else hlg_signal(wide)
    luma = np.array([0.2627, 0.678, 0.0593]) @ signal
    cb, cr = (signal[2] - luma) / 1.8814, (signal[0] - luma) / 1.4746
    colour = PQ if curve == "pq" else HLG
    y, u, v = one_colour(
        colour, (16 + 219 * float(luma), 128 + 224 * float(cb), 128 + 224 * float(cr))
    )
    grey = (y - 16) / 219
    red, blue = grey + 1.5748 * (v - 128) / 224, grey + 1.8556 * (u - 128) / 224
    shown = np.array([red, (grey - 0.2126 * red - 0.0722 * blue) / 0.7152, blue])
    wanted = light ** (1 / 2.4)
    apart = (hue_deg(shown) - hue_deg(wanted) + 180) % 360 - 180
    assert abs(apart) < 3
    saturation, was = 1 - shown.min() / shown.max(), 1 - wanted.min() / wanted.max()
    if light.max() < 90:  # where the tone curve begins
        assert saturation == pytest.approx(was, abs=0.03)
    else:  # paler, as on film
        assert was / 2 - 0.02 < saturation < was


def test_a_brighter_colour_is_never_shown_darker() -> None:
    """All of a ramp of blue light up to the peak of PQ, beyond which the display has no more."""
    light = np.linspace(0.5, 4000, 32 * 24)[:, None] * (0.06, 0.35, 1.0)
    wide = light @ np.linalg.solve(to_xyz(Primaries.BT2020), to_xyz(Primaries.BT709)).T
    codes = rgb_to_ycc(pq_signal(wide), Matrix.BT2020) * (219, 224, 224) + (16, 128, 128)
    y, u, v = codes.T.reshape(3, 24, 32)
    out = converted(PQ, [y.repeat(2, 0).repeat(2, 1), u, v])
    assert (np.diff(out.y[::2, ::2].reshape(-1).astype(int)) >= -1).all()


@through_light
def test_a_picture_follows_the_formula(colour: Colour) -> None:
    """Colours of all kinds: a code is off by its rounding alone."""
    signal = np.random.default_rng(4).uniform(0, 1, (24 * 32, 3))
    codes = np.round((rgb_to_ycc(signal, colour.matrix) * (219, 224, 224) + (16, 128, 128)) * 64)
    wanted = to_bt709(codes / 64, colour)
    off = [
        np.abs(np.subtract(one_colour(colour, tuple(code)), ideal))
        for code, ideal in zip((codes / 64).tolist()[::24], wanted[::24], strict=True)
    ]
    assert np.mean(off) < 0.3  # of which rounding is 0.25
    assert np.max(off) < 1.5


@pytest.mark.parametrize("transfer", list(Transfer))
def test_the_tables_are_the_same_on_every_machine(transfer: Transfer) -> None:
    """No value is so near a whole number that another CPU's last bits could change the table."""
    for values in unrounded_tables(transfer):
        if values.size:
            assert np.abs(values - np.round(values)).min() > 1e-7


@pytest.mark.parametrize("kernel", [recolour._weighted, recolour._remove_negatives])
def test_no_multiplication_is_fused_with_an_addition(kernel: Any) -> None:
    """A fused operation rounds once and not twice, and not every CPU has it."""
    compiled = njit(nogil=True)(kernel.py_func)
    rows = [np.ones(8, np.float32) for _ in range(5)]
    compiled(*rows[: len(inspect.signature(kernel.py_func).parameters)])
    (assembly,) = compiled.inspect_asm().values()
    assert "mul" in assembly
    assert not re.search(r"\bv?f(n?m(add|sub)|mla|mls)", assembly)


def test_light_beyond_the_tables_is_clipped_into_them() -> None:
    """Codes that no camera writes: far outside of red, green and blue."""
    for colour in (*THROUGH_LIGHT.values(), replace(PQ, matrix=Matrix.ICTCP)):
        assert light_tables(colour).root.size == 31 << 9
        for u in (0, 255):
            for v in (0, 255):
                y, _, _ = one_colour(colour, (255, u, v))
                assert y > 16


def test_only_the_box_is_filled() -> None:
    planes = [np.full(shape, 200.0) for shape in ((20, 30), (10, 15), (10, 15))]
    for colour in (sdr(Matrix.BT601), HLG):
        out = converted(colour, planes, Box(8, 4, 30, 20))
        assert (out.y[4:24, 8:38] != 16).all()
        assert (out.u[2:12, 4:19] != 128).any()
        out.y[4:24, 8:38] = 16
        out.u[2:12, 4:19] = 128
        out.v[2:12, 4:19] = 128
        empty = Picture(SIZE)
        empty.fill_black()
        assert (out.buffer == empty.buffer).all()
