"""One output frame of a plan, exactly as an export would give it to its encoder."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from fractions import Fraction
from itertools import islice

from engine.pipeline.progress import StageClock
from engine.pipeline.render import Sources, finished_pictures
from engine.pixels.blend import HostCompositor
from engine.pixels.picture import Picture
from engine.timeline.chunks import Chunk, cut_into_chunks
from engine.timeline.plan import Layer, Plan
from engine.timeline.retime import TIMESTAMP_TOLERANCE_S
from engine.timing import FrameRange
from engine.upscale.stage import Upscaler


def frame_at(plan: Plan, time_s: Fraction) -> int:
    """The output frame shown at a time of the export; the last one from there on.

    A time up to 1 ms before a frame is taken for its start, since people write `1.033`.
    """
    frame = int((time_s + TIMESTAMP_TOLERANCE_S) * plan.fps)
    return min(max(frame, 0), plan.frame_count - 1)


def render_still(
    plan: Plan,
    frame: int,
    upscaler: Upscaler,
    *,
    strict: bool = False,
    on_warning: Callable[[str], None] = lambda _: None,
) -> Picture:
    """The picture of output frame `frame`.

    It is made by what renders chunks, out of the same neighbours: what a network is given for a
    source frame depends on all crops through which its chunk shows it. (A network on a batch of
    another size may differ in the last bit.) Raises `DecodeError`, `UpscalerError`, and ValueError
    for a frame that the plan does not have.
    """
    if not 0 <= frame < plan.frame_count:
        raise ValueError(f"the export has frames 0 to {plan.frame_count - 1}, not {frame}")
    chunk = _around(_chunk_of(plan, frame), frame)
    with (
        Sources(strict=strict, on_warning=on_warning) as sources,
        finished_pictures(
            chunk,
            sources,
            upscaler,
            plan.size,
            HostCompositor(),
            following=None,
            clock=StageClock(),
            while_waiting=lambda: None,
        ) as pictures,
    ):
        place = frame - chunk.frames.start
        picture = next(islice(pictures, place, None)).on_host()
        return Picture(picture.size, picture.buffer.copy())


def _chunk_of(plan: Plan, frame: int) -> Chunk:
    chunks = cut_into_chunks(plan, stage_key=lambda _: "", encoder_key="")
    return next(chunk for chunk in chunks if frame < chunk.frames.stop)


def _around(chunk: Chunk, frame: int) -> Chunk:
    """The frames of `chunk` that show a source frame of output frame `frame`."""
    row = frame - chunk.frames.start
    runs = [_run(layer, row) for layer in chunk.layers]
    first, last = min(run.start for run in runs), max(run.stop for run in runs)
    return replace(
        chunk,
        frames=FrameRange(chunk.frames.start + first, chunk.frames.start + last),
        layers=tuple(_rows(layer, slice(first, last)) for layer in chunk.layers),
    )


def _run(layer: Layer, row: int) -> FrameRange:
    """The rows around `row` with the same source frame."""
    first, last = row, row + 1
    while first > 0 and layer.pts[first - 1] == layer.pts[row]:
        first -= 1
    while last < len(layer.pts) and layer.pts[last] == layer.pts[row]:
        last += 1
    return FrameRange(first, last)


def _rows(layer: Layer, rows: slice) -> Layer:
    return Layer(layer.clip, layer.pts[rows], layer.rects[rows], layer.weights[rows])
