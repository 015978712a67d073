"""Reads one source's sound as 48 kHz stereo samples at exact positions. Knows no span and no tempo.

Sample n is heard n / 48000 s after the source's first video frame is shown, whatever the container
says. Positions come from timestamps, never from counting decoded samples. So damage and gaps become
silence, and shift nothing that follows.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator
from fractions import Fraction
from itertools import chain
from typing import NamedTuple

import av
import numpy as np
from av.audio.resampler import AudioResampler
from av.stream import Discard
from numpy.typing import NDArray

from engine.errors import SourceError
from engine.media.container import open_container
from engine.source import SourceInfo
from engine.storage.objects import Store
from engine.timing import SAMPLE_RATE_HZ, round_half_up

Stereo = NDArray[np.float32]
"""Planar left and right, shape (2, samples), nominally within ±1."""

HISTORY = SAMPLE_RATE_HZ
"""How far a read may start before the start of an earlier read, in samples."""

_PREROLL_S = Fraction(1)
"""Decoded and dropped before the first sample wanted: more than any decoder needs to settle
(AAC 43 ms, Opus 80 ms, MP3 a few hundred ms)."""

_JITTER = SAMPLE_RATE_HZ // 100
"""Containers round timestamps (Matroska to 1 ms) and phones write uneven ones. A timestamp up to
10 ms off is ignored: the sound goes on sample by sample. A larger gap, such as a lost frame, gives
the sound a new position."""

_SHORT_END = SAMPLE_RATE_HZ // 2
"""Sound often ends a little before the picture; only more than 0.5 s gets a warning."""


class SoundReader:
    """Reads a source's sound within samples `[start, stop)`; outside that range it is silent.

    Memory is bounded by one read and `HISTORY`, whatever the length. `on_warning` is given one line
    for each stretch that is missing or damaged. The first read opens the file, or the object in
    `store`. Raises ValueError for a source without sound.
    """

    def __init__(
        self,
        source: SourceInfo,
        start: int,
        stop: int,
        *,
        on_warning: Callable[[str], None],
        store: Store | None = None,
    ) -> None:
        self._location = source.location
        self._on_warning = on_warning
        self._start, self._stop = start, stop
        self._decoded_until = self._dropped_until = start
        self._buffered: deque[_Block] = deque()
        self._decoder = _Decoder(source, start, store)
        self._blocks = self._decoder.blocks()
        self._has_started = self._warned_of_overlap = False

    def read(self, start: int, stop: int) -> Stereo:
        """The samples of `[start, stop)`, shape (2, stop - start), float32, a copy.

        Raises SourceError, and ValueError for a start that is more than `HISTORY` before that of an
        earlier read.
        """
        if max(start, self._start) < self._dropped_until:
            raise ValueError(f"sample {start} is no longer buffered")
        while self._decoded_until < min(stop, self._stop):
            self._take_block(next(self._blocks, None))
        while self._buffered and self._buffered[0].stop <= start - HISTORY:
            self._dropped_until = self._buffered.popleft().stop
        samples = np.zeros((2, stop - start), np.float32)
        for block in self._buffered:
            shared = block.within(start, stop)
            samples[:, shared.start - start : shared.stop - start] = shared.samples
        return samples

    def close(self) -> None:
        """Closes the file. Nothing can be read afterwards."""
        self._blocks.close()

    def _take_block(self, block: _Block | None) -> None:
        """Buffers the new and wanted part of the next decoded block; None ends the sound."""
        if block is None:
            self._report_silence(self._stop, _SHORT_END)
            self._decoded_until = self._stop
            return
        if block.start > self._decoded_until:
            # sound that starts late is not a fault
            tolerated = _JITTER if self._has_started else self._stop
            self._report_silence(min(block.start, self._stop), tolerated)
        elif self._start < self._decoded_until > block.start + _JITTER:
            self._report_overlap(block.start)
        self._has_started = True
        wanted = block.within(self._decoded_until, self._stop)
        if wanted.samples.size:
            self._buffered.append(self._finite(wanted))
        self._decoded_until = max(self._decoded_until, min(block.stop, self._stop))

    def _finite(self, block: _Block) -> _Block:
        if np.isfinite(block.samples).all():
            return block
        self._warn(block.start, block.stop, "sound is not a number in places, silent there")
        return _Block(block.start, np.nan_to_num(block.samples, nan=0, posinf=0, neginf=0))

    def _report_silence(self, until: int, tolerated: int) -> None:
        if self._decoder.damaged:
            self._warn(self._decoded_until, until, "sound is damaged, silent there")
        elif until - self._decoded_until > tolerated:
            self._warn(self._decoded_until, until, "sound is missing, silent there")

    def _report_overlap(self, start: int) -> None:
        if not self._warned_of_overlap:
            self._warned_of_overlap = True
            self._warn(start, self._decoded_until, "sound comes twice, heard the first time")

    def _warn(self, start: int, stop: int, what: str) -> None:
        start_s, stop_s = start / SAMPLE_RATE_HZ, stop / SAMPLE_RATE_HZ
        self._on_warning(f"{self._location}: {start_s:.3f} to {stop_s:.3f} s: {what}")


class _Block(NamedTuple):
    """Samples `[start, stop)` of a source."""

    start: int
    samples: Stereo

    @property
    def stop(self) -> int:
        return self.start + int(self.samples.shape[1])

    def within(self, start: int, stop: int) -> _Block:
        """The part in `[start, stop)`; an empty block at `start` where there is none."""
        first, last = max(start, self.start), min(stop, self.stop)
        if first >= last:
            return _Block(start, self.samples[:, :0])
        return _Block(first, self.samples[:, first - self.start : last - self.start])


class _Decoder:
    """Decodes a source's sound from sample `start` or earlier on.

    `damaged`: data before the next block could not be decoded.
    """

    def __init__(self, source: SourceInfo, start: int, store: Store | None) -> None:
        if source.sound is None:
            raise ValueError(f"{source.location} has no sound")
        self._location = source.location
        self._store = store
        self._sound = source.sound
        self._origin_s: Fraction = int(source.frame_pts[0]) * source.time_base
        self._seekable = len(source.keyframe_pts) > 0
        self._start = start
        self.damaged = False

    def blocks(self) -> Generator[_Block]:
        """48 kHz stereo in the order of the file; blocks may leave gaps and overlap."""
        yield from self._positioned(self._frames_after_seek() or self._frames(None))

    def _frames_after_seek(self) -> Iterator[av.AudioFrame] | None:
        """Frames from `start` or earlier on; None where only the file's beginning can be trusted.

        MPEG-TS and files without an index seek to another place without an error. So the first
        timestamp decides.
        """
        seek_s = Fraction(self._start, SAMPLE_RATE_HZ) - _PREROLL_S
        if not self._seekable or seek_s <= max(self._sound.start_s, Fraction(0)):
            return None
        frames = self._frames(seek_s)
        try:
            first = next(frames, None)
        except av.FFmpegError:  # a container that does not seek
            first = None
        position = None if first is None else self._position(first)
        if first is None or position is None or position > self._start - SAMPLE_RATE_HZ // 2:
            frames.close()
            self.damaged = False
            return None
        return chain([first], frames)

    def _frames(self, seek_s: Fraction | None) -> Generator[av.AudioFrame]:
        with open_container(self._location, self._store) as container:
            stream = container.streams[self._sound.stream_index]
            if not isinstance(stream, av.AudioStream):
                raise SourceError(self._location, f"stream {stream.index} is not sound")
            for other in container.streams:
                other.discard = Discard.default if other is stream else Discard.all
            assert stream.time_base is not None
            if seek_s is not None:
                ticks = (seek_s + self._origin_s) // stream.time_base
                container.seek(ticks, stream=stream)
            for packet in self._packets(container, stream):
                try:
                    yield from packet.decode()
                except av.FFmpegError:
                    self.damaged = True

    def _packets(
        self, container: av.container.InputContainer, stream: av.AudioStream
    ) -> Iterator[av.Packet[av.AudioStream]]:
        try:
            yield from container.demux(stream)
        except av.InvalidDataError:
            self.damaged = True
        except av.FFmpegError as error:
            raise SourceError(self._location, f"cannot be read: {error.strerror}") from error

    def _positioned(self, frames: Iterator[av.AudioFrame]) -> Generator[_Block]:
        run: _ResampledRun | None = None
        for frame in frames:
            position = self._position(frame)
            if run is None or not run.continues_with(frame, position):
                if run is not None:
                    yield from run.blocks(None)
                run = _ResampledRun(frame, self._first_position() if position is None else position)
            yield from run.blocks(frame)
            self.damaged = False
        if run is not None:
            yield from run.blocks(None)

    def _position(self, frame: av.AudioFrame) -> int | None:
        """The frame's first sample by its timestamp; None where it has none."""
        if frame.pts is None or frame.time_base is None:
            return None
        return round_half_up((frame.pts * frame.time_base - self._origin_s) * SAMPLE_RATE_HZ)

    def _first_position(self) -> int:
        return round_half_up(self._sound.start_s * SAMPLE_RATE_HZ)


class _ResampledRun:
    """Frames of one format that follow each other without a gap, resampled as one signal.

    The resampler's first sample is at the position of the first frame's first sample: swresample
    compensates its own delay. Mono goes to both sides at full level. More than two channels are
    mixed down as in ITU-R BS.775 (centre and surrounds 3 dB down, no LFE), scaled so that full
    scale in all channels at once does not clip.
    """

    def __init__(self, frame: av.AudioFrame, position: int) -> None:
        self._format = _format_of(frame)
        self._start = self._written = position
        self._frame_samples = 0
        layout = "mono" if frame.layout.nb_channels == 1 else "stereo"
        options = {"rematrix_maxval": "1"}
        self._resampler = AudioResampler("fltp", layout, SAMPLE_RATE_HZ, options=options)

    def continues_with(self, frame: av.AudioFrame, position: int | None) -> bool:
        """Whether a frame at `position` (None where it has no timestamp) belongs to this run."""
        expected = self._start + self._frame_samples * SAMPLE_RATE_HZ // frame.sample_rate
        near = position is None or abs(position - expected) <= _JITTER
        return near and _format_of(frame) == self._format

    def blocks(self, frame: av.AudioFrame | None) -> Iterator[_Block]:
        """The resampler's output for one more frame; None drains it."""
        self._frame_samples += frame.samples if frame else 0
        out: Iterable[av.AudioFrame | None] = self._resampler.resample(frame)
        for resampled in out:
            if resampled is None:  # draining returns None where nothing had to be converted
                continue
            samples = resampled.to_ndarray()
            block = _Block(self._written, np.broadcast_to(samples, (2, samples.shape[1])))
            self._written = block.stop
            yield block


def _format_of(frame: av.AudioFrame) -> tuple[str, str, int]:
    return frame.format.name, frame.layout.name, frame.sample_rate
