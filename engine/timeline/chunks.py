"""Cuts a plan into chunks, each with a digest of everything that decides its pixels.

A chunk is the unit of rendering, retry, resume and cache. This module opens no file and sees no
pixel.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np

from engine.timeline.plan import Layer, Plan, PlannedClip
from engine.timing import FrameRange

MAX_CHUNK_FRAMES = 240
"""Long enough to make up for an encoder's start and end, short enough to lose little in a crash."""

RENDER_VERSION = 5
"""Raised whenever the engine would give an encoder different pixels for the same plan."""


@dataclass(frozen=True, slots=True, eq=False)
class Chunk:
    """A half-open range of output frames with one or two layers, rendered as closed GOPs."""

    index: int
    frames: FrameRange
    layers: tuple[Layer, ...]
    digest: str
    """Hex. Covers sources, layers, upscaler, encoder and render version. It does not cover the
    place in the export, so a chunk is found again wherever an edit moves it."""
    is_copied: bool = False
    """Its packets are copied from the source that it shows, and not rendered."""


def cut_into_chunks(
    plan: Plan, *, stage_key: Callable[[PlannedClip], str], encoder_key: str
) -> tuple[Chunk, ...]:
    """The chunks of an export, in order.

    `stage_key` names what enlarges a clip's crop, `encoder_key` the encoder, both with all their
    settings.
    """
    common = f"{RENDER_VERSION}|{plan.size}|{plan.fps}|{encoder_key}"
    clip_keys = {clip.index: stage_key(clip) for clip in plan.clips}
    chunks = []
    for index, frames in enumerate(chunk_ranges(plan)):
        layers = plan.layers(frames)
        keys = [clip_keys[layer.clip.index] for layer in layers]
        is_copied = frames in plan.copied
        digest = _digest(f"{common}|copied" if is_copied else common, keys, layers)
        chunks.append(Chunk(index, frames, layers, digest, is_copied))
    return tuple(chunks)


def chunk_ranges(plan: Plan) -> tuple[FrameRange, ...]:
    """The output frames of each chunk: cut at every border of the plan, then every 240 frames.

    Cuts are counted from the border before them. So a change to one clip leaves the chunks of the
    other clips as they were, and a change to its end leaves those before it. What is copied is one
    chunk, however long.
    """
    ranges: list[FrameRange] = []
    for start, stop in pairwise(plan.borders):
        is_copied = FrameRange(start, stop) in plan.copied
        longest = stop - start if is_copied else MAX_CHUNK_FRAMES
        ranges += (
            FrameRange(first, min(first + longest, stop)) for first in range(start, stop, longest)
        )
    return tuple(ranges)


def _digest(common: str, keys: Sequence[str], layers: Sequence[Layer]) -> str:
    digest = hashlib.blake2b(common.encode(), digest_size=16)
    for key, layer in zip(keys, layers, strict=True):
        source = layer.clip.source
        looks = f"{source.fingerprint}|{source.colour}|{source.chroma_siting}"
        rotation = f"{layer.clip.rotation_deg!r}|" if layer.clip.rotation_deg else ""
        digest.update(f"|{key}|{looks}|{layer.clip.fit}|{rotation}".encode())
        digest.update(np.ascontiguousarray(layer.pts, "<i8").tobytes())
        digest.update(np.ascontiguousarray(layer.rects, "<f8").tobytes())
        digest.update(np.ascontiguousarray(layer.weights, "<f8").tobytes())
    return digest.hexdigest()
