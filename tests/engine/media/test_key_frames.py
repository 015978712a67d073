"""Key frames at a regular interval: where ffprobe finds them, and what ffmpeg decodes from each."""

from __future__ import annotations

from dataclasses import replace
from fractions import Fraction as F
from math import nan
from pathlib import Path

import numpy as np
import pytest

from engine.errors import ChunkError, EncoderError
from engine.geometry import Size
from engine.media.chunk_writer import ChunkWriter
from engine.media.encoders import Encoder, choose_encoder, key_interval_frames
from engine.media.inspect import closed_gops, read_chunk
from engine.media.join import join
from engine.pixels.picture import Picture
from tests.clips import painted, read_number
from tests.media import needs_ffmpeg
from tests.witness import (
    check_key_frames_are_beginnings,
    complaints,
    ffprobe,
    key_frames,
    luma_frames,
)

SIZE = Size(96, 64)
NTSC = F(30000, 1001)


def an_encoder(interval_s: float | F | None, fps: F = F(30), **options: str) -> Encoder:
    return choose_encoder(SIZE, fps, name="libx264", options=options, key_interval_s=interval_s)


def written(path: Path, count: int, encoder: Encoder, *, first: int = 0) -> Path:
    """A chunk of numbered frames in noise."""
    random = np.random.default_rng(first)
    picture = Picture(SIZE)
    picture.fill_black()
    with ChunkWriter(encoder, path) as writer:
        for number in range(first, first + count):
            picture.y[:] = painted(number, (SIZE.width, SIZE.height))
            picture.y[:] += random.integers(0, 20, picture.y.shape, np.uint8)
            writer.write(picture)
    return path


@pytest.mark.parametrize(
    ("interval_s", "fps", "frames"),
    [
        (None, F(30), 60),
        (2, F(25), 50),
        (2, NTSC, 60),  # 59.94
        (2, F(24000, 1001), 48),  # 47.95
        (0.5, F(25), 13),  # 12.5: halves go up
        (F(5, 2), F(25), 63),  # 62.5
        (0.1, F(24), 2),
        (0.1, F(1), 1),  # a tenth of a frame is one
        (60, F(240), 14_400),
    ],
)
def test_the_interval_in_whole_frames(interval_s: float | F | None, fps: F, frames: int) -> None:
    assert key_interval_frames(interval_s, fps) == frames
    assert an_encoder(interval_s, fps).key_interval == frames


@pytest.mark.parametrize("interval_s", [0, -1, 0.09, 60.5, nan, F(1, 11)])
def test_an_interval_beyond_the_limits_is_refused(interval_s: float | F) -> None:
    with pytest.raises(EncoderError, match=r"key_interval_s: must be from 0\.1 to 60 s, not "):
        an_encoder(interval_s)


def test_the_interval_is_part_of_the_key() -> None:
    assert an_encoder(1).key != an_encoder(2).key
    assert an_encoder(2) == an_encoder(None)


@needs_ffmpeg
@pytest.mark.parametrize(
    ("interval_s", "fps", "count", "keys"),
    [
        (0.5, F(30), 40, [0, 15, 30]),
        (1, NTSC, 61, [0, 30, 60]),  # 29.97 frames; the last GOP is one frame
        (1, F(25), 50, [0, 25]),  # no key frame after the last frame
        (0.3, F(10), 8, [0, 3, 6]),
        (60, F(30), 40, [0]),  # longer than the chunk
        (0.1, F(10), 5, [0, 1, 2, 3, 4]),  # one frame
        (2, F(30), 1, [0]),
    ],
    ids=str,
)
def test_key_frames_lie_at_the_interval_and_nowhere_else(
    interval_s: float, fps: F, count: int, keys: list[int], tmp_path: Path
) -> None:
    """Also where pictures change wholly. The B-frames cross no border of a GOP."""
    encoder = an_encoder(interval_s, fps, bf="3", **{"b-pyramid": "normal"})
    path = written(tmp_path / "a.mp4", count, encoder)
    assert key_frames(path) == keys
    assert [read_number(luma) for luma in luma_frames(path)] == list(range(count))
    check_key_frames_are_beginnings(path, keys)
    chunk = read_chunk(path)
    assert (chunk.frame_count, chunk.key_frames) == (count, tuple(keys))


@needs_ffmpeg
def test_reordering_is_that_of_the_deepest_gop(tmp_path: Path) -> None:
    """The last GOP is too short to be reordered."""
    path = written(tmp_path / "a.mp4", 25, an_encoder(0.4, bf="3"))  # GOPs of 12, 12 and 1
    pts = [packet["pts"] for packet in ffprobe(path, "-show_packets")["packets"]]
    places = [sorted(pts).index(tick) for tick in pts]
    deepest = max(decoded - shown for decoded, shown in enumerate(places))
    assert read_chunk(path).reorder_frames == deepest > 0
    assert places[:12] != list(range(12)) and max(places[:12]) == 11


def test_parameter_sets_do_not_depend_on_the_interval(tmp_path: Path) -> None:
    sets = {
        read_chunk(
            written(tmp_path / f"{interval_s}.mp4", 8, an_encoder(interval_s, F(10)))
        ).parameters.parameter_sets
        for interval_s in (0.1, 0.3, 2, 60)
    }
    assert len(sets) == 1


@needs_ffmpeg
def test_chunks_of_several_gops_are_joined(tmp_path: Path) -> None:
    """Chunks of 20, 1 and 15 frames, with a key frame every 7 from the start of each."""
    encoder = replace(an_encoder(2, NTSC, bf="3"), key_interval=7)
    lengths, chunks, first = (20, 1, 15), [], 0
    for length in lengths:
        chunks.append(written(tmp_path / f"{first}.mp4", length, encoder, first=first))
        first += length
    film = tmp_path / "film.mp4"
    join(
        [read_chunk(path) for path in chunks],
        None,
        (),
        film,
        frame_count=36,
        sample_count=0,
        fps=NTSC,
        size=SIZE,
        on_step=lambda: None,
    )
    assert complaints(film) == ""
    shown = luma_frames(film)
    assert [read_number(luma) for luma in shown] == list(range(36))
    assert np.array_equal(shown, np.concatenate([luma_frames(path) for path in chunks]))
    keys = [0, 7, 14, 20, 21, 28, 35]
    assert key_frames(film) == keys
    check_key_frames_are_beginnings(film, keys)
    packets = ffprobe(film, "-show_packets", "-select_streams", "v")["packets"]
    assert np.all(np.diff([int(packet["dts"]) for packet in packets]) > 0)
    assert all(int(packet["dts"]) <= int(packet["pts"]) for packet in packets)
    keys_s = [float(each["pts_time"]) for each in packets if each["flags"].startswith("K")]
    assert keys_s == pytest.approx([float(key / NTSC) for key in keys], abs=1e-4)


@pytest.mark.parametrize(
    ("key_places", "numbers"),
    [
        ([0, 3], [0, 1, 2, 5, 6]),  # frames 3 and 4 are missing
        ([0, 2], [5, 6, 7, 8]),  # those from 0 to 4
        ([0, 2], [2, 3, 0, 1]),  # the wrong order
        ([0, 3], [0, 1, 4, 3, 2]),  # open: a frame of the second GOP is shown before its key frame
        ([0], [0, 1, 1]),  # one twice
        ([1], [0, 1, 2]),  # no key frame at the start
    ],
)
def test_what_is_no_run_of_closed_gops(key_places: list[int], numbers: list[int]) -> None:
    is_keyframe = np.isin(np.arange(len(numbers)), key_places)
    with pytest.raises(ChunkError, match=r"a\.mp4: (its frames are not 0 to|has a GOP at frame)"):
        closed_gops(Path("a.mp4"), is_keyframe, numbers)
