"""What the ffmpeg and ffprobe programs say of a file: witnesses that share no code with us."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path
from typing import Any

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
