"""What the ffmpeg and ffprobe programs say of a file: witnesses that share no code with us."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path
from typing import Any

import av
import numpy as np
from numpy.typing import NDArray


def run(*command: str | Path) -> bytes:
    """Standard output of a program; fails the test with what it said on standard error."""
    done = subprocess.run([str(word) for word in command], capture_output=True)
    assert done.returncode == 0, done.stderr.decode(errors="replace")
    return done.stdout


def ffprobe(path: Path, *options: str) -> dict[str, Any]:
    """Streams, format and chapters as ffprobe's JSON."""
    facts = run(
        "ffprobe", "-v", "error", "-of", "json", "-show_streams", "-show_format",
        "-show_chapters", *options, path,
    )  # fmt: skip
    loaded: dict[str, Any] = json.loads(facts)
    return loaded


def video_stream(path: Path, *options: str) -> dict[str, Any]:
    """The first video stream in ffprobe's JSON."""
    streams = ffprobe(path, *options)["streams"]
    found: dict[str, Any] = next(each for each in streams if each["codec_type"] == "video")
    return found


def key_frames(path: Path) -> list[int]:
    """Numbers of the frames that ffprobe takes for key frames; no other may be an I picture."""
    frames = ffprobe(path, "-show_frames", "-select_streams", "v:0")["frames"]
    keys = [number for number, frame in enumerate(frames) if frame["key_frame"]]
    assert keys == [number for number, frame in enumerate(frames) if frame["pict_type"] == "I"]
    return keys


def check_key_frames_are_beginnings(path: Path, keys: list[int]) -> None:
    """Fails unless each is an IDR, and a decoder that begins there shows what the film shows."""
    whole = luma_frames(path)
    with av.open(str(path)) as film:
        stream = film.streams.video[0]
        packets = [packet for packet in film.demux(stream) if packet.size]
        for key in keys:
            assert 5 in nal_types(bytes(packets[key]))
            decoder = av.CodecContext.create(stream.codec_context.name, "r")
            decoder.extradata = stream.codec_context.extradata
            assert isinstance(decoder, av.VideoCodecContext)
            shown = [frame for packet in (*packets[key:], None) for frame in decoder.decode(packet)]
            lumas = [frame.to_ndarray()[: frame.height] for frame in shown]
            assert np.array_equal(lumas, whole[key:])


def nal_types(packet: bytes) -> list[int]:
    """The types of the NAL units of an H.264 packet, as MP4 holds them; 5 is a slice of an IDR."""
    types, at = [], 0
    while at < len(packet):
        types.append(packet[at + 4] & 31)
        at += 4 + int.from_bytes(packet[at : at + 4], "big")
    return types


def complaints(path: Path) -> str:
    """What `ffmpeg -v error` has to say while it decodes everything; nothing for a sound file."""
    done = subprocess.run(
        ["ffmpeg", "-v", "error", "-i", str(path), "-f", "null", "-"], capture_output=True
    )
    return done.stderr.decode(errors="replace")


def luma_frames(path: Path) -> NDArray[np.uint8]:
    """Every luma plane as ffmpeg decodes it, shape (frames, height, width)."""
    stream = video_stream(path)
    raw = run("ffmpeg", "-v", "error", "-i", path, "-map", "0:v:0", "-fps_mode", "passthrough",
              "-f", "rawvideo", "-pix_fmt", "yuv420p", "-")  # fmt: skip
    width, height = stream["width"], stream["height"]
    frames = np.frombuffer(raw, np.uint8).reshape(-1, height * 3 // 2, width)
    return frames[:, :height]


def samples(path: Path) -> NDArray[np.float32]:
    """The sound as ffmpeg decodes it, shape (samples, channels), at its own rate."""
    stream = next(each for each in ffprobe(path)["streams"] if each["codec_type"] == "audio")
    raw = run("ffmpeg", "-v", "error", "-i", path, "-map", "0:a:0", "-f", "f32le", "-")
    return np.frombuffer(raw, np.float32).reshape(-1, stream["channels"])
