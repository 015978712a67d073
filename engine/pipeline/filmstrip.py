"""A clip at a glance: its pictures as one strip, its sound as peaks. Knows no edit.

A picture of the strip is a key frame where one is near enough, so little of a long file is decoded.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from engine.audio.reader import SoundReader
from engine.geometry import Fit, Size
from engine.media.video_reader import FrameReader
from engine.pixels.crop import CropSampler
from engine.pixels.picture import Picture
from engine.source import SourceInfo
from engine.storage.objects import ObjectReader
from engine.timing import SAMPLE_RATE_HZ, round_half_up

_BLOCK = 1 << 16
"""Samples of sound per read."""


@dataclass(frozen=True, slots=True)
class Filmstrip:
    """Pictures side by side, each of `size`, the middles of equal shares of the clip."""

    strip: Picture
    size: Size
    count: int


def filmstrip(
    source: SourceInfo,
    count: int,
    height: int,
    *,
    on_warning: Callable[[str], None],
    store: ObjectReader | None = None,
) -> Filmstrip:
    """`count` pictures of a clip, `height` pixels high (even), in the order of time.

    Raises SourceError and DecodeError.
    """
    width = max(2, 2 * round(height * source.display_size.aspect / 2))
    size = Size(width, height)
    strip = Picture(Size(width * count, height))
    sampler = CropSampler(
        display_size=source.display_size,
        rotation_deg=source.rotation_deg,
        mirrored=source.mirrored,
        colour=source.colour,
        target=size,
        fit=Fit.STRETCH,
    )
    whole = np.array([0, 0, source.display_size.width, source.display_size.height], np.float64)
    picture = Picture(size)
    with FrameReader(source, strict=False, on_warning=on_warning, store=store) as reader:
        for place, frame in enumerate(reader.frames(_shown(source, count).tolist())):
            sampler.sample(frame, whole, picture)
            for there, plane in zip(strip.planes, picture.planes, strict=True):
                columns = plane.shape[1]
                there[:, place * columns : (place + 1) * columns] = plane
    return Filmstrip(strip, size, count)


def _shown(source: SourceInfo, count: int) -> NDArray[np.int64]:
    """By timestamp: the first key frame within each share, else the frame at its middle."""
    first = int(source.frame_pts[0])
    borders = np.linspace(first, source.end_pts, count + 1)
    middles = np.searchsorted(source.frame_pts, (borders[:-1] + borders[1:]) / 2, "right") - 1
    shown = source.frame_pts[middles]
    keys = source.keyframe_pts[np.isin(source.keyframe_pts, source.frame_pts)]
    if not keys.size:
        return shown
    following = np.minimum(np.searchsorted(keys, borders[:-1]), len(keys) - 1)
    inside = (keys[following] >= borders[:-1]) & (keys[following] < borders[1:])
    return np.where(inside, keys[following], shown)


def sound_peaks(
    source: SourceInfo,
    count: int,
    *,
    on_warning: Callable[[str], None],
    store: ObjectReader | None = None,
) -> list[float] | None:
    """The largest sample, 0 to 1, within each of `count` equal shares of the clip.

    None for a clip without sound. Raises SourceError.
    """
    if source.sound is None:
        return None
    total = round_half_up(source.duration_s * SAMPLE_RATE_HZ)
    borders = np.linspace(0, total, count + 1).round().astype(int)
    peaks = np.zeros(count)
    reader = SoundReader(source, 0, total, on_warning=on_warning, store=store)
    try:
        for start in range(0, total, _BLOCK):
            block = np.abs(reader.read(start, min(start + _BLOCK, total))).max(axis=0)
            share = np.searchsorted(borders, np.arange(start, start + len(block)), "right") - 1
            np.maximum.at(peaks, np.minimum(share, count - 1), block)
    finally:
        reader.close()
    return [round(float(peak), 3) for peak in np.minimum(peaks, 1)]
