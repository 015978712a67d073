from __future__ import annotations

from collections.abc import Sequence
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from engine.audio.mix import sound_blocks, write_sound
from engine.errors import Cancelled, SourceError
from engine.media.probe import probe
from engine.soundtrack import Ramp, SoundSpan, TempoPiece
from engine.source import SourceInfo
from tests.clips import numbered_clip
from tests.media import needs_ffmpeg, real_media
from tests.sounds import RATE_HZ, FloatArray, burst_starts, bursts, sounding_clip
from tests.witness import complaints, ffprobe, samples

Piece = tuple[float, float, str]
"""Source seconds [start, stop) and the speed."""


def span(
    clip: int,
    start_sample: int,
    *pieces: Piece,
    rise: int = 0,
    fall: int = 0,
    ramp: Ramp = Ramp.EQUAL_POWER,
) -> SoundSpan:
    return SoundSpan(
        clip=clip,
        start_sample=start_sample,
        pieces=tuple(
            TempoPiece(
                Fraction(str(start)),
                Fraction(str(stop)),
                Fraction(speed),
                round((Fraction(str(stop)) - Fraction(str(start))) / Fraction(speed) * RATE_HZ),
            )
            for start, stop, speed in pieces
        ),
        rise_samples=rise,
        rise_ramp=ramp,
        fall_samples=fall,
        fall_ramp=ramp,
    )


def mixed(
    spans: Sequence[SoundSpan], paths: Sequence[Path], sample_count: int | None = None
) -> NDArray[np.float32]:
    """The track before it is encoded; a warning is an error."""
    count = sample_count or spans[-1].start_sample + spans[-1].sample_count
    blocks = sound_blocks(spans, [probe(path) for path in paths], count, pytest.fail)
    return np.concatenate([*blocks], axis=1)


def write(
    spans: Sequence[SoundSpan], sources: Sequence[SourceInfo], count: int, path: Path
) -> None:
    write_sound(spans, sources, count, path, on_warning=pytest.fail, on_step=lambda: None)


def noise(seconds: float, seed: int) -> FloatArray:
    rng = np.random.default_rng(seed)
    return 0.2 * rng.standard_normal((2, int(seconds * RATE_HZ)))


def level_db(samples: FloatArray) -> float:
    return float(10 * np.log10(np.mean(np.square(samples, dtype=float))))


def test_bursts_stay_in_place_through_three_joined_spans(tmp_path: Path) -> None:
    times_s = [0.3, 0.7, 1.1, 1.6]
    paths = [
        sounding_clip(tmp_path / "a.mov", bursts(times_s, 2)),
        sounding_clip(tmp_path / "b.mov", bursts(times_s, 2, rate_hz=44_100), rate_hz=44_100),
        sounding_clip(tmp_path / "c.mp4", bursts(times_s, 2), codec="aac"),
    ]
    spans = [
        span(0, 0, (0.2, 1.4, "1")),
        span(1, 57_600, (0.5, 2, "1")),
        span(2, 129_600, (0, 1.9, "1")),
    ]
    heard = mixed(spans, paths)
    assert heard.shape == (2, 220_800)
    ideal_s = [0.1, 0.5, 0.9, *(1.2 + t for t in (0.2, 0.6, 1.1)), *(2.7 + t for t in times_s)]
    starts = burst_starts(heard[0])
    np.testing.assert_allclose(starts, np.array(ideal_s) * RATE_HZ, atol=0.001 * RATE_HZ)


@pytest.mark.parametrize("speed", ["0.25", "0.5", "2", "4"])
def test_bursts_between_changes_of_speed(tmp_path: Path, speed: str) -> None:
    """Speed 1, then `speed`, then 1 again."""
    times_s = [0.5, 1.2, 1.7, 2.3, 2.8, 3.4]
    path = sounding_clip(tmp_path / "a.mov", bursts(times_s, 4))
    pieces: list[Piece] = [(0, 1, "1"), (1, 3, speed), (3, 4, "1")]
    heard = mixed([span(0, 0, *pieces)], [path])
    factor = float(speed)
    assert heard.shape[1] == round((2 + 2 / factor) * RATE_HZ)
    inside = [1 + (t - 1) / factor for t in times_s[1:5]]
    ideal = np.array([0.5, *inside, 1 + 2 / factor + 0.4]) * RATE_HZ
    off = np.abs(np.subtract(burst_starts(heard[0], apart_s=0.08), ideal))
    assert max(off[0], off[-1]) < 0.5  # speed 1 is exact to the sample
    assert np.max(off) < 0.003 * RATE_HZ


def test_speed_1_is_a_copy(tmp_path: Path) -> None:
    sound = noise(3, 1).astype(np.float32)
    path = sounding_clip(tmp_path / "a.mov", sound)
    pieces: list[Piece] = [(0.5, 1, "1"), (1, 1.75, "1"), (1.75, 2.5, "1")]  # seams are not heard
    heard = mixed([span(0, 0, *pieces)], [path])
    np.testing.assert_array_equal(heard, sound[:, 24_000:120_000])


def test_pieces_meet_without_a_click(tmp_path: Path) -> None:
    tone = 0.5 * np.sin(2 * np.pi * 200 * np.arange(3 * RATE_HZ) / RATE_HZ)
    path = sounding_clip(tmp_path / "a.mov", tone)
    heard = mixed([span(0, 0, (0, 1, "1"), (1.0013, 2, "0.7"), (2, 2.9, "3"))], [path])
    steepest = 0.5 * 2 * np.pi * 200 / RATE_HZ
    assert np.max(np.abs(np.diff(heard[0]))) < 1.5 * steepest


def test_a_clip_ends_where_its_trim_ends(tmp_path: Path) -> None:
    """Samples that the plan asks for beyond the end of the trim are silence."""
    sound = noise(2, 2).astype(np.float32)
    path = sounding_clip(tmp_path / "a.mov", sound)
    longer = TempoPiece(Fraction(0), Fraction(1), Fraction(1), RATE_HZ + 500)
    held = SoundSpan(0, 0, (longer,), 0, Ramp.LINEAR, 0, Ramp.LINEAR)
    heard = mixed([held], [path])
    np.testing.assert_array_equal(heard[:, :RATE_HZ], sound[:, :RATE_HZ])
    assert not heard[:, RATE_HZ:].any()


def test_nothing_drifts_in_ten_minutes(tmp_path: Path) -> None:
    times_s = [float(second) + 0.25 for second in range(0, 600, 60)]
    sound = bursts(times_s, 600, rate_hz=8000)
    path = sounding_clip(
        tmp_path / "a.mov", sound, rate_hz=8000, layout="mono", codec="pcm_s16le", picture_fps=1
    )
    starts = burst_starts(mixed([span(0, 0, (0, 300, "1"), (300, 600, "1.25"))], [path])[0])
    ideal_s = [second if second < 300 else 300 + (second - 300) / 1.25 for second in times_s]
    np.testing.assert_allclose(starts, np.array(ideal_s) * RATE_HZ, atol=0.001 * RATE_HZ)


def test_a_dissolve_keeps_the_power(tmp_path: Path) -> None:
    paths = [
        sounding_clip(tmp_path / "a.mov", noise(2, 3)),
        sounding_clip(tmp_path / "b.mov", noise(2, 4)),
    ]
    heard = mixed(
        [span(0, 0, (0, 2, "1"), fall=24_000), span(1, 72_000, (0, 2, "1"), rise=24_000)], paths
    )
    assert heard.shape[1] == 168_000
    levels = [level_db(heard[:, at : at + 2400]) for at in range(0, 168_000, 2400)]
    np.testing.assert_allclose(levels, level_db(noise(2, 3)), atol=0.5)


def test_ramps_are_exact(tmp_path: Path) -> None:
    path = sounding_clip(tmp_path / "a.mov", np.full(RATE_HZ, 0.5))
    for ramp in Ramp:
        heard = mixed([span(0, 0, (0, 1, "1"), rise=9000, fall=12_000, ramp=ramp)], [path])
        rise, fall = (np.arange(9000) + 0.5) / 9000, (np.arange(12_000) + 0.5) / 12_000
        if ramp is Ramp.EQUAL_POWER:
            rise, fall = np.sin(np.pi / 2 * rise), np.sin(np.pi / 2 * fall)
        ideal = 0.5 * np.concatenate([rise, np.ones(27_000), fall[::-1]])
        np.testing.assert_allclose(heard[0], ideal, atol=1e-6)


def test_a_clip_without_sound_is_silent(tmp_path: Path) -> None:
    paths = [
        sounding_clip(tmp_path / "a.mov", noise(1, 5)),
        numbered_clip(tmp_path / "b.mp4", 30),
    ]
    heard = mixed([span(0, 0, (0, 1, "1")), span(1, RATE_HZ, (0, 0.5, "1"), (0.5, 1, "2"))], paths)
    assert heard[:, :RATE_HZ].any()
    assert not heard[:, RATE_HZ:].any()


def test_a_track_may_end_before_or_after_its_spans(tmp_path: Path) -> None:
    path = sounding_clip(tmp_path / "a.mov", noise(1, 6))
    whole = [span(0, 1000, (0, 1, "1"))]
    assert mixed(whole, [path], 7).shape == (2, 7)
    late = mixed(whole, [path], 60_000)
    assert late.shape == (2, 60_000)
    assert not late[:, :1000].any()
    assert not late[:, 49_000:].any()


@needs_ffmpeg
def test_the_file_is_what_it_should_be(tmp_path: Path) -> None:
    times_s = [0.0, 0.5, 1.25]
    clip = sounding_clip(tmp_path / "a.mov", bursts(times_s, 2))
    count = 77_777
    path = tmp_path / "sound.m4a"
    spans = [span(0, 0, (0, 2, "1"))]
    write(spans, [probe(clip)], count, path)
    assert 0.79 < np.abs(mixed(spans, [clip], count)).max() < 0.81
    facts = ffprobe(path)
    (stream,) = facts["streams"]
    assert (stream["codec_name"], stream["profile"]) == ("aac", "LC")
    assert (stream["sample_rate"], stream["channels"]) == ("48000", 2)
    assert (stream["start_pts"], stream["duration_ts"]) == (0, count)
    assert float(facts["format"]["start_time"]) == 0
    assert float(facts["format"]["duration"]) == pytest.approx(count / RATE_HZ, abs=1e-6)
    assert not {"creation_time", "encoder", "title"} & facts["format"].get("tags", {}).keys()
    assert complaints(path) == ""
    heard = samples(path)
    assert 0 <= len(heard) - count < 1024  # the last packet is whole, the edit list ends it
    ideal = np.array(times_s) * RATE_HZ
    np.testing.assert_allclose(burst_starts(heard[:, 0]), ideal, atol=24)
    assert list(tmp_path.glob("*partial*")) == []


@needs_ffmpeg
@pytest.mark.parametrize("count", [1, 1023, 1024, 1025])
def test_the_shortest_tracks_have_their_length(tmp_path: Path, count: int) -> None:
    source = probe(sounding_clip(tmp_path / "a.mov", noise(1, 7)))
    write([span(0, 0, (0, 1, "1"))], [source], count, tmp_path / "sound.m4a")
    (stream,) = ffprobe(tmp_path / "sound.m4a")["streams"]
    assert (stream["start_pts"], stream["duration_ts"]) == (0, count)


def test_equal_input_gives_equal_bytes(tmp_path: Path) -> None:
    source = probe(sounding_clip(tmp_path / "a.mov", noise(1, 8)))
    first, second = tmp_path / "1.m4a", tmp_path / "2.m4a"
    for path in (first, second):
        write([span(0, 0, (0, 1, "0.9"))], [source], 40_000, path)
    assert first.read_bytes() == second.read_bytes()


def test_what_is_too_loud_is_clipped(tmp_path: Path) -> None:
    clip = sounding_clip(tmp_path / "a.mov", np.full(RATE_HZ, 0.9))
    spans = [span(0, 0, (0, 1, "1")), span(0, 0, (0, 1, "1"))]
    write(spans, [probe(clip)], RATE_HZ, tmp_path / "a.m4a")
    assert np.abs(mixed(spans, [clip], RATE_HZ)).max() == pytest.approx(1.8)
    assert np.max(np.abs(samples(tmp_path / "a.m4a")[2048:-2048])) < 1.1


def test_stopping_leaves_nothing(tmp_path: Path) -> None:
    source = probe(sounding_clip(tmp_path / "a.mov", noise(2, 9)))
    steps = 0

    def stop() -> None:
        nonlocal steps
        steps += 1
        if steps == 3:
            raise Cancelled

    with pytest.raises(Cancelled):
        write_sound(
            [span(0, 0, (0, 2, "1"))], [source], 2 * RATE_HZ, tmp_path / "sound.m4a",
            on_warning=pytest.fail, on_step=stop,
        )  # fmt: skip
    assert [path.name for path in tmp_path.iterdir()] == ["a.mov"]


def test_a_source_that_is_gone_is_named(tmp_path: Path) -> None:
    path = sounding_clip(tmp_path / "a.mov", noise(1, 10))
    source = probe(path)
    path.unlink()
    with pytest.raises(SourceError, match=r"a\.mov: does not exist"):
        write([span(0, 0, (0, 1, "1"))], [source], RATE_HZ, tmp_path / "sound.m4a")
    assert list(tmp_path.iterdir()) == []


@needs_ffmpeg
def test_real_files_in_one_track(tmp_path: Path) -> None:
    names = [
        "animation_720p25_aac_5_1.mp4",
        "park_starts_at_8s_h264_aac.mp4",
        "kodak_mjpeg_422_fullrange_pcm22k.avi",
        "phone_portrait_av1_10bit_hdr10_pq_audio.mp4",
    ]
    sources = [probe(real_media(name)) for name in names]
    spans = [
        span(0, 0, (0, 2, "1"), (2, 3, "0.5"), fall=12_000),
        span(1, 180_000, (1, 3, "2"), (3, 4, "1"), rise=12_000),
        span(2, 276_000, (0, 2, "0.8"), fall=4800, ramp=Ramp.LINEAR),
        span(3, 396_000, (0, 1.5, "1"), rise=4800, ramp=Ramp.LINEAR),
    ]
    count = 396_000 + 72_000
    write(spans, sources, count, tmp_path / "sound.m4a")
    assert complaints(tmp_path / "sound.m4a") == ""
    heard = samples(tmp_path / "sound.m4a")
    assert 0 <= len(heard) - count < 1024
    for start in range(0, count - 24_000, 24_000):
        assert np.std(heard[start : start + 24_000]) > 1e-4


def test_what_is_missing_is_told_of_its_clip(tmp_path: Path) -> None:
    short = sounding_clip(tmp_path / "short.mov", bursts([0], 1))
    warnings: list[str] = []
    spans = [span(0, 0, (0, 1, "1")), span(1, RATE_HZ, (0, 2, "1"))]
    list(sound_blocks(spans, [probe(short)] * 2, 3 * RATE_HZ, warnings.append))
    assert warnings == [f"clips[1]: {short}: 1.000 to 2.000 s: sound is missing, silent there"]
