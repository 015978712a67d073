"""Tiny synthetic clips that say which frame is which.

Every frame carries its number as sixteen big black or white blocks (four by four: two that are
always white and black, then fourteen bits), which survive lossy coding and scaling. The number is
the frame's index in presentation order, whatever its timestamp.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from fractions import Fraction
from pathlib import Path
from typing import Any, Literal

import av
import numpy as np
from numpy.typing import NDArray

GRID = 4
BITS = GRID * GRID - 2
WHITE, BLACK = 235, 16
BURST_HZ, BURST_S, SOUND_RATE_HZ = 1000, Fraction(1, 20), 48_000
MPEG_TICKS_HZ = 90_000


def painted(number: int, size: tuple[int, int]) -> NDArray[np.uint8]:
    """The luma of frame `number`, 8-bit limited range, shape (height, width)."""
    if not 0 <= number < 1 << BITS:
        raise ValueError(f"{number} does not fit {BITS} bits")
    width, height = size
    bits = [True, False, *(bool(number >> bit & 1) for bit in reversed(range(BITS)))]
    cells = np.where(np.array(bits).reshape(GRID, GRID), WHITE, BLACK).astype(np.uint8)
    rows, columns = np.arange(height) * GRID // height, np.arange(width) * GRID // width
    return cells[np.ix_(rows, columns)]


def read_number(luma: NDArray[Any]) -> int:
    """The number painted into an upright luma plane of any size, range and bit depth.

    Raises ValueError where the two reference blocks are not white and black.
    """
    height, width = luma.shape
    cells = np.array(
        [
            [
                luma[
                    (4 * row + 1) * height // 16 : (4 * row + 3) * height // 16,
                    (4 * column + 1) * width // 16 : (4 * column + 3) * width // 16,
                ].mean()
                for column in range(GRID)
            ]
            for row in range(GRID)
        ]
    ).reshape(-1)
    white, black = cells[:2]
    if white - black < 40:
        raise ValueError(f"no number: the reference blocks are {white:.0f} and {black:.0f}")
    bits = cells[2:] > (white + black) / 2
    return int(sum(1 << (BITS - 1 - index) for index in np.flatnonzero(bits)))


def numbered_clip(
    path: Path,
    frames: int,
    fps: Fraction | int = 30,
    size: tuple[int, int] = (160, 96),
    *,
    pts: Sequence[Fraction | float] | None = None,
    gop: int = 12,
    codec: str = "libx264",
    pix_fmt: str = "yuv420p",
    sound: Literal["bursts"] | None = None,
    options: Mapping[str, str] | None = None,
    container_options: Mapping[str, str] | None = None,
    tags: Mapping[str, int] | None = None,
) -> Path:
    """Write `frames` numbered frames; the container follows the suffix of `path`.

    `pts`: seconds at which each frame is shown (ascending; may start anywhere), instead of
    `index / fps`. `sound="bursts"`: 1 kHz for 50 ms from every whole second on, stereo, as long as
    the picture. `tags`: attributes of the codec context (`colorspace`, `color_range`, ...).
    """
    rate = Fraction(fps)
    shown_s = [Fraction(second) for second in pts] if pts else [n / rate for n in range(frames)]
    time_base = 1 / rate if pts is None else Fraction(1, MPEG_TICKS_HZ)
    ticks = [round(second / time_base) for second in shown_s]
    last_step = ticks[-1] - ticks[-2] if pts and frames > 1 else round(1 / rate / time_base)
    duration = dict(zip(ticks, [*np.diff(ticks).tolist(), last_step], strict=True))
    with av.open(str(path), "w", options=dict(container_options or {})) as container:
        given = {"sc_threshold": "0"} if codec == "libx264" else {}  # no key frames by chance
        stream = container.add_stream(codec, rate=rate, options={**given, **(options or {})})
        assert isinstance(stream, av.VideoStream)
        stream.width, stream.height = size
        stream.pix_fmt = pix_fmt
        context = stream.codec_context
        context.time_base, context.gop_size, context.thread_count = time_base, gop, 1
        for name, value in (tags or {}).items():
            setattr(context, name, value)
        voice = _sound_stream(container, path) if sound else None
        packets = []
        for number, tick in enumerate(ticks):
            frame = frame_of(painted(number, size), pix_fmt)
            frame.pts, frame.time_base = tick, time_base
            packets += stream.encode(frame)
        packets += stream.encode(None)
        if voice:
            end_s = (ticks[-1] + last_step) * time_base
            packets += _bursts(voice, shown_s[0], end_s)
        for packet in packets:
            if packet.stream is stream and packet.pts is not None:
                packet.duration = duration[packet.pts]
        packets.sort(key=lambda packet: (packet.dts or 0) * packet.time_base)
        container.mux(packets)
    return path


def frame_of(luma: NDArray[np.uint8], pix_fmt: str) -> av.VideoFrame:
    frame = av.VideoFrame.from_ndarray(luma, "gray")
    if pix_fmt != "gray":  # FFmpeg takes grey for full range; the values stay only without a change
        frame = frame.reformat(format=pix_fmt, src_color_range=2, dst_color_range=2)
        frame.color_range = 0
    return frame


def burst_samples(start_s: Fraction, end_s: Fraction) -> NDArray[np.float32]:
    """The sound of `sound="bursts"` from `start_s` to `end_s`, shape (samples,), 48 kHz."""
    first, last = (round(second * SOUND_RATE_HZ) for second in (start_s, end_s))
    index = np.arange(first, last)
    since = index % SOUND_RATE_HZ
    tone = 0.5 * np.sin(2 * np.pi * BURST_HZ * since / SOUND_RATE_HZ)
    return np.where(since < int(BURST_S * SOUND_RATE_HZ), tone, 0).astype(np.float32)


def _sound_stream(container: av.container.OutputContainer, path: Path) -> av.AudioStream:
    codec = {".avi": "pcm_s16le", ".mov": "pcm_s16le", ".webm": "libopus"}.get(path.suffix, "aac")
    stream = container.add_stream(codec, rate=SOUND_RATE_HZ, layout="stereo")
    assert isinstance(stream, av.AudioStream)
    return stream


def _bursts(
    stream: av.AudioStream, start_s: Fraction, end_s: Fraction
) -> list[av.Packet[av.AudioStream]]:
    mono = burst_samples(start_s, end_s)
    frame = av.AudioFrame.from_ndarray(np.stack([mono, mono]), "fltp", "stereo")
    frame.sample_rate, frame.time_base = SOUND_RATE_HZ, Fraction(1, SOUND_RATE_HZ)
    frame.pts = round(start_s * SOUND_RATE_HZ)
    return [*stream.encode(frame), *stream.encode(None)]
