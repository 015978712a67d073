"""Chooses the sound stream of a source that is heard. Decodes nothing."""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction

import av

from engine.errors import SourceError
from engine.location import SourceLocation
from engine.media.container import open_container, tagged_duration_s, time_base_of
from engine.source import SoundInfo
from engine.storage.objects import ObjectReader

_Disposition = av.stream.Disposition
_ASIDE = (
    _Disposition.comment
    | _Disposition.karaoke
    | _Disposition.hearing_impaired
    | _Disposition.visual_impaired
    | _Disposition.clean_effects
    | _Disposition.descriptions
)
"""Tracks beside the film's own sound: commentary, description, effects alone."""

_STUB = Fraction(1, 10)
"""A track that is shorter than this share of the longest one holds no film's sound."""


@dataclass(frozen=True, slots=True)
class ChosenSound:
    """The sound that is heard, None where there is none, and what to say about it."""

    sound: SoundInfo | None
    notes: tuple[str, ...] = ()


def choose_sound(
    container: av.container.InputContainer,
    location: SourceLocation,
    store: ObjectReader | None,
    origin_s: Fraction,
    *,
    late_streams: bool,
) -> ChosenSound:
    """The first sound stream of an open file that can be decoded: the film's own before others.

    `origin_s` is the file's time at which the first frame is shown. `late_streams`: streams began
    after the file was opened, so it is searched for them. Raises SourceError, StoreError.
    """
    found = _choose(container, origin_s)
    if not late_streams and (found.sound is None or found.sound.sample_rate_hz):
        return found
    with open_container(location, store, late_streams=True) as searched:
        return _choose(searched, origin_s)


def sound_stream(
    container: av.container.InputContainer, location: SourceLocation, sound: SoundInfo
) -> av.AudioStream | None:
    """The chosen stream of an open file, whose other streams are discarded.

    None where it begins later: open the file with `late_streams`. Raises SourceError where the
    stream is no sound.
    """
    if sound.stream_index >= len(container.streams):
        return None
    stream = container.streams[sound.stream_index]
    if not isinstance(stream, av.AudioStream):
        raise SourceError(location, f"stream {stream.index} is not sound")
    for other in container.streams:
        other.discard = av.stream.Discard.default if other is stream else av.stream.Discard.all
    return stream


def _choose(container: av.container.InputContainer, origin_s: Fraction) -> ChosenSound:
    tracks = list(container.streams.audio)
    decodable = [track for track in tracks if track.codec_context is not None]
    if not decodable:
        return ChosenSound(None, _undecodable(tracks))
    lengths_s = [_length_s(track) for track in decodable]
    longest_s = max(lengths_s)

    def rank(place: int) -> tuple[bool, bool, bool, bool]:
        track, length_s = decodable[place], lengths_s[place]
        return (
            not track.sample_rate or not track.channels,
            bool(track.disposition & _ASIDE),
            bool(length_s) and length_s < _STUB * longest_s,
            not track.disposition & _Disposition.default,
        )

    track = decodable[min(range(len(decodable)), key=rank)]
    if not track.sample_rate or not track.channels:
        return ChosenSound(None, _undecodable([track]))
    start_s = origin_s if track.start_time is None else track.start_time * time_base_of(track)
    return ChosenSound(
        SoundInfo(
            stream_index=track.index,
            codec=track.codec.canonical_name,
            sample_rate_hz=track.sample_rate,
            channels=track.channels,
            start_s=start_s - origin_s,
            origin_s=origin_s,
        )
    )


def _length_s(track: av.AudioStream) -> Fraction:
    """The track's length as its container tells it, 0 where it does not."""
    if track.duration:
        return track.duration * time_base_of(track)
    return tagged_duration_s(track) or Fraction(0)


def _undecodable(tracks: list[av.AudioStream]) -> tuple[str, ...]:
    """What to say about sound that nobody will hear."""
    if not tracks:
        return ()
    return (f"its sound ({_codec_name(tracks[0])}) cannot be decoded: it is silent",)


def _codec_name(track: av.AudioStream) -> str:
    return track.codec.canonical_name if track.codec_context is not None else "an unknown format"
