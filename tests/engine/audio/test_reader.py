from __future__ import annotations

from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest
from numpy.typing import NDArray

from engine.audio.reader import HISTORY, SoundReader
from engine.media.probe import probe
from tests.media import needs_ffmpeg, real_media
from tests.sounds import RATE_HZ, FloatArray, burst_starts, bursts, sounding_clip
from tests.witness import run

TIMES_S = [0.5, 1.0, 1.75, 2.5]


def listen(
    path: Path, start: int, stop: int, warnings: list[str] | None = None
) -> NDArray[np.float32]:
    """Samples `[start, stop)`; warnings are errors unless a list takes them."""

    def unexpected(warning: str) -> None:
        raise AssertionError(warning)

    take = unexpected if warnings is None else warnings.append
    reader = SoundReader(probe(path), start, stop, on_warning=take)
    parts = [reader.read(at, min(at + 5000, stop)) for at in range(start, stop, 5000)]
    reader.close()
    return np.concatenate(parts, axis=1)


def noise(seconds: float, rate_hz: int = RATE_HZ, channels: int = 2) -> FloatArray:
    return 0.2 * np.random.default_rng(5).standard_normal((channels, int(seconds * rate_hz)))


def test_48_khz_stereo_comes_through_bit_for_bit(tmp_path: Path) -> None:
    sound = noise(2).astype(np.float32)
    clip = sounding_clip(tmp_path / "a.mov", sound)
    np.testing.assert_array_equal(listen(clip, 0, 96_000), sound)
    np.testing.assert_array_equal(listen(clip, 77_777, 90_001), sound[:, 77_777:90_001])


def test_outside_its_range_a_reader_is_silent(tmp_path: Path) -> None:
    sound = noise(1).astype(np.float32)
    reader = SoundReader(
        probe(sounding_clip(tmp_path / "a.mov", sound)), 100, 200, on_warning=pytest.fail
    )
    read = reader.read(-50, 300)
    reader.close()
    np.testing.assert_array_equal(read[:, 150:250], sound[:, 100:200])
    assert not read[:, :150].any()
    assert not read[:, 250:].any()


def test_reads_may_look_back_but_not_far(tmp_path: Path) -> None:
    sound = noise(4).astype(np.float32)
    reader = SoundReader(
        probe(sounding_clip(tmp_path / "a.mov", sound)), 0, 4 * RATE_HZ, on_warning=pytest.fail
    )
    reader.read(3 * RATE_HZ, 3 * RATE_HZ + 10)
    back = 3 * RATE_HZ - HISTORY
    np.testing.assert_array_equal(reader.read(back, back + 9), sound[:, back : back + 9])
    with pytest.raises(ValueError, match="sample 48000 is no longer buffered"):
        reader.read(RATE_HZ, RATE_HZ + 10)
    reader.close()


@pytest.mark.parametrize("rate_hz", [8_000, 22_050, 44_100, 96_000])
def test_any_rate_lands_on_the_sample(tmp_path: Path, rate_hz: int) -> None:
    at = np.arange(2 * rate_hz) / rate_hz
    clip = sounding_clip(tmp_path / "a.mov", 0.5 * np.sin(2 * np.pi * 400 * at), rate_hz=rate_hz)
    for start in (0, 60_000):
        ideal = 0.5 * np.sin(2 * np.pi * 400 * np.arange(start, start + 30_000) / RATE_HZ)
        off_by_half_a_sample = 0.5 * 2 * np.pi * 400 / RATE_HZ * 0.5
        heard = listen(clip, start, start + 30_000)
        assert np.max(np.abs(heard - ideal)[:, 100:]) < off_by_half_a_sample + 0.002


def test_mono_goes_to_both_sides_at_full_level(tmp_path: Path) -> None:
    sound = noise(1, channels=1).astype(np.float32)
    clip = sounding_clip(tmp_path / "a.mov", sound, layout="mono")
    np.testing.assert_array_equal(listen(clip, 0, 40_000), np.repeat(sound[:, :40_000], 2, axis=0))


@pytest.mark.parametrize(
    ("channel", "left", "right"),
    [("FL", 1, 0), ("FR", 0, 1), ("FC", 0.7071, 0.7071), ("LFE", 0, 0), ("SL", 0.7071, 0)],
)
def test_surround_is_mixed_down(tmp_path: Path, channel: str, left: float, right: float) -> None:
    layout = "5.1(side)"
    names = [each.name for each in av.AudioLayout(layout).channels]
    planes = np.zeros((6, 4800))
    planes[names.index(channel)] = 0.9
    heard = listen(sounding_clip(tmp_path / "a.mov", planes, layout=layout), 1000, 2000)
    whole = 1 + 0.7071 + 0.7071  # full scale everywhere stays within full scale
    np.testing.assert_allclose(heard.mean(axis=1), 0.9 * np.array([left, right]) / whole, atol=1e-3)


@pytest.mark.parametrize(("name", "codec"), [("a.mov", "pcm_f32le"), ("a.mkv", "flac")])
@pytest.mark.parametrize("late_s", [Fraction(1, 4), Fraction(-1, 4)])
def test_zero_is_the_first_picture(tmp_path: Path, name: str, codec: str, late_s: Fraction) -> None:
    """Sound that starts `late_s` after the picture, in a file that does not start at 0."""
    codec = "pcm_s16le" if codec == "flac" else codec
    clip = sounding_clip(
        tmp_path / name,
        bursts([0.5, 1.0, 1.5], 2),
        codec=codec,
        picture_start_s=3,
        sound_start_s=3 + late_s,
    )
    starts = burst_starts(listen(clip, 0, 2 * RATE_HZ + 4800 * int(late_s * 10))[0])
    ideal = [(second + float(late_s)) * RATE_HZ for second in (0.5, 1.0, 1.5)]
    np.testing.assert_allclose(starts, ideal, atol=48)  # Matroska rounds to 1 ms


@needs_ffmpeg
@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("a.mp4", ["-c:a", "aac"]),
        ("a.mp4", ["-c:a", "libmp3lame"]),
        ("a.mkv", ["-c:a", "libopus"]),
        ("a.ts", ["-c:a", "ac3"]),
        ("a.ts", ["-c:a", "aac", "-muxdelay", "0"]),
        ("a.avi", ["-c:a", "libmp3lame"]),
    ],
)
def test_seeking_hears_the_same(tmp_path: Path, name: str, options: list[str]) -> None:
    times_s = [0.5 * k + 0.25 for k in range(11)]
    plain = sounding_clip(tmp_path / "plain.mov", bursts(times_s, 6), codec="pcm_s16le")
    clip = tmp_path / name
    run("ffmpeg", "-v", "error", "-i", plain, "-c:v", "mpeg4", "-g", "5", *options, clip)
    whole = burst_starts(listen(clip, 0, 6 * RATE_HZ, [])[0])
    after_seek = burst_starts(listen(clip, 4 * RATE_HZ, 6 * RATE_HZ, [])[0])
    assert len(whole) == 11
    np.testing.assert_allclose(after_seek, np.subtract(whole[-3:], 4 * RATE_HZ), atol=48)
    # the first picture of such files is shown at the same time as sound sample 0, or, where the
    # container does not record the encoder's delay, up to 50 ms away
    np.testing.assert_allclose(whole, np.array(times_s) * RATE_HZ, atol=0.05 * RATE_HZ)


@pytest.mark.parametrize("gap_s", [Fraction(3, 10), Fraction(4, 5)])
def test_a_gap_is_silent_and_moves_nothing(tmp_path: Path, gap_s: Fraction) -> None:
    """One second of sound, a hole in the timestamps, the rest of the sound."""
    gap = int(gap_s * RATE_HZ)
    rows = [(first + (gap if first >= RATE_HZ else 0), first) for first in range(0, 96_000, 1000)]
    clip = sounding_clip(
        tmp_path / "a.mkv",
        bursts([0.5, 0.98, 1.0, 1.5], 2),
        codec="pcm_s16le",
        packets_at=[(pts, first, first + 1000) for pts, first in rows],
    )
    warnings: list[str] = []
    heard = listen(clip, 0, 2 * RATE_HZ + gap, warnings)
    after = 1 + float(gap_s)
    ideal = np.array([0.5, 0.98, after, after + 0.5]) * RATE_HZ
    np.testing.assert_allclose(burst_starts(heard[0]), ideal, atol=48)
    assert not heard[:, RATE_HZ + 48 : RATE_HZ + gap - 48].any()
    assert warnings == [f"{clip}: 1.000 to {after:.3f} s: sound is missing, silent there"]


def test_sound_that_comes_twice_is_heard_once(tmp_path: Path) -> None:
    clip = sounding_clip(
        tmp_path / "a.mkv",
        bursts([0.5, 1.5], 2),
        codec="pcm_s16le",
        packets_at=[(0, 0, RATE_HZ), (RATE_HZ - 4800, RATE_HZ, 2 * RATE_HZ)],
    )
    warnings: list[str] = []
    heard = listen(clip, 0, 2 * RATE_HZ - 4800, warnings)
    np.testing.assert_allclose(burst_starts(heard[0]), [24_000, 67_200], atol=48)
    assert warnings == [f"{clip}: 0.900 to 1.000 s: sound comes twice, heard the first time"]


def test_jitter_of_timestamps_is_not_heard(tmp_path: Path) -> None:
    sound = noise(2).astype(np.float32)
    rng = np.random.default_rng(6)
    rows = [(first + int(rng.integers(0, 200)), first) for first in range(1000, 96_000, 1000)]
    clip = sounding_clip(
        tmp_path / "a.mov",
        sound,
        packets_at=[(0, 0, 1000), *((pts, first, first + 1000) for pts, first in rows)],
    )
    np.testing.assert_array_equal(listen(clip, 0, 96_000), sound)


def damaged(clip: Path, into: Path, numbers: range) -> Path:
    """A copy of `clip` in which the payloads of some sound packets are nonsense."""
    with av.open(str(clip)) as source, av.open(str(into), "w") as target:
        streams = {s.index: target.add_stream_from_template(s) for s in source.streams}
        count = 0
        for packet in source.demux():
            if packet.dts is None:
                continue
            written = packet
            if packet.stream.type == "audio":
                if count in numbers:
                    written = av.Packet(b"\xff" * packet.size)
                    written.pts, written.dts = packet.pts, packet.dts
                    written.duration = packet.duration
                    written.time_base = packet.time_base
                count += 1
            written.stream = streams[packet.stream.index]
            target.mux(written)
    return into


def test_damage_is_silent_and_moves_nothing(tmp_path: Path) -> None:
    clip = sounding_clip(tmp_path / "a.mp4", bursts(TIMES_S, 3), codec="aac")
    broken = damaged(clip, tmp_path / "broken.mp4", range(60, 66))
    warnings: list[str] = []
    whole, heard = listen(clip, 0, 3 * RATE_HZ), listen(broken, 0, 3 * RATE_HZ, warnings)
    assert burst_starts(heard[0]) == burst_starts(whole[0])
    np.testing.assert_allclose(burst_starts(heard[0]), np.array(TIMES_S) * RATE_HZ, atol=48)
    silent = slice(59 * 1024, 65 * 1024)  # packet 0 is the encoder's priming
    assert not heard[:, silent].any()
    assert warnings == [f"{broken}: 1.259 to 1.387 s: sound is damaged, silent there"]


def test_damage_at_the_end_is_told(tmp_path: Path) -> None:
    clip = sounding_clip(tmp_path / "a.mp4", noise(2), codec="aac")
    broken = damaged(clip, tmp_path / "broken.mp4", range(84, 100))
    warnings: list[str] = []
    listen(broken, 0, 2 * RATE_HZ, warnings)
    (warning,) = warnings
    assert "to 2.000 s: sound is damaged" in warning


def test_sound_that_ends_long_before_the_picture_is_told(tmp_path: Path) -> None:
    clip = sounding_clip(tmp_path / "a.mov", noise(1))
    warnings: list[str] = []
    assert not listen(clip, 0, 2 * RATE_HZ, warnings)[:, RATE_HZ:].any()
    assert warnings == [f"{clip}: 1.000 to 2.000 s: sound is missing, silent there"]
    listen(clip, 0, RATE_HZ + RATE_HZ // 4)  # a little is usual


def test_what_is_not_a_number_is_silent(tmp_path: Path) -> None:
    sound = noise(1).astype(np.float32)
    sound[0, 5000], sound[1, 5001], sound[0, 7000] = np.nan, np.inf, 1e20
    clip = sounding_clip(tmp_path / "a.mov", sound)
    warnings: list[str] = []
    heard = listen(clip, 0, RATE_HZ, warnings)
    sound[0, 5000] = sound[1, 5001] = sound[0, 7000] = 0
    np.testing.assert_array_equal(heard, sound)
    (warning,) = warnings
    assert "sound is damaged in 2 places" in warning


@needs_ffmpeg
@pytest.mark.parametrize(
    ("name", "trim_s"),
    [
        ("animation_720p25_aac_5_1.mp4", Fraction(0)),
        ("park_starts_at_8s_h264_aac.mp4", Fraction(67, 1000)),
        ("kodak_mjpeg_422_fullrange_pcm22k.avi", Fraction(0)),
        ("phone_portrait_av1_10bit_hdr10_pq_audio.mp4", Fraction(-21, 1000)),
        ("iphone_portrait_hevc10_hlg_vfr_editlist.mp4", Fraction(0)),
        ("camcorder_1080i50_h264_ac3.mts", Fraction(0)),
    ],
)
def test_real_files_are_heard_as_ffmpeg_hears_them(name: str, trim_s: Fraction) -> None:
    """`trim_s`: how much of its sound a player hears before the first picture."""
    path = real_media(name)
    skipped = round(trim_s * RATE_HZ)
    raw = run("ffmpeg", "-v", "error", "-i", path, "-f", "f32le", "-ac", "1", "-ar", "48000", "-")
    witness = np.pad(np.frombuffer(raw, np.float32), (LAGS.stop + max(0, -skipped), 0))
    witness = witness[max(0, skipped) :]
    count = min(3 * RATE_HZ, len(witness) - 2 * LAGS.stop)
    mono = listen(path, 0, count).mean(axis=0)
    match = [
        np.corrcoef(mono, witness[LAGS.stop + lag : LAGS.stop + lag + count])[0, 1] for lag in LAGS
    ]
    assert LAGS[int(np.argmax(match))] in (-1, 0, 1)
    assert max(match) > 0.95


LAGS = range(-40, 41)
