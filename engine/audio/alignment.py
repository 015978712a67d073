"""Decides where decoded sound lies on the 48 kHz grid. Opens no file.

Time stamps decide, never counting: damage and gaps become silence, and shift nothing that follows.
But single time stamps are not exact. Containers round them, browsers and phones write uneven ones,
and a transport stream has one for many frames. So sound goes on sample by sample as long as time
stamps do not disagree for `LASTING`:

    they are a little off           it goes on
    they are off for a moment       it goes on
    they step away and stay there   it starts at the new place: a gap, or sound that comes twice
    they drift away                 it is stretched by at most 0.5 % until they fit again
"""

from __future__ import annotations

from collections import deque
from collections.abc import Generator, Iterable, Iterator, Sequence
from fractions import Fraction
from itertools import islice
from statistics import mean, median
from typing import NamedTuple, TypeAlias

import av
import numpy as np
from av.audio.resampler import AudioResampler
from numpy.typing import NDArray

from engine.timing import SAMPLE_RATE_HZ, round_half_up

Stereo: TypeAlias = NDArray[np.float32]
"""Planar left and right, shape (2, samples), nominally within ±1."""

JITTER = SAMPLE_RATE_HZ // 100
"""Time stamps that are off by up to 10 ms are right."""

LASTING = SAMPLE_RATE_HZ * 3 // 10
"""Time stamps that disagree for less than 300 ms are jitter."""

_ROUNDING = SAMPLE_RATE_HZ // 500
"""Time stamps differ by up to 2 ms because containers round them."""

_LASTING_FRAMES = 4
_MUCH = SAMPLE_RATE_HZ // 10
"""So are those that disagree for fewer frames, unless it is by 100 ms."""

_LONGEST_DRIFT = 4 * JITTER
"""Sound that is further off starts at the new place, however it got there."""

_DISTRUSTED = SAMPLE_RATE_HZ
"""For 1 s after a change of format, time stamps move nothing. A demuxer that has one for many
frames makes the others up, from the duration that a frame had before the change."""

_GLIDE = 200
"""One sample in 200, 0.5 %, is added or left out: a twelfth of a semitone."""


class TimedFrame(NamedTuple):
    """A decoded frame."""

    frame: av.AudioFrame
    position: int | None
    """Its first sample by its time stamp, at 48 kHz; None where it has none."""
    after_damage: bool
    """Data before it could not be decoded."""

    @property
    def length(self) -> int:
        """In samples at 48 kHz, rounded."""
        return self.frame.samples * SAMPLE_RATE_HZ // self.frame.sample_rate


class SoundBlock(NamedTuple):
    """Samples `[start, stop)` of a source."""

    start: int
    samples: Stereo
    after_damage: bool = False

    @property
    def stop(self) -> int:
        """The sample after the last one."""
        return self.start + int(self.samples.shape[1])

    def within(self, start: int, stop: int) -> SoundBlock:
        """The part in `[start, stop)`; an empty block at `start` where there is none."""
        first, last = max(start, self.start), min(stop, self.stop)
        if first >= last:
            return SoundBlock(start, self.samples[:, :0], self.after_damage)
        part = self.samples[:, first - self.start : last - self.start]
        return SoundBlock(first, part, self.after_damage)


def aligned(frames: Iterable[TimedFrame], first_position: int) -> Generator[SoundBlock]:
    """The frames' samples as 48 kHz stereo, in order. Blocks may leave gaps and overlap.

    `first_position` is where sound without time stamps begins.
    """
    run: _Run | None = None
    before: deque[int] = deque(maxlen=_LASTING_FRAMES)  # how far off the last frames were
    distrusted_until = 0
    for window in _windows(frames):
        head = window[0]
        if run is None:
            run = _Run(head.frame, _beginning(window, first_position))
        elif run.format != _format_of(head.frame):
            yield from run.blocks(None)
            run = _Run(head.frame, round_half_up(run.expected))
            distrusted_until = run.start + _DISTRUSTED
        expected = round_half_up(run.expected)
        offsets = _offsets(window, expected)
        off = _lasting_offset(offsets)
        if off and expected >= distrusted_until:
            drifted = abs(off - (median(before) if before else 0)) <= JITTER
            if drifted and abs(off) <= _LONGEST_DRIFT:
                run.glide(off)
            else:
                yield from run.blocks(None)
                run = _Run(head.frame, expected + off)
                before.clear()
                offsets = []
        before.extend(islice(offsets, head.position is not None))
        yield from run.blocks(head.frame, after_damage=head.after_damage)
    if run is not None:
        yield from run.blocks(None)


def _windows(frames: Iterable[TimedFrame]) -> Iterator[Sequence[TimedFrame]]:
    """Each frame with those after it that a decision about it needs."""
    window: deque[TimedFrame] = deque()
    length = 0
    for timed in frames:
        window.append(timed)
        length += timed.length
        while len(window) >= _LASTING_FRAMES and length >= LASTING:
            yield window
            length -= window.popleft().length
    while window:
        yield window
        window.popleft()


def _offsets(window: Sequence[TimedFrame], expected: int) -> list[int]:
    """How far the time stamps are from where the frames would go on; late is positive."""
    found = []
    for timed in window:
        if timed.position is not None:
            found.append(timed.position - expected)
        expected += timed.length
    return found


def _lasting_offset(offsets: Sequence[int]) -> int:
    """How far off all of these agree to be, 0 where they do not."""
    if not offsets or (len(offsets) < _LASTING_FRAMES and abs(offsets[0]) < _MUCH):
        return 0
    agree = min(offsets) > JITTER or max(offsets) < -JITTER
    return int(median(offsets[:_LASTING_FRAMES])) if agree else 0


def _beginning(window: Sequence[TimedFrame], first_position: int) -> int:
    """Where the first frame lies: by its own time stamp, or by their mean where they are uneven."""
    offsets = _offsets(window, 0)
    if not offsets:
        return first_position
    uneven = max(offsets) - min(offsets) > _ROUNDING
    off = round(mean(offsets)) - offsets[0]
    return offsets[0] + (off if uneven and abs(off) <= _LONGEST_DRIFT else 0)


class _Run:
    """Frames of one format that follow each other, resampled as one signal.

    The resampler's first sample is at the position of the first frame's first sample: swresample
    compensates its own delay. Mono goes to both sides at full level. More than two channels are
    mixed down as in ITU-R BS.775 (centre and surrounds 3 dB down, no LFE), scaled so that full
    scale in all channels at once does not clip.
    """

    def __init__(self, frame: av.AudioFrame, start: int) -> None:
        self.format = _format_of(frame)
        self.start = start
        self.expected = Fraction(start)
        """Where the next frame goes on."""
        self._written = start
        self._glide = 0
        layout = "mono" if frame.layout.nb_channels == 1 else "stereo"
        options = {"rematrix_maxval": "1"}
        self._resampler = AudioResampler("fltp", layout, SAMPLE_RATE_HZ, options=options)

    def glide(self, samples: int) -> None:
        """From now on, adds so many samples, or leaves them out, a few at a time."""
        self._glide = samples

    def blocks(
        self, frame: av.AudioFrame | None, *, after_damage: bool = False
    ) -> Iterator[SoundBlock]:
        """The resampler's output for one more frame; None drains it."""
        if frame is not None:
            self.expected += Fraction(frame.samples * SAMPLE_RATE_HZ, frame.sample_rate)
        out: Iterable[av.AudioFrame | None] = self._resampler.resample(frame)
        for resampled in out:
            if resampled is None:  # draining returns None where nothing had to be converted
                continue
            samples = self._stretched(resampled.to_ndarray().astype(np.float32, copy=False))
            samples = np.broadcast_to(samples, (2, samples.shape[1]))
            block = SoundBlock(self._written, samples, after_damage)
            self._written = block.stop
            yield block

    def _stretched(self, samples: Stereo) -> Stereo:
        count = samples.shape[1]
        more = min(max(self._glide, -(count // _GLIDE)), count // _GLIDE)
        if not more:
            return samples
        self._glide -= more
        self.expected += more
        places = np.linspace(0, count - 1, count + more)
        stretched = [np.interp(places, np.arange(count), channel) for channel in samples]
        return np.array(stretched, np.float32)


def _format_of(frame: av.AudioFrame) -> tuple[str, str, int]:
    return frame.format.name, frame.layout.name, frame.sample_rate
