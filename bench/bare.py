"""Bare libx264 as a peer: the finished pictures of an edit, encoded from memory.

    python -m bench.bare EDIT.json OUT.mp4 RESULT.json

All pictures are made beforehand and kept (3 MiB each at 1080x1920); what is timed is one
`ChunkWriter` that encodes them, the fastest any export of these pictures by this encoder can be.
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from pathlib import Path

import xxhash

from engine import Edit, Plan, build_plan, choose_encoder, probe_sources
from engine.geometry import Framing
from engine.media.chunk_writer import ChunkWriter
from engine.media.video_reader import FrameReader
from engine.pixels.blend import blend
from engine.pixels.picture import Picture
from engine.timeline.chunks import chunk_ranges
from engine.timing import FrameRange
from engine.upscale.stage import FrameCrop, PlainResampler


def main(edit_path: Path, output: Path, result: Path) -> None:
    edit = Edit.load(edit_path)
    plan = build_plan(edit, probe_sources(edit, edit_path.parent))
    encoder = choose_encoder(plan.size, plan.fps, name="libx264")
    ranges = chunk_ranges(plan)
    pictures = list(_finished_pictures(plan, ranges))
    start_s, start_cpu_s = time.monotonic(), time.process_time()
    with ChunkWriter(encoder, output) as writer:
        for picture in pictures:
            writer.write(picture)
    figures = {
        "wall_s": time.monotonic() - start_s,
        "cpu_s": time.process_time() - start_cpu_s,
        "frame_hashes": [_hash_of(pictures[frames.start : frames.stop]) for frames in ranges],
    }
    result.write_text(json.dumps(figures))


def _finished_pictures(plan: Plan, ranges: Sequence[FrameRange]) -> Iterator[Picture]:
    """What the engine gives its encoder, made one after the other in one thread."""
    upscaler = PlainResampler("as the engine is asked to")
    with ExitStack() as stack:
        readers = [
            stack.enter_context(FrameReader(clip.source, strict=True, on_warning=print))
            for clip in plan.clips
        ]
        for frames in ranges:
            planned = plan.layers(frames)
            layers = [
                upscaler.pictures(
                    map(FrameCrop, readers[layer.clip.index].frames(layer.pts), layer.rects),
                    layer.clip.source,
                    Framing(plan.size, layer.clip.fit, layer.clip.rotation_deg),
                )
                for layer in planned
            ]
            weights = zip(*(layer.weights for layer in planned), strict=True)
            for parts, shares in zip(zip(*layers, strict=True), weights, strict=True):
                out = Picture(plan.size)
                blend(
                    [(part, float(share)) for part, share in zip(parts, shares, strict=True)], out
                )
                yield out


def _hash_of(pictures: Sequence[Picture]) -> str:
    """As the engine's report has it for each chunk, which proves that the pictures are the same."""
    hashed = xxhash.xxh3_128()
    for picture in pictures:
        hashed.update(picture.buffer.data)
    return hashed.hexdigest()


if __name__ == "__main__":
    main(*map(Path, sys.argv[1:]))
