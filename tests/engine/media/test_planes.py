"""A film whose pictures change their size or shape: each part is shown as it is."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from engine.geometry import Size
from engine.media.probe import probe
from engine.media.video_reader import FrameReader
from tests.clips import numbered_clip, read_number
from tests.media import needs_ffmpeg
from tests.witness import run


@needs_ffmpeg
@pytest.mark.parametrize("pix_fmt", ["yuv420p", "yuv420p10le"])
@pytest.mark.parametrize(
    ("size", "box"),
    [
        ((96, 160), (50, 0, 58, 96)),  # a phone that was turned: 0.6 of 160 by 96
        ((320, 96), (0, 24, 160, 48)),  # a recording made wider
        ((80, 48), (0, 0, 160, 96)),  # smaller, of the same shape
    ],
)
def test_each_part_is_fitted_as_it_is(
    tmp_path: Path, size: tuple[int, int], box: tuple[int, int, int, int], pix_fmt: str
) -> None:
    first = numbered_clip(tmp_path / "a.ts", 10, 25, (160, 96), pix_fmt=pix_fmt)
    second = numbered_clip(tmp_path / "b0.ts", 10, 25, size, pix_fmt=pix_fmt)
    later = tmp_path / "b.ts"
    run("ffmpeg", "-v", "error", "-i", second, "-c", "copy", "-output_ts_offset", "0.4", later)
    both = tmp_path / "both.ts"
    both.write_bytes(first.read_bytes() + later.read_bytes())
    source, warnings = probe(both), list[str]()
    assert source.coded_size == Size(160, 96)
    with FrameReader(source, strict=False, on_warning=warnings.append) as reader:
        planes = [frame.planes for frame in reader.frames(source.frame_pts)]
    assert [read_number(each[0]) for each in planes[:10]] == list(range(10))
    left, top, width, height = box
    scale = 1 << 2 * (pix_fmt != "yuv420p")
    for number, (luma, *chroma) in enumerate(planes[10:]):
        inside = luma[top : top + height, left : left + width]
        assert read_number(inside) == number
        outside = luma.copy()
        outside[top : top + height, left : left + width] = 16 * scale
        assert (outside == 16 * scale).all()
        for plane in chroma:
            assert np.abs(plane.astype(int) - 128 * scale).max() <= 2 * scale
    assert len(planes) == 20
    (warning,) = [each for each in warnings if "fitted" in each]
    assert f"frames are {size[0]}x{size[1]}" in warning
