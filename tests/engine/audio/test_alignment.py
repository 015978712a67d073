"""Where sound lies when its time stamps are uneven, step away, drift, or are made up."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path

import av
import numpy as np
import pytest

from engine.audio.alignment import SoundBlock, TimedFrame, aligned
from engine.audio.reader import SoundReader
from engine.media.probe import probe
from tests.media import needs_ffmpeg
from tests.sounds import RATE_HZ, burst_starts, bursts, sounding_clip
from tests.witness import run

FRAME = 1024
COUNT = 200
MS = RATE_HZ // 1000


def frames_at(offsets: Sequence[int], rate_hz: int = RATE_HZ) -> list[TimedFrame]:
    """Frames of a ramp that goes on from frame to frame; `offsets[n]`: how late frame n is."""
    made = []
    for number, offset in enumerate(offsets):
        ramp = np.arange(number * FRAME, (number + 1) * FRAME, dtype=np.float32) / 2**20
        frame = av.AudioFrame.from_ndarray(np.stack([ramp, ramp]), format="fltp", layout="stereo")
        frame.sample_rate = rate_hz
        made.append(TimedFrame(frame, number * FRAME * RATE_HZ // rate_hz + offset, False))
    return made


def gaps(blocks: Sequence[SoundBlock]) -> list[tuple[int, int]]:
    """Where a block does not begin where the one before it ended: place and width."""
    return [
        (before.stop, after.start - before.stop)
        for before, after in pairwise(blocks)
        if after.start != before.stop
    ]


def heard(blocks: Sequence[SoundBlock]) -> np.ndarray[tuple[int], np.dtype[np.float32]]:
    return np.concatenate([block.samples[0] for block in blocks])


@pytest.mark.parametrize(
    "late_ms",
    [
        lambda n: 12 * (n % 2),  # every second packet
        lambda n: 60 * (n % 3 == 2),
        lambda n: int(np.random.default_rng(n).integers(-35, 36)),  # a browser
        lambda n: 200 * (n == 100),  # one that is far off
        lambda n: 30 * (50 <= n < 60),  # for less than 300 ms
    ],
)
def test_uneven_time_stamps_move_nothing(late_ms: object) -> None:
    assert callable(late_ms)
    blocks = list(aligned(frames_at([late_ms(n) * MS for n in range(COUNT)]), 0))
    assert gaps(blocks) == []
    assert heard(blocks).tolist() == [n / 2**20 for n in range(COUNT * FRAME)]


def test_the_first_time_stamp_may_be_the_wrong_one() -> None:
    blocks = list(aligned(frames_at([-30 * MS, *[0] * 20]), 0))
    assert abs(blocks[0].start) <= 3 * MS and gaps(blocks) == []


@pytest.mark.parametrize("gap_ms", [21, 300, -21, -300])
def test_a_step_that_lasts_is_followed_where_it_is(gap_ms: int) -> None:
    offsets = [gap_ms * MS * (n >= 100) for n in range(COUNT)]
    blocks = list(aligned(frames_at(offsets), 0))
    assert gaps(blocks) == [(100 * FRAME, gap_ms * MS)]


def test_a_step_between_uneven_time_stamps_is_followed() -> None:
    late = np.random.default_rng(3).integers(0, 13, COUNT)
    offsets = [(int(late[n]) + 500 * (n >= 100)) * MS for n in range(COUNT)]
    ((place, width),) = gaps(list(aligned(frames_at(offsets), 0)))
    assert abs(place - 100 * FRAME) <= 8 * MS and abs(width - 500 * MS) <= 12 * MS


@pytest.mark.parametrize("parts_per_million", [2000, -2000, 300])
def test_drift_is_followed_without_a_hole(parts_per_million: int) -> None:
    count = 1500
    offsets = [n * FRAME * parts_per_million // 10**6 for n in range(count)]
    blocks = list(aligned(frames_at(offsets), 0))
    assert gaps(blocks) == []
    end = count * FRAME + offsets[-1]
    assert abs(blocks[-1].stop - end) <= 12 * MS
    steps = np.diff(heard(blocks)) * 2**20  # 1 at the normal speed; float32 has eighths there
    assert np.all(steps > 0.8) and np.all(steps < 1.2)


def test_drift_too_fast_to_follow_does_not_run_away() -> None:
    offsets = [n * FRAME // 20 for n in range(COUNT)]  # 5 %
    blocks = list(aligned(frames_at(offsets), 0))
    assert abs(blocks[-1].stop - (COUNT * FRAME + offsets[-1])) <= 60 * MS


def test_time_stamps_made_up_after_a_change_of_rate_move_nothing() -> None:
    """Half the rate, and time stamps inside a packet of 14 frames that still count with the old."""
    before = frames_at([0] * 50)
    start, length = 50 * FRAME, 2 * FRAME
    after = [
        TimedFrame(timed.frame, start + n // 14 * 14 * length + n % 14 * FRAME, False)
        for n, timed in enumerate(frames_at([0] * 30, RATE_HZ // 2))
    ]
    blocks = list(aligned([*before, *after], 0))
    assert gaps(blocks) == [] and abs(blocks[-1].stop - (start + 30 * length)) <= 2


def jittery(path: Path, into: Path, late_s: float) -> Path:
    """A copy in which every second sound packet is late."""
    with av.open(str(path)) as source, av.open(str(into), "w") as target:
        streams = {each.index: target.add_stream_from_template(each) for each in source.streams}
        count = 0
        for packet in source.demux():
            if packet.dts is None or packet.pts is None or packet.time_base is None:
                continue
            if packet.stream.type == "audio":
                packet.pts = packet.dts = packet.pts + round(late_s / packet.time_base) * (
                    count % 2
                )
                count += 1
            packet.stream = streams[packet.stream.index]
            target.mux(packet)
    return into


def test_packets_that_come_late_in_turns_are_heard_whole(tmp_path: Path) -> None:
    times_s = [0.5, 1.0, 1.75, 2.5]
    clip = sounding_clip(tmp_path / "even.mkv", bursts(times_s, 3), codec="aac")
    clip = jittery(clip, tmp_path / "late.mkv", 0.012)
    warnings: list[str] = []
    reader = SoundReader(probe(clip), 0, 3 * RATE_HZ, on_warning=warnings.append)
    samples = reader.read(0, 3 * RATE_HZ)
    reader.close()
    assert warnings == []
    np.testing.assert_allclose(burst_starts(samples[0]), np.array(times_s) * RATE_HZ, atol=7 * MS)


@needs_ffmpeg
def test_a_transport_stream_that_changes_rate_is_heard_whole(tmp_path: Path) -> None:
    for name, rate in (("a.ts", "48000"), ("b.ts", "24000")):
        run(
            "ffmpeg", "-v", "error", "-f", "lavfi", "-i", "testsrc=s=64x48:r=25:d=1.5",
            "-f", "lavfi", "-i", f"sine=500:d=1.5:r={rate}", "-c:a", "aac", "-ac", "2",
            *(("-output_ts_offset", "1.5") if name == "b.ts" else ()), tmp_path / name,
        )  # fmt: skip
    both = tmp_path / "both.ts"
    both.write_bytes((tmp_path / "a.ts").read_bytes() + (tmp_path / "b.ts").read_bytes())
    warnings: list[str] = []
    stop = 3 * RATE_HZ
    reader = SoundReader(probe(both), 0, stop, on_warning=warnings.append)
    samples = reader.read(0, stop)
    reader.close()
    loud = np.abs(samples[0]).reshape(-1, 480).max(axis=1) > 0.02  # 10 ms each
    assert loud[10:-10].mean() > 0.98, warnings
