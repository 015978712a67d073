"""Which of a file's sound tracks is heard, from where on, and what is said where none can be."""

from __future__ import annotations

from collections.abc import Sequence
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest
from av.stream import Disposition

from engine.audio.reader import SoundReader
from engine.media.probe import probe
from engine.media.video_reader import FrameReader
from engine.source import SourceInfo
from engine.timing import round_half_up
from tests.clips import numbered_clip, read_number
from tests.media import needs_ffmpeg
from tests.sounds import RATE_HZ, burst_starts, bursts
from tests.witness import ffprobe, run


def heard_at(source: SourceInfo) -> list[float]:
    stop = round_half_up(source.duration_s * RATE_HZ)
    reader = SoundReader(source, 0, stop, on_warning=pytest.fail)
    samples = reader.read(0, stop)
    reader.close()
    return [start / RATE_HZ for start in burst_starts(samples[0])]


def with_tracks(path: Path, tracks: Sequence[tuple[float, float, Disposition]]) -> Path:
    """A 2 s clip with PCM tracks: each is `(burst_s, seconds, disposition)`."""
    with av.open(str(path), "w") as container:
        video = container.add_stream("libx264", rate=25)
        video.width = video.height = 64
        video.pix_fmt = "yuv420p"
        sounds = []
        for _, _, disposition in tracks:
            sound = container.add_stream("pcm_s16le", rate=RATE_HZ, layout="stereo")
            sound.disposition = disposition
            sounds.append(sound)
        for _ in range(50):
            grey = np.full((96, 64), 128, np.uint8)
            container.mux(video.encode(av.VideoFrame.from_ndarray(grey, format="yuv420p")))
        container.mux(video.encode(None))
        for sound, (burst_s, seconds, _) in zip(sounds, tracks, strict=True):
            samples = (bursts([burst_s], seconds) * 32767).astype(np.int16)
            frame = av.AudioFrame.from_ndarray(
                np.repeat(samples, 2)[None, :], format="s16", layout="stereo"
            )
            frame.sample_rate, frame.pts = RATE_HZ, 0
            container.mux(sound.encode(frame))
            container.mux(sound.encode(None))
    return path


NORMAL, NONE = Disposition.default, Disposition(0)


@pytest.mark.parametrize(
    ("tracks", "expected"),
    [
        ([(0.5, 2, NONE), (1.0, 2, NORMAL)], 1.0),
        ([(0.5, 2, NORMAL | Disposition.comment), (1.0, 2, NONE)], 1.0),
        ([(0.5, 2, Disposition.visual_impaired), (1.0, 2, NONE)], 1.0),
        ([(0.5, 2, Disposition.comment), (1.0, 2, Disposition.comment)], 0.5),
        ([(0.01, 0.04, NORMAL), (1.0, 2, NONE)], 1.0),  # a default track of one frame
        ([(0.5, 2, NORMAL), (1.0, 2, NORMAL)], 0.5),
    ],
    ids=["default", "commentary", "description", "only commentary", "stub", "first of equals"],
)
def test_the_films_own_sound_is_heard(
    tmp_path: Path, tracks: list[tuple[float, float, Disposition]], expected: float
) -> None:
    source = probe(with_tracks(tmp_path / "a.mkv", tracks))
    assert heard_at(source) == pytest.approx([expected], abs=0.001)


def test_sound_that_cannot_be_decoded_is_told(tmp_path: Path) -> None:
    path = numbered_clip(tmp_path / "a.mp4", 30, sound="bursts")
    path.write_bytes(path.read_bytes().replace(b"mp4a", b"ac-4").replace(b"esds", b"free"))
    source = probe(path)
    assert source.sound is None
    (note,) = source.notes
    assert "sound" in note and "cannot be decoded" in note and "silent" in note


def without_early_sound(path: Path) -> Path:
    """Rewrites an FLV so that nothing before its first sound tells of sound."""
    data, tags, at = path.read_bytes(), [], 13
    while at < len(data):
        size = 15 + int.from_bytes(data[at + 1 : at + 4], "big")
        tags.append(data[at : at + size])
        at += size
    video_and_data = [tag for tag in tags if tag[0] == 9]
    sound = [tag for tag in tags if tag[0] == 8]  # the decoder's settings are the first of them
    start_ms = int.from_bytes(sound[1][4:7], "big")
    early = [tag for tag in video_and_data if int.from_bytes(tag[4:7], "big") < start_ms]
    late = [tag for tag in tags if tag not in early and tag is not sound[0] and tag[0] != 18]
    path.write_bytes(data[:4] + b"\1" + data[5:13] + b"".join([*early, sound[0], *late]))
    return path


@needs_ffmpeg
def test_sound_that_begins_late_is_found(tmp_path: Path) -> None:
    """Six megabytes of picture come before it: FFmpeg looks at five for streams."""
    path = tmp_path / "late.flv"
    run(
        "ffmpeg", "-v", "error", "-f", "lavfi",
        "-i", "testsrc=s=320x240:r=5:d=20,noise=alls=100:allf=t",
        "-itsoffset", "15", "-f", "lavfi", "-i", "sine=1000:d=4:r=48000",
        "-c:v", "libx264", "-preset", "ultrafast", "-qp", "6", "-c:a", "aac", path,
    )  # fmt: skip
    without_early_sound(path)
    with av.open(str(path)) as container:
        assert not container.streams.audio, "the file does not show the fault"
    source = probe(path)
    assert source.sound and len(source.frame_pts) == 100
    assert float(source.sound.start_s) == pytest.approx(15, abs=0.05)
    reader = SoundReader(source, 14 * RATE_HZ, 20 * RATE_HZ, on_warning=lambda _: None)
    loud = np.abs(reader.read(14 * RATE_HZ, 20 * RATE_HZ)[0]).reshape(60, -1).max(axis=1) > 0.05
    reader.close()
    assert not loud[:9].any() and loud[11:49].all() and not loud[52:].any()
    with FrameReader(source, strict=True, on_warning=pytest.fail) as frames:
        assert len(list(frames.frames(source.frame_pts))) == 100


@needs_ffmpeg
@pytest.mark.parametrize("codec", ["libx264", "mpeg4"])
def test_sound_in_avi_is_not_early(tmp_path: Path, codec: str) -> None:
    """AVI has no time stamps: frames are shown in order, the first one at once."""
    clip, path = numbered_clip(tmp_path / "a.mkv", 75, 25), tmp_path / "a.avi"
    beeps = "aevalsrc=0.8*sin(2*PI*1000*t+1)*lt(mod(t\\,1)\\,0.05):s=48000:d=3"
    run("ffmpeg", "-v", "error", "-i", clip, "-f", "lavfi", "-i", beeps,
        "-c:v", codec, "-bf", "2", "-c:a", "pcm_s16le", path)  # fmt: skip
    source = probe(path)
    assert source.sound and source.sound.start_s == 0
    np.testing.assert_allclose(heard_at(source), [0, 1, 2], atol=0.002)
    assert source.duration_s == 3
    with FrameReader(source, strict=True, on_warning=pytest.fail) as reader:
        numbers = [read_number(each.planes[0]) for each in reader.frames(source.frame_pts)]
    assert numbers == list(range(75))
    assert float(ffprobe(path, "-show_streams")["streams"][1]["start_time"]) == 0


def dropping_last(path: Path, count: int) -> Path:
    """Rewrites an AVI so that its last frames are dropped ones: chunks of no bytes."""
    data = path.read_bytes()
    chunks, at = [], data.index(b"movi") + 4
    while data[at : at + 4] == b"00dc":
        size = int.from_bytes(data[at + 4 : at + 8], "little")
        chunks.append(data[at : at + 8 + size + size % 2])
        at += len(chunks[-1])
    kept = [*chunks[:-count], *[b"00dc\0\0\0\0"] * count]
    index, offset = b"", 4
    for number, chunk in enumerate(kept):
        flags = 16 * (number == 0)
        size = int.from_bytes(chunk[4:8], "little")
        index += b"00dc" + b"".join(n.to_bytes(4, "little") for n in (flags, offset, size))
        offset += len(chunk)
    head = bytearray(data[: data.index(b"movi")])
    head[-4:] = (offset).to_bytes(4, "little")
    body = b"movi" + b"".join(kept) + b"idx1" + len(index).to_bytes(4, "little") + index
    head[4:8] = (len(head) + len(body) - 8).to_bytes(4, "little")
    path.write_bytes(bytes(head) + body)
    return path


def test_an_avi_that_ends_in_dropped_frames_holds_its_last_picture(tmp_path: Path) -> None:
    path = numbered_clip(tmp_path / "a.avi", 60, 25, codec="mpeg4", options={"bf": "0"})
    source = probe(dropping_last(path, 40))
    assert (len(source.frame_pts), source.duration_s, source.repairs) == (20, Fraction(60, 25), ())
    with FrameReader(source, strict=True, on_warning=pytest.fail) as reader:
        numbers = [read_number(each.planes[0]) for each in reader.frames(source.frame_pts)]
    assert numbers == list(range(20))
