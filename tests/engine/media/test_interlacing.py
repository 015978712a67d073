"""Interlaced pictures that do not say so themselves, in a container that does."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from engine.media.probe import probe
from engine.media.video_reader import FrameReader
from engine.source import FieldOrder, SourceInfo
from tests.media import needs_ffmpeg
from tests.witness import luma_frames, run


def woven(path: Path, scan: str, *options: str) -> Path:
    """25 interlaced frames of a moving pattern, marked as such by the container alone."""
    run(
        "ffmpeg", "-v", "error", "-f", "lavfi", "-i", "testsrc=s=96x64:r=50:d=1",
        "-vf", f"interlace=scan={scan}:lowpass=0,setfield={scan}", "-c:v", "mjpeg", "-q:v", "2",
        "-field_order", "tt" if scan == "tff" else "bb", *options, path,
    )  # fmt: skip
    return path


def shown(source: SourceInfo) -> list[NDArray[np.uint8]]:
    with FrameReader(source, strict=True, on_warning=pytest.fail) as reader:
        return [frame.planes[0].astype(np.uint8) for frame in reader.frames(source.frame_pts)]


@needs_ffmpeg
@pytest.mark.parametrize(
    ("scan", "order"), [("tff", FieldOrder.TOP_FIRST), ("bff", FieldOrder.BOTTOM_FIRST)]
)
def test_the_comb_is_gone_and_nothing_else(tmp_path: Path, scan: str, order: FieldOrder) -> None:
    path = woven(tmp_path / "a.mov", scan)
    source = probe(path)
    assert (source.interlaced, source.field_order) == (True, order)
    assert SourceInfo.from_document(source.to_document(), path).field_order == order
    witness = tmp_path / "witness.mkv"
    run("ffmpeg", "-v", "error", "-i", path, "-vf",
        f"bwdif=mode=send_frame:parity={scan}:deint=all", "-c:v", "ffv1", witness)  # fmt: skip
    for got, expected in zip(shown(source)[1:-1], luma_frames(witness)[1:-1], strict=True):
        limited = 16 + got * (219 / 255)  # JPEG's levels are full range, the witness's are not
        assert np.abs(limited - expected).max() <= 2


@needs_ffmpeg
def test_progressive_pictures_stay_as_they_are(tmp_path: Path) -> None:
    path = tmp_path / "a.mov"
    run("ffmpeg", "-v", "error", "-f", "lavfi", "-i", "testsrc=s=96x64:r=25:d=1",
        "-c:v", "mjpeg", "-q:v", "2", path)  # fmt: skip
    source = probe(path)
    assert (source.interlaced, source.field_order) == (False, None)
