"""Finds out what a source file is: one pass over its packets, one decoded frame. Knows no edit."""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path

import av

from engine.geometry import Size
from engine.location import SourceLocation
from engine.media.alpha import PIXEL_FORMAT, alpha_decoder, has_alpha_beside
from engine.media.colour_tags import colour_tags
from engine.media.container import (
    PHOTO_BYTES,
    family_of,
    open_container,
    photo_error,
    photo_format,
    read_at,
    source_errors,
    stored_object,
    time_base_of,
    video_stream,
)
from engine.media.fingerprint import fingerprint
from engine.media.frame_list import read_frames
from engine.media.mp4_index import SkimmingReader
from engine.media.orientation import Orientation, orientation_of
from engine.media.sound_track import choose_sound
from engine.source import SourceInfo
from engine.storage.cached_store import cached
from engine.storage.objects import ObjectReader
from engine.timing import round_half_up

_ALPHA_NOTE = "it has an alpha channel that FFmpeg here cannot decode: what it hides is shown"


def probe(location: SourceLocation, store: ObjectReader | None = None) -> SourceInfo:
    """Reads everything that the engine needs to know about a file.

    `store` holds a source that is an object. Of an MP4 or MOV in a store only the index and the
    first frames are downloaded, and the index gives the key frames. Raises SourceError where there
    is no such file or no video in it that can be decoded, StoreError where a store fails.
    """
    store = cached(store)
    reader = None if isinstance(location, Path) else SkimmingReader(stored_object(location, store))
    with (
        source_errors(location, "cannot be read"),
        open_container(location, store, reader) as container,
    ):
        if family_of(container) == "mov":
            _refuse_photo(location, store, reader)
        stream = video_stream(container, location)
        frames = read_frames(container, stream, location, store, reader)
        first, time_base = frames.first, time_base_of(stream)
        upright = orientation_of(first)
        colours = colour_tags(stream, first, location)
        alpha = alpha_decoder(stream) is not None
        heard = choose_sound(
            container,
            location,
            store,
            frames.origin_pts * time_base,
            late_streams=frames.late_streams,
        )
        return SourceInfo(
            location=location,
            fingerprint=fingerprint(location, store),
            probed_etag=None if isinstance(location, Path) else location.etag,
            container=family_of(container),
            codec=stream.codec.canonical_name,
            pixel_format=PIXEL_FORMAT if alpha else first.format.name,
            coded_size=Size(first.width, first.height),
            display_size=_display_size(first, stream.sample_aspect_ratio, upright),
            rotation_deg=upright.rotation_deg,
            mirrored=upright.mirrored,
            colour=colours.colour,
            chroma_siting=colours.chroma_siting,
            interlaced=frames.interlaced,
            field_order=frames.field_order,
            time_base=time_base,
            frame_pts=frames.pts,
            keyframe_pts=frames.keyframe_pts,
            keyframe_bytes=frames.keyframe_bytes,
            end_pts=frames.end_pts,
            sound=heard.sound,
            known_by_order=frames.by_order,
            clock_shifts_s=tuple(shift * time_base for shift in frames.clock_shifts),
            repairs=frames.repairs,
            notes=(
                *filter(None, [upright.note]),
                *colours.notes,
                *([] if alpha or not has_alpha_beside(stream) else [_ALPHA_NOTE]),
                *heard.notes,
            ),
        )


def _refuse_photo(
    location: SourceLocation, store: ObjectReader | None, reader: SkimmingReader | None
) -> None:
    """Raises SourceError for a HEIC or AVIF, which FFmpeg opens as it does an MP4."""
    if reader is not None:
        beginning = reader.read_at(0, PHOTO_BYTES)
    else:
        beginning = read_at(location, store, 0, PHOTO_BYTES)
    if photo := photo_format(beginning):
        raise photo_error(location, photo)


def _display_size(
    frame: av.VideoFrame, sample_aspect: Fraction | None, upright: Orientation
) -> Size:
    width = max(1, round_half_up(frame.width * (sample_aspect or Fraction(1))))
    lying = upright.rotation_deg in (90, 270)
    return Size(frame.height, width) if lying else Size(width, frame.height)
