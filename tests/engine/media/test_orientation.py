"""Every display matrix of a quarter turn and a mirror is shown upright; others are told."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from engine.geometry import Rect, Size
from engine.media.probe import probe
from engine.pipeline.extract import extract
from engine.pipeline.still import render_still
from engine.timeline.edit import Clip, CropKeyframe, Edit
from engine.timeline.plan import build_plan
from engine.upscale.choice import choose_upscaler
from tests.clips import numbered_clip

WIDTH, HEIGHT = 128, 64
NUMBER = 0b10_0110_0000_1101  # no symmetry


def with_matrix(path: Path, a: float, b: float, c: float, d: float) -> Path:
    """Writes this matrix into the track header of an MP4 with one track."""
    data = bytearray(path.read_bytes())
    start = data.index(b"tkhd") + 4 + 40
    cells = [a, b, 0.0, c, d, 0.0, 0.0, 0.0]
    written = [round(cell * 65536).to_bytes(4, "big", signed=True) for cell in cells]
    data[start : start + 32] = b"".join(written)
    path.write_bytes(data)
    return path


def clip(tmp_path: Path) -> Path:
    return numbered_clip(tmp_path / "a.mp4", 2, size=(WIDTH, HEIGHT), options={"qp": "10"})


def mapped(luma: NDArray[np.uint8], a: int, b: int, c: int, d: int) -> NDArray[np.uint8]:
    """`luma` with the sample at (x, y) moved to (a x + c y, b x + d y): ISO/IEC 14496-12."""
    height, width = luma.shape
    y, x = np.mgrid[:height, :width]
    to_x, to_y = a * x + c * y, b * x + d * y
    to_x, to_y = to_x - to_x.min(), to_y - to_y.min()
    out = np.empty((to_y.max() + 1, to_x.max() + 1), np.uint8)
    out[to_y, to_x] = luma
    return out


def shown(path: Path) -> NDArray[np.uint8]:
    """The luma of the first frame as an export shows it, without scaling."""
    source = probe(path)
    size = source.display_size
    whole = [CropKeyframe(0, Rect(0, 0, size.width, size.height))]
    edit = Edit([Clip(path.name, whole)], target_size=Size(size.width, size.height))
    return render_still(build_plan(edit, [source]), 0, choose_upscaler("none")).planes[0]


MATRICES = [
    (1, 0, 0, 1), (0, 1, -1, 0), (-1, 0, 0, -1), (0, -1, 1, 0),
    (-1, 0, 0, 1), (1, 0, 0, -1), (0, 1, 1, 0), (0, -1, -1, 0),
]  # fmt: skip


@pytest.mark.parametrize("matrix", MATRICES)
def test_the_matrix_decides_with_its_sign(
    tmp_path: Path, matrix: tuple[int, int, int, int]
) -> None:
    path = clip(tmp_path)
    expected = mapped(shown(path), *matrix)
    source = probe(with_matrix(path, *matrix))
    assert source.notes == ()
    got = shown(path)
    assert got.shape == expected.shape
    assert np.array_equal(got, expected)


@pytest.mark.parametrize("matrix", MATRICES)
def test_an_extracted_clip_is_shown_the_same_way(
    tmp_path: Path, matrix: tuple[int, int, int, int]
) -> None:
    path = with_matrix(clip(tmp_path), *matrix)
    cut = tmp_path / "cut.mp4"
    extract(probe(path), "0", "0.05", cut, on_progress=lambda *_: None)
    before, after = shown(path), shown(cut)
    assert before.shape == after.shape
    assert np.abs(before.astype(int) - after).mean() < 8


def test_a_matrix_of_zeros_says_nothing(tmp_path: Path) -> None:
    source = probe(with_matrix(clip(tmp_path), 0, 0, 0, 0))
    assert (source.rotation_deg, source.mirrored, source.notes) == (0, False, ())
    assert source.display_size == Size(WIDTH, HEIGHT)


@pytest.mark.parametrize(
    ("matrix", "told"),
    [
        ((0.7071, 0.7071, -0.7071, 0.7071), "turned by 45 degrees"),
        ((0.9848, 0.1736, -0.1736, 0.9848), "turned by 10 degrees"),
        ((2, 0, 0, 1), "stretched"),
        ((1, 0, 0.5, 0.866), "slanted"),
    ],
)
def test_what_cannot_be_shown_is_told(
    tmp_path: Path, matrix: tuple[float, float, float, float], told: str
) -> None:
    (note,) = probe(with_matrix(clip(tmp_path), *matrix)).notes
    assert told in note


def test_a_matrix_that_only_scales_is_upright(tmp_path: Path) -> None:
    source = probe(with_matrix(clip(tmp_path), 2, 0, 0, 2))
    assert (source.rotation_deg, source.mirrored, source.notes) == (0, False, ())
