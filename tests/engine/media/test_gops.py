"""Which files are closed GOPs at a constant rate, and which are not and why."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import pytest

from engine.errors import ChunkError
from engine.media.gops import copy_gops, gop_table
from engine.media.inspect import read_chunk
from engine.timing import FrameRange
from tests.clips import numbered_clip
from tests.media import needs_ffmpeg
from tests.witness import complaints, ffprobe, run

OPEN = {"bf": "2", "x264-params": "open-gop=1:keyint=12:scenecut=0"}


@needs_ffmpeg
@pytest.mark.parametrize("options", [{"bf": "0"}, {"bf": "3"}])
def test_a_gop_begins_at_every_key_frame(options: Mapping[str, str], tmp_path: Path) -> None:
    path = numbered_clip(tmp_path / "a.mp4", 40, options=options)
    told = ffprobe(path, "-show_frames", "-select_streams", "v")["frames"]
    keys = [number for number, frame in enumerate(told) if frame["key_frame"]]
    gops = gop_table(path).gops
    assert [gop.start for gop in gops] == keys == [0, 12, 24, 36]
    assert [gop.stop for gop in gops] == [12, 24, 36, 40]


@needs_ffmpeg
def test_a_copied_gop_is_a_chunk(tmp_path: Path) -> None:
    path = numbered_clip(tmp_path / "a.mp4", 40, options={"bf": "3"})
    wanted = FrameRange(12, 24)
    copies = list(copy_gops(path, {wanted: tmp_path / "copy.mp4"}))
    assert copies == [wanted]
    chunk = read_chunk(tmp_path / "copy.mp4")
    assert (chunk.frame_count, chunk.parameters) == (12, gop_table(path).parameters)
    pts = [packet["pts"] for packet in ffprobe(tmp_path / "copy.mp4", "-show_packets")["packets"]]
    assert (
        chunk.reorder_frames == max(n - sorted(pts).index(tick) for n, tick in enumerate(pts)) > 0
    )
    assert complaints(tmp_path / "copy.mp4") == ""


def test_open_gops_and_uneven_rates_are_refused(tmp_path: Path) -> None:
    opened = numbered_clip(tmp_path / "open.mp4", 40, options=OPEN)
    with pytest.raises(ChunkError, match=r"open\.mp4: has a GOP at frame \d+ that is not closed"):
        gop_table(opened)
    uneven = numbered_clip(tmp_path / "vfr.mp4", 6, pts=[0, 0.1, 0.15, 0.3, 0.33, 0.5])
    with pytest.raises(ChunkError, match=r"vfr\.mp4: its frames are not at a constant rate"):
        gop_table(uneven)


@needs_ffmpeg
def test_a_file_without_video_is_refused(tmp_path: Path) -> None:
    text, sound = tmp_path / "a.txt", tmp_path / "a.m4a"
    text.write_text("not a film")
    clip = numbered_clip(tmp_path / "a.mp4", 10, sound="bursts")
    run("ffmpeg", "-v", "error", "-i", clip, "-vn", "-c", "copy", sound)
    for path in (text, sound):
        with pytest.raises(ChunkError, match=rf"{path.name}: has no readable video"):
            gop_table(path)
