"""Tiny clips with known sound, and where bursts set in."""

from __future__ import annotations

from collections.abc import Sequence
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
from numpy.typing import NDArray

RATE_HZ = 48_000
FloatArray = NDArray[np.floating[Any]]


def bursts(
    times_s: Sequence[float], duration_s: float, *, rate_hz: int = RATE_HZ, length_s: float = 0.01
) -> FloatArray:
    """Silence with a 1 kHz burst of `length_s` at each of `times_s`, shape (samples,)."""
    samples = np.zeros(round(duration_s * rate_hz))
    tone = 0.8 * np.cos(2 * np.pi * 1000 * np.arange(round(length_s * rate_hz)) / rate_hz)
    for time_s in times_s:
        start = round(time_s * rate_hz)
        samples[start : start + len(tone)] = tone[: len(samples) - start]
    return samples


def burst_starts(samples: FloatArray, apart_s: float = 0.1) -> list[int]:
    """Where bursts set in: samples above 0.25 with none in the `apart_s` before them."""
    loud = np.flatnonzero(np.abs(samples) > 0.25)
    if not len(loud):
        return []
    first = np.flatnonzero(np.diff(loud) > apart_s * RATE_HZ) + 1
    return [int(n) for n in loud[[0, *first]]]


def sounding_clip(
    path: Path,
    channels: FloatArray,
    *,
    rate_hz: int = RATE_HZ,
    layout: str = "stereo",
    codec: str = "pcm_f32le",
    picture_start_s: Fraction | int = 0,
    sound_start_s: Fraction | int = 0,
    picture_fps: int = 5,
    packets_at: Sequence[tuple[int, int, int]] | None = None,
) -> Path:
    """Write a clip of 32x32 grey, as long as its sound, with `channels` as the sound.

    `channels`: shape (samples,) for the same in every channel of `layout`, or (channels, samples).
    `packets_at`: (pts, first, stop) per packet instead of one row of them: samples
    `[first, stop)` are stamped `pts`, in samples.
    """
    count = av.AudioLayout(layout).nb_channels
    planes = np.broadcast_to(channels, (count, channels.shape[-1])).astype(np.float32)
    duration_s = Fraction(planes.shape[1], rate_hz)
    pieces = packets_at or [
        (first, first, min(first + 1024, planes.shape[1]))
        for first in range(0, planes.shape[1], 1024)
    ]
    with av.open(str(path), "w") as container:
        video = container.add_stream("mjpeg", rate=picture_fps)
        video.width = video.height = 32
        video.pix_fmt = "yuvj420p"
        video.time_base = video.codec_context.time_base = Fraction(1, 1000)
        audio = container.add_stream(codec, rate=rate_hz, layout=layout)
        assert isinstance(audio, av.AudioStream)
        packets: list[av.Packet[Any]] = []
        grey = av.VideoFrame.from_ndarray(np.full((32, 32), 128, np.uint8), "gray")
        picture = grey.reformat(format="yuvj420p")
        picture.time_base = Fraction(1, 1000)
        for number in range(max(1, int(duration_s * picture_fps))):
            picture.pts = round((Fraction(picture_start_s) + Fraction(number, picture_fps)) * 1000)
            packets += video.encode(picture)
        packets += video.encode(None)
        for pts, first, stop in pieces:
            frame = _frame(planes[:, first:stop], audio.format.name, layout)
            frame.sample_rate, frame.time_base = rate_hz, Fraction(1, rate_hz)
            frame.pts = round(Fraction(sound_start_s) * rate_hz) + pts
            packets += audio.encode(frame)
        packets += audio.encode(None)
        container.mux(sorted(packets, key=lambda packet: (packet.dts or 0) * packet.time_base))
    return path


def _frame(planes: NDArray[np.float32], name: str, layout: str) -> av.AudioFrame:
    if name == "fltp":
        return av.AudioFrame.from_ndarray(np.ascontiguousarray(planes), name, layout)
    packed = planes.T.reshape(1, -1)
    if name == "s16":
        return av.AudioFrame.from_ndarray((packed * 32767).astype(np.int16), name, layout)
    return av.AudioFrame.from_ndarray(np.ascontiguousarray(packed), name, layout)
