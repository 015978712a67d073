"""Mixes the sound track of an export: decodes, retimes, ramps and sums every span, encodes once.

Works in blocks from end to end, so memory does not grow with the length of the track or of a span.
Knows no edit and no picture: the spans say on the 48 kHz grid what is heard when.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Generator, Iterable, Sequence
from contextlib import closing
from dataclasses import dataclass
from fractions import Fraction
from itertools import pairwise
from pathlib import Path

import av
import numpy as np
from numpy.typing import NDArray

from engine.audio.alignment import Stereo
from engine.audio.reader import SoundReader
from engine.audio.time_stretch import stretch_blocks
from engine.errors import EncoderError
from engine.files import file_url, whole_file
from engine.soundtrack import Ramp, SoundSpan, TempoPiece
from engine.source import SourceInfo
from engine.storage.objects import ObjectReader
from engine.timing import SAMPLE_RATE_HZ, round_half_up

BIT_RATE = 192_000
"""Bits per second of the AAC-LC track."""

_BLOCK = 8192
"""Samples that are mixed and encoded at a time."""

_JOIN = 120
"""Half the crossfade between two pieces of a clip, in samples: 2.5 ms to either side."""


def write_sound(
    spans: Sequence[SoundSpan],
    sources: Sequence[SourceInfo],
    sample_count: int,
    destination: Path,
    *,
    on_warning: Callable[[str], None],
    on_step: Callable[[], None],
    store: ObjectReader | None = None,
) -> None:
    """Mixes `spans` and writes them as an MP4 file with one AAC-LC 48 kHz stereo track.

    `spans` are in order of their start; `span.clip` indexes `sources`. The track has exactly
    `sample_count` samples: the edit list skips the encoder's priming, so that sample 0 is presented
    at 0, and ends the track at the exact sample. Equal input gives equal bytes.

    `store` holds the sources that are objects. `on_warning` gets one line, naming clip, file and
    time, for sound that is missing or damaged. `on_step` is called now and then and may raise to
    stop. `destination` appears whole or not at all. Raises SourceError, EncoderError, OutputError,
    ValueError for less than one sample.
    """
    try:
        with whole_file(destination) as unfinished:
            encode_sound(
                sound_blocks(spans, sources, sample_count, on_warning, store), unfinished, on_step
            )
    except av.FFmpegError as error:
        raise EncoderError(f"{destination}: sound cannot be written: {error.strerror}") from error


def encode_sound(
    blocks: Generator[Stereo], path: Path, on_step: Callable[[], None] = lambda: None
) -> None:
    """Writes what `sound_blocks` gives as an MP4 file, and closes it. Raises `av.FFmpegError`.

    See `write_sound`. The file grows under its name, and is left unfinished after an error.
    """
    with closing(blocks), _AacWriter(path) as writer:
        for block in blocks:
            on_step()
            writer.write(block)


def sound_blocks(
    spans: Sequence[SoundSpan],
    sources: Sequence[SourceInfo],
    sample_count: int,
    on_warning: Callable[[str], None],
    store: ObjectReader | None = None,
) -> Generator[Stereo]:
    """The track before it is encoded: blocks of shape (2, some), float32, `sample_count` in all.

    Overlapping spans are summed, which may exceed ±1. A file is open only while its span sounds.
    Raises SourceError, ValueError for less than one sample.
    """
    if sample_count < 1:
        raise ValueError("a sound track has at least one sample")
    voices = [
        _Voice(
            span.start_sample,
            span.sample_count,
            _span_blocks(span, sources[span.clip], on_warning, store),
            _Fade(span.rise_samples, span.rise_ramp),
            _Fade(span.fall_samples, span.fall_ramp),
        )
        for span in spans
    ]
    return _mixed(voices, sample_count)


def _span_blocks(
    span: SoundSpan,
    source: SourceInfo,
    on_warning: Callable[[str], None],
    store: ObjectReader | None,
) -> Generator[Stereo]:
    if source.sound is None:
        return
    start, stop = _sample_at(span.pieces[0].start_s), _sample_at(span.pieces[-1].stop_s)
    reader = SoundReader(
        source,
        start,
        stop,
        on_warning=lambda warning: on_warning(f"clips[{span.clip}]: {warning}"),
        store=store,
    )
    try:
        yield from _mixed(_piece_voices(_merged(span.pieces), reader), span.sample_count)
    finally:
        reader.close()


def _merged(pieces: Sequence[TempoPiece]) -> list[TempoPiece]:
    """Joins pieces that continue each other in the source at the same speed."""
    merged: list[TempoPiece] = []
    for piece in pieces:
        if merged and _is_continuous(merged[-1], piece):
            whole = merged.pop()
            count = whole.sample_count + piece.sample_count
            piece = TempoPiece(whole.start_s, piece.stop_s, piece.speed, count)
        if piece.sample_count:
            merged.append(piece)
    return merged


def _is_continuous(piece: TempoPiece, following: TempoPiece) -> bool:
    end_s = piece.start_s + piece.sample_count * piece.speed / SAMPLE_RATE_HZ
    return piece.speed == following.speed and _sample_at(end_s) == _sample_at(following.start_s)


def _piece_voices(pieces: Sequence[TempoPiece], reader: SoundReader) -> list[_Voice]:
    """One voice per piece; each plays a little beyond its joins with other pieces, to crossfade."""
    joins = [min(_JOIN, a.sample_count // 2, b.sample_count // 2) for a, b in pairwise(pieces)]
    voices = []
    start = 0
    for piece, before, after in zip(pieces, [0, *joins], [*joins, 0], strict=True):
        voices.append(
            _Voice(
                start - before,
                piece.sample_count + before + after,
                _piece_blocks(piece, reader, -before, piece.sample_count + after),
                _Fade(2 * before, Ramp.LINEAR),
                _Fade(2 * after, Ramp.LINEAR),
            )
        )
        start += piece.sample_count
    return voices


def _piece_blocks(
    piece: TempoPiece, reader: SoundReader, start: int, stop: int
) -> Generator[Stereo]:
    """Output samples `[start, stop)` of a piece, counted from its first."""
    if piece.speed != 1:
        yield from stretch_blocks(
            reader.read, piece.start_s * SAMPLE_RATE_HZ, piece.speed, start, stop
        )
        return
    offset = _sample_at(piece.start_s)
    for first in range(start, stop, _BLOCK):
        yield reader.read(offset + first, offset + min(first + _BLOCK, stop))


def _mixed(voices: Iterable[_Voice], sample_count: int) -> Generator[Stereo]:
    """The sum of `voices`, which are in order of their start, over `[0, sample_count)`."""
    waiting = deque(voices)
    sounding: list[_Voice] = []
    try:
        for start in range(0, sample_count, _BLOCK):
            stop = min(start + _BLOCK, sample_count)
            while waiting and waiting[0].start < stop:
                sounding.append(waiting.popleft())
            block = np.zeros((2, stop - start), np.float32)
            for voice in sounding:
                voice.add_to(block, start)
            yield block
            for voice in sounding:
                if voice.stop <= stop:
                    voice.close()
            sounding = [voice for voice in sounding if voice.stop > stop]
    finally:
        for voice in sounding:
            voice.close()


@dataclass(frozen=True, slots=True)
class _Fade:
    """The ramp at one end of a voice; it may have no samples."""

    sample_count: int
    ramp: Ramp

    def gain(self, first: int, last: int) -> NDArray[np.float32]:
        """Gains for samples `[first, last)`, counted from the silent end."""
        inside = (np.arange(first, last) + 0.5) / self.sample_count
        x = np.clip(inside, 0, 1)
        return (np.sin(np.pi / 2 * x) if self.ramp is Ramp.EQUAL_POWER else x).astype(np.float32)


class _Voice:
    """One input of a mix, during samples `[start, stop)`; silent where its blocks end early."""

    def __init__(
        self, start: int, sample_count: int, blocks: Generator[Stereo], rise: _Fade, fall: _Fade
    ) -> None:
        self.start, self.stop = start, start + sample_count
        self._blocks = blocks
        self._rest = np.zeros((2, 0), np.float32)
        self._rise, self._fall = rise, fall

    def add_to(self, mix: Stereo, mix_start: int) -> None:
        """Adds the samples that fall into `mix`, which starts at `mix_start`. Call in order."""
        first, last = max(self.start, mix_start), min(self.stop, mix_start + mix.shape[1])
        samples = self._take(last - first)
        if first - self.start < self._rise.sample_count:
            samples = samples * self._rise.gain(first - self.start, last - self.start)
        if self.stop - last < self._fall.sample_count:
            samples = samples * self._fall.gain(self.stop - last, self.stop - first)[::-1]
        mix[:, first - mix_start : last - mix_start] += samples

    def close(self) -> None:
        self._blocks.close()

    def _take(self, count: int) -> Stereo:
        parts, missing = [self._rest], count - self._rest.shape[1]
        while missing > 0:
            part = next(self._blocks, None)
            if part is None:
                part = np.zeros((2, missing), np.float32)
            parts.append(part)
            missing -= part.shape[1]
        samples = np.concatenate(parts, axis=1)
        self._rest = samples[:, count:]
        return samples[:, :count]


class _AacWriter:
    """Writes blocks of sound to an MP4 file with one AAC-LC stream."""

    def __init__(self, path: Path) -> None:
        # FFmpeg's default movie timescale, 1 ms, would end the edit list up to 24 samples off;
        # bitexact leaves out the version of the muxer
        options = {"movie_timescale": str(SAMPLE_RATE_HZ), "fflags": "+bitexact"}
        self._container = av.open(file_url(path), "w", format="mp4", options=options)
        self._stream = self._container.add_stream("aac", rate=SAMPLE_RATE_HZ, layout="stereo")
        self._stream.bit_rate = BIT_RATE
        self._written = 0

    def __enter__(self) -> _AacWriter:
        return self

    def write(self, block: Stereo) -> None:
        """Encodes the next samples, shape (2, some); clips to ±1."""
        frame = av.AudioFrame.from_ndarray(np.clip(block, -1, 1), "fltp", "stereo")
        frame.sample_rate, frame.time_base = SAMPLE_RATE_HZ, Fraction(1, SAMPLE_RATE_HZ)
        frame.pts = self._written
        self._written += block.shape[1]
        self._container.mux(self._stream.encode(frame))

    def __exit__(self, kind: object, *_: object) -> None:
        try:
            if kind is None:
                self._container.mux(self._stream.encode(None))
        finally:
            self._container.close()


def _sample_at(time_s: Fraction) -> int:
    return round_half_up(time_s * SAMPLE_RATE_HZ)
