"""Chooses the sound stream of a source that is heard. Decodes nothing."""

from __future__ import annotations

from fractions import Fraction

import av

from engine.media.container import time_base_of
from engine.source import SoundInfo


def sound_info(container: av.container.InputContainer, shown_from_s: Fraction) -> SoundInfo | None:
    """The first sound stream that can be decoded; the one marked as default before others.

    `shown_from_s` is the container's time of the first frame that is shown.
    """
    default = av.stream.Disposition.default
    streams = [stream for stream in container.streams.audio if stream.codec_context]
    for stream in sorted(streams, key=lambda stream: not stream.disposition & default):
        time_base = time_base_of(stream)
        start_s = stream.start_time * time_base if stream.start_time is not None else shown_from_s
        return SoundInfo(
            stream_index=stream.index,
            codec=stream.codec.canonical_name,
            sample_rate_hz=stream.sample_rate,
            channels=stream.channels,
            start_s=start_s - shown_from_s,
        )
    return None
