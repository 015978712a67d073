"""Clocks that start again or jump, and single wrong time stamps: every frame and sound in place."""

from __future__ import annotations

import re
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest

from engine.audio.reader import SoundReader
from engine.errors import SourceError
from engine.geometry import Size
from engine.media.probe import probe
from engine.media.video_reader import FrameReader
from engine.pipeline.exporter import export
from engine.source import SourceInfo
from engine.timeline.edit import Clip, Edit
from engine.timeline.plan import build_plan
from engine.timing import round_half_up
from tests.clips import numbered_clip, read_number
from tests.media import needs_ffmpeg
from tests.sounds import RATE_HZ, burst_starts
from tests.witness import run

FPS, FRAMES = 25, 50
BROWSER_MS = [start + 33 * n for start in (0, 2000, 4000) for n in range(10)]


def shown(source: SourceInfo) -> list[int]:
    """The number painted into each frame, in the order of the probed times."""
    with FrameReader(source, strict=True, on_warning=pytest.fail) as reader:
        return [read_number(frame.planes[0]) for frame in reader.frames(source.frame_pts)]


def heard_at(source: SourceInfo, warnings: list[str]) -> list[float]:
    """When the bursts set in, in seconds."""
    stop = round_half_up(source.duration_s * RATE_HZ)
    reader = SoundReader(source, 0, stop, on_warning=warnings.append)
    samples = reader.read(0, stop)
    reader.close()
    return [start / RATE_HZ for start in burst_starts(samples[0])]


def times_s(source: SourceInfo) -> list[float]:
    return [float(source.time_of(pts)) for pts in source.frame_pts]


CODECS = {
    "ts": ["libx264", "aac"],
    "flv": ["libx264", "aac"],
    "mpg": ["mpeg2video", "mp2"],
}


@needs_ffmpeg
@pytest.mark.parametrize("suffix", CODECS)
@pytest.mark.parametrize("ahead_s", [0, 1000])
def test_files_put_end_to_end_go_on(tmp_path: Path, suffix: str, ahead_s: int) -> None:
    clip = numbered_clip(tmp_path / "a.mkv", FRAMES, FPS, sound="bursts")
    video, sound = CODECS[suffix]
    first, second = tmp_path / f"a.{suffix}", tmp_path / f"b.{suffix}"
    for path, offset_s in ((first, 0), (second, ahead_s)):
        run("ffmpeg", "-v", "error", "-i", clip, "-c:v", video, "-bf", "2", "-q:v", "2",
            "-fps_mode", "passthrough", "-c:a", sound,
            "-output_ts_offset", str(offset_s), path)  # fmt: skip
    head = 13 if suffix == "flv" else 0  # FLV's file header comes once
    both = tmp_path / f"both.{suffix}"
    both.write_bytes(first.read_bytes() + second.read_bytes()[head:])

    source = probe(both)
    assert shown(source) == [*range(FRAMES), *range(FRAMES)]
    np.testing.assert_allclose(times_s(source), np.arange(2 * FRAMES) / FPS, atol=0.0011)
    warnings: list[str] = []
    np.testing.assert_allclose(heard_at(source, warnings), [0, 1, 2, 3], atol=0.03)
    (repair,) = source.repairs
    # an MPEG program stream has no time for the first frame after the jump
    assert re.match(r"its clock jumps from .*: what follows (2\.000|1\.960) s is moved", repair)
    assert source.duration_s == pytest.approx(4, abs=0.002)
    again = SourceInfo.from_document(source.to_document(), source.location)
    assert (again.repairs, again.clock_shifts_s) == (source.repairs, source.clock_shifts_s)


def test_a_long_pause_of_the_picture_beside_sound_is_no_jump(tmp_path: Path) -> None:
    pts = [Fraction(n, FPS) for n in range(FRAMES)]
    pts += [12 + Fraction(n, FPS) for n in range(FRAMES, 2 * FRAMES)]
    path = numbered_clip(tmp_path / "a.ts", 2 * FRAMES, FPS, pts=pts, sound="bursts")
    source = probe(path)
    assert source.repairs == () and source.duration_s == pytest.approx(16, abs=0.05)


def rewritten(clip: Path, into: Path, ticks_ms: list[int], live: bool) -> Path:
    """A copy of a Matroska or WebM clip whose frames have these times."""
    options = {"live": "1"} if live else {}
    with av.open(str(clip)) as source, av.open(str(into), "w", "webm", options=options) as target:
        stream = target.add_stream_from_template(source.streams.video[0])
        packets = [packet for packet in source.demux(video=0) if packet.size]
        for packet, tick in zip(packets, ticks_ms, strict=True):
            packet.stream, packet.time_base = stream, Fraction(1, 1000)
            packet.pts, packet.dts = tick, None
            target.mux_one(packet)
    return into


@pytest.mark.parametrize("live", [True, False], ids=["live", "with a duration"])
def test_one_wrong_time_throws_no_other_away(tmp_path: Path, live: bool) -> None:
    clip = numbered_clip(
        tmp_path / "even.webm", 30, codec="libvpx-vp9", options={"lag-in-frames": "0"}
    )
    ticks = [BROWSER_MS[11] if n == 12 else tick for n, tick in enumerate(BROWSER_MS)]
    source = probe(rewritten(clip, tmp_path / "browser.webm", ticks, live))
    assert times_s(source) == [tick / 1000 for tick in BROWSER_MS]
    assert float(source.duration_s) == pytest.approx(4.33, abs=0.01)
    assert shown(source) == list(range(30))
    assert source.repairs == (
        "1 frame has a wrong time, at 2.066 s: shown between the frames before and after",
    )


def test_a_strict_export_refuses_a_repaired_source(tmp_path: Path) -> None:
    clip = numbered_clip(
        tmp_path / "even.webm", 30, codec="libvpx-vp9", options={"lag-in-frames": "0"}
    )
    ticks = [BROWSER_MS[11] if n == 12 else tick for n, tick in enumerate(BROWSER_MS)]
    path = rewritten(clip, tmp_path / "browser.webm", ticks, live=True)
    plan = build_plan(Edit([Clip(path.name)], target_size=Size(64, 64)), [probe(path)])
    assert any("wrong time" in warning for warning in plan.warnings)
    with pytest.raises(SourceError, match="wrong time"):
        export(plan, tmp_path / "out.mp4", strict=True)
