"""Reads one source's sound as 48 kHz stereo samples at exact positions. Knows no span and no tempo.

Sample n is heard n / 48000 s after the source's first video frame is shown, whatever the container
says. Positions come from timestamps, never from counting decoded samples. So damage and gaps become
silence, and shift nothing that follows.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Generator, Iterator
from contextlib import ExitStack
from fractions import Fraction
from itertools import chain
from typing import NamedTuple

import av
import numpy as np

from engine.audio.alignment import JITTER, SoundBlock, Stereo, TimedFrame, aligned
from engine.errors import SourceError
from engine.media.container import (
    is_damage,
    open_container,
    packets_of,
    source_errors,
    time_base_of,
)
from engine.media.sound_track import sound_stream
from engine.source import SourceInfo
from engine.storage.cached_store import cached
from engine.storage.objects import ObjectReader
from engine.timing import SAMPLE_RATE_HZ, round_half_up

HISTORY = SAMPLE_RATE_HZ
"""How far a read may start before the start of an earlier read, in samples."""

_PREROLL_S = Fraction(1)
"""Decoded and dropped before the first sample wanted: more than any decoder needs to settle
(AAC 43 ms, Opus 80 ms, MP3 a few hundred ms)."""

_LOUDEST = 1000
"""Samples beyond 60 dB above full scale are damage. Encoders refuse them."""

_INTERLEAVED_S = 1
"""In a transport stream, sound lies up to this far behind the picture of the same time."""

_SEEKS_BY_TIME = {"mov", "matroska"}
"""Containers in which sound is found by itself, wherever the picture's key frames are."""

_ONE_RUN = 2 * SAMPLE_RATE_HZ
"""Silent stretches that are no further apart are told in one warning."""

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
        store: ObjectReader | None = None,
    ) -> None:
        self._location = source.location
        self._on_warning = on_warning
        self._start, self._stop = start, stop
        self._decoded_until = self._dropped_until = start
        self._buffered: deque[SoundBlock] = deque()
        self._decoder = _Decoder(source, start, store)
        self._blocks = self._decoder.blocks()
        self._has_started = self._warned_of_overlap = False
        self._silences = _Silences(self._warn)

    def read(self, start: int, stop: int) -> Stereo:
        """The samples of `[start, stop)`, shape (2, stop - start), float32, a copy.

        Raises SourceError, and ValueError for a start that is more than `HISTORY` before that of an
        earlier read.
        """
        if max(start, self._start) < self._dropped_until:
            raise ValueError(f"sample {start} is no longer buffered")
        with source_errors(self._location, "its sound cannot be decoded"):
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
        self._silences.tell()
        self._blocks.close()

    def _take_block(self, block: SoundBlock | None) -> None:
        """Buffers the new and wanted part of the next decoded block; None ends the sound."""
        if block is None:
            self._report_silence(self._stop, _SHORT_END, after_damage=self._decoder.damaged)
            self._silences.tell()
            self._decoded_until = self._stop
            return
        if block.start > self._decoded_until:
            # sound that starts late is not a fault
            tolerated = JITTER if self._has_started else self._stop
            until = min(block.start, self._stop)
            self._report_silence(until, tolerated, after_damage=block.after_damage)
        elif self._start < self._decoded_until > block.start + JITTER:
            self._report_overlap(block.start)
        self._has_started = True
        wanted = block.within(self._decoded_until, self._stop)
        if wanted.samples.size:
            self._buffered.append(self._finite(wanted))
        self._decoded_until = max(self._decoded_until, min(block.stop, self._stop))

    def _finite(self, block: SoundBlock) -> SoundBlock:
        sound = np.abs(block.samples) <= _LOUDEST  # false for what is not a number, too
        if sound.all():
            return block
        self._silences.add(block.start, block.stop, "damaged")
        return SoundBlock(block.start, np.where(sound, block.samples, np.float32(0)))

    def _report_silence(self, until: int, tolerated: int, *, after_damage: bool) -> None:
        start = self._decoded_until
        if start < until and (after_damage or until - start > tolerated):
            self._silences.add(start, until, "damaged" if after_damage else "missing")

    def _report_overlap(self, start: int) -> None:
        if not self._warned_of_overlap:
            self._warned_of_overlap = True
            self._warn(start, self._decoded_until, "sound comes twice, heard the first time")

    def _warn(self, start: int, stop: int, what: str) -> None:
        start_s, stop_s = start / SAMPLE_RATE_HZ, stop / SAMPLE_RATE_HZ
        self._on_warning(f"{self._location}: {start_s:.3f} to {stop_s:.3f} s: {what}")


class _Silences:
    """Silent stretches of one kind that follow each other closely: one warning for all of them."""

    def __init__(self, warn: Callable[[int, int, str], None]) -> None:
        self._warn = warn
        self._kind = ""
        self._stretches: list[tuple[int, int]] = []

    def add(self, start: int, stop: int, kind: str) -> None:
        """One more stretch of samples `[start, stop)`; `kind` says what the sound is there."""
        if self._stretches and (kind != self._kind or start - self._stretches[-1][1] > _ONE_RUN):
            self.tell()
        self._kind = kind
        self._stretches.append((start, stop))

    def tell(self) -> None:
        """Warns of the stretches since the last warning."""
        if not self._stretches:
            return
        start, stop = self._stretches[0][0], self._stretches[-1][1]
        places = f"is {self._kind}"
        if len(self._stretches) > 1:
            total_s = sum(stop - start for start, stop in self._stretches) / SAMPLE_RATE_HZ
            places += f" in {len(self._stretches)} places, {total_s:.3f} s in all"
        self._stretches = []
        self._warn(start, stop, f"sound {places}, silent there")


class _Seek(NamedTuple):
    """A place to seek to: a time of the file, or a byte."""

    at_s: Fraction = Fraction(0)
    at_byte: int | None = None


class _Decoder:
    """Decodes a source's sound from sample `start` or earlier on.

    `damaged`: data before the next block could not be decoded.
    """

    def __init__(self, source: SourceInfo, start: int, store: ObjectReader | None) -> None:
        if source.sound is None:
            raise ValueError(f"{source.location} has no sound")
        self._location = source.location
        self._store = cached(store)  # the file may be opened more than once
        self._sound = source.sound
        self._origin_s = source.sound.origin_s
        self._source = source
        self._start = start
        self._clock = _Clock(source.clock_shifts_s)
        self.damaged = False

    def blocks(self) -> Generator[SoundBlock]:
        """48 kHz stereo in the order of the file; blocks may leave gaps and overlap."""
        frames = self._frames_after_seek() or self._frames(None)
        yield from aligned(self._timed(frames), self._first_position())

    def _frames_after_seek(self) -> Iterator[av.AudioFrame] | None:
        """Frames from `start` or earlier on; None where only the file's beginning can be trusted.

        Files seek to another place without an error. So the first timestamp decides.
        """
        seek_s = Fraction(self._start, SAMPLE_RATE_HZ) - _PREROLL_S
        seek = self._seek_to(seek_s)
        if seek is None or seek_s <= max(self._sound.start_s, Fraction(0)):
            return None
        frames = self._frames(seek)
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

    def _seek_to(self, time_s: Fraction) -> _Seek | None:
        """How to seek to a time; None where a file cannot."""
        source = self._source
        if source.clock_shifts_s:
            return None
        if source.keyframe_bytes is not None:
            early = source.frame_pts[0] + (time_s - _INTERLEAVED_S) // source.time_base
            place = int(np.searchsorted(source.keyframe_pts, early, side="right")) - 1
            return _Seek(at_byte=int(source.keyframe_bytes[place])) if place >= 0 else None
        by_time = source.container in _SEEKS_BY_TIME or len(source.keyframe_pts) > 0
        return _Seek(at_s=time_s + self._origin_s) if by_time else None

    def _frames(self, seek: _Seek | None) -> Generator[av.AudioFrame]:
        with ExitStack() as files:
            container = files.enter_context(open_container(self._location, self._store))
            stream = sound_stream(container, self._location, self._sound)
            if stream is None:
                searched = open_container(self._location, self._store, late_streams=True)
                container = files.enter_context(searched)
                stream = sound_stream(container, self._location, self._sound)
            if stream is None:
                raise SourceError(self._location, "has lost its sound since it was probed")
            if seek is not None and seek.at_byte is not None:
                container.seek(seek.at_byte, unsupported_byte_offset=True)
            elif seek is not None:
                by = self._sought_by(container, stream)
                container.seek(seek.at_s // time_base_of(by), stream=by)
            for packet in self._packets(container, stream):
                try:
                    yield from packet.decode()
                except av.FFmpegError:
                    self.damaged = True

    def _sought_by(
        self, container: av.container.InputContainer, stream: av.AudioStream
    ) -> av.stream.Stream:
        """Matroska's index lists the picture's key frames: sound itself is sought by reading."""
        by_picture = self._source.container == "matroska" and len(self._source.keyframe_pts) > 0
        return (container.streams.best("video") if by_picture else None) or stream

    def _packets(
        self, container: av.container.InputContainer, stream: av.AudioStream
    ) -> Iterator[av.Packet[av.AudioStream]]:
        try:
            yield from packets_of(container, stream)
        except av.FFmpegError as error:
            if not is_damage(error):
                raise SourceError(self._location, f"cannot be read: {error.strerror}") from error
            self.damaged = True

    def _timed(self, frames: Iterator[av.AudioFrame]) -> Iterator[TimedFrame]:
        for frame in frames:
            if frame.sample_rate < 1 or not frame.samples:
                self.damaged = True
                continue
            position = self._position(frame)
            after_damage, self.damaged = self.damaged, False
            yield TimedFrame(frame, position, after_damage)

    def _position(self, frame: av.AudioFrame) -> int | None:
        """The frame's first sample by its timestamp; None where it has none."""
        if frame.pts is None or frame.time_base is None:
            return None
        written_s = frame.pts * frame.time_base
        time_s = written_s + self._clock.shift_s(written_s)
        self._clock.advance(time_s + Fraction(frame.samples, frame.sample_rate))
        return round_half_up((time_s - self._origin_s) * SAMPLE_RATE_HZ)

    def _first_position(self) -> int:
        return round_half_up(self._sound.start_s * SAMPLE_RATE_HZ)


class _Clock:
    """Follows a file's clock where it jumps, by what the picture has shown: `clock_shifts_s`.

    Sound jumps near the place where the picture does, before or after it in the file. So the next
    clock is taken when a time stamp goes on in it better than in the one before.
    """

    def __init__(self, shifts_s: tuple[Fraction, ...]) -> None:
        self._shifts_s = deque(shifts_s)
        self._shift_s = Fraction(0)
        self._goes_on_s: Fraction | None = None

    def shift_s(self, written_s: Fraction) -> Fraction:
        """What to add to a time that is written in the file."""
        while self._shifts_s and self._goes_on_s is not None:
            off_s = abs(written_s + self._shift_s - self._goes_on_s)
            if abs(written_s + self._shifts_s[0] - self._goes_on_s) >= off_s:
                break
            self._shift_s = self._shifts_s.popleft()
        return self._shift_s

    def advance(self, goes_on_s: Fraction) -> None:
        """The time at which the sound goes on, on one clock."""
        self._goes_on_s = goes_on_s
