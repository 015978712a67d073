"""Alpha channels: what lies under transparent parts is not shown, black is."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from engine.media.probe import probe
from engine.pixels.alpha import over_black
from tests.engine.media.showing import shown
from tests.media import needs_ffmpeg
from tests.witness import run

RGB = (200, 60, 30)
SEEN = (255, 128, 0)
"""Alpha in the left, the middle and the right third of 96 pixels."""

FILES = {
    "quicktime rle": ("a.mov", "argb", ("-c:v", "qtrle")),
    "png": ("a.mov", "rgba", ("-c:v", "png")),
    "png, 16 bits": ("b.mov", "rgba64be", ("-c:v", "png")),
    "prores 4444": ("c.mov", "yuva444p10le", ("-c:v", "prores_ks", "-profile:v", "4444")),
    "ffv1, 4:2:0": ("a.mkv", "yuva420p", ("-c:v", "ffv1")),
    "vp9": ("a.webm", "yuva420p", ("-c:v", "libvpx-vp9", "-lossless", "1")),
    "vp8": ("b.webm", "yuva420p", ("-c:v", "libvpx", "-b:v", "5M", "-auto-alt-ref", "0")),
}


def transparent_clip(path: Path, pixel_format: str, options: tuple[str, ...]) -> Path:
    """One colour everywhere, and less and less of it to be seen."""
    red, green, blue = RGB
    alpha = f"if(lt(X,32),{SEEN[0]},if(lt(X,64),{SEEN[1]},{SEEN[2]}))"
    picture = f"nullsrc=s=96x64:r=25:d=0.12,format=rgba,geq=r={red}:g={green}:b={blue}:a='{alpha}'"
    if "yuv" in pixel_format:  # small pictures without tags are taken for BT.601
        picture += f",scale=out_color_matrix=bt601:out_range=tv,format={pixel_format}"
    options += ("-pix_fmt", pixel_format)
    run("ffmpeg", "-v", "error", "-y", "-f", "lavfi", "-i", picture, *options, path)
    return path


@needs_ffmpeg
@pytest.mark.parametrize(("name", "pixel_format", "options"), FILES.values(), ids=FILES.keys())
def test_transparent_parts_are_black(
    tmp_path: Path, name: str, pixel_format: str, options: tuple[str, ...]
) -> None:
    path = transparent_clip(tmp_path / name, pixel_format, options)
    picture = shown(path)
    for third, alpha in enumerate(SEEN):
        red, green, blue = (value / 255 * alpha / 255 for value in RGB)
        luma = 0.2126 * red + 0.7152 * green + 0.0722 * blue
        wanted = (
            16 + 219 * luma,
            128 + 224 * (blue - luma) / 1.8556,
            128 + 224 * (red - luma) / 1.5748,
        )
        for plane, scale, code in zip(picture.planes, (1, 2, 2), wanted, strict=True):
            columns = slice((32 * third + 8) // scale, (32 * third + 24) // scale)
            assert plane[4:-4, columns].mean() == pytest.approx(code, abs=2.5)
    assert not probe(path).notes


@needs_ffmpeg
def test_uncompressed_avi_has_no_alpha(tmp_path: Path) -> None:
    """Windows writes zeros there."""
    path = transparent_clip(tmp_path / "a.avi", "bgra", ("-c:v", "rawvideo"))
    assert shown(path).y.std() < 1


@given(
    st.sampled_from([8, 10, 12, 16]), st.booleans(), st.sampled_from([(1, 1), (2, 1), (2, 2)]),
    st.integers(0, 99),
)  # fmt: skip
def test_composing_rounds_once(
    depth: int, full_range: bool, step: tuple[int, int], seed: int
) -> None:
    random, top = np.random.default_rng(seed), 2**depth - 1
    kind: Any = np.uint8 if depth == 8 else np.uint16
    shapes = [(7, 9)] + [(-(-7 // step[1]), -(-9 // step[0]))] * 2
    y, u, v = (random.integers(0, top + 1, shape).astype(kind) for shape in shapes)
    alpha = random.integers(0, top + 1, (7, 9)).astype(kind)
    made = over_black((y, u, v), alpha, depth=depth, full_range=full_range, chroma_step=step)
    padded = np.pad(alpha.astype(float), ((0, 7 % step[1]), (0, 9 % step[0])), mode="edge")
    rows, columns = padded.shape[0] // step[1], padded.shape[1] // step[0]
    mean = padded.reshape(rows, step[1], columns, step[0]).mean((1, 3))
    black = 0 if full_range else 16 * 2 ** (depth - 8)
    for plane, out, share, zero in (
        (y, made[0], alpha / top, black),
        (u, made[1], mean / top, 2 ** (depth - 1)),
        (v, made[2], mean / top, 2 ** (depth - 1)),
    ):
        assert np.abs(out - (zero + (plane.astype(float) - zero) * share)).max() <= 0.5 + 1e-6
