"""One output frame of a plan, exactly as an export would give it to its encoder."""

from __future__ import annotations

from collections.abc import Callable
from fractions import Fraction
from itertools import islice

from engine.pipeline.chunk_pictures import OpenSources
from engine.pipeline.render import finished_pictures
from engine.pixels.picture import Picture
from engine.storage.objects import ObjectReader
from engine.timeline.chunks import Chunk, chunk_ranges
from engine.timeline.plan import Layer, Plan
from engine.timing import TIMESTAMP_TOLERANCE_S, FrameRange
from engine.upscale.stage import LoadedStages, Upscaler


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
    store: ObjectReader | None = None,
) -> Picture:
    """The picture of output frame `frame`. `store` holds the sources that are objects.

    It is made by what renders chunks, out of the same neighbours: what a network is given for a
    source frame depends on all crops through which its chunk shows it. (A network on a batch of
    another size may differ in the last bit.) Raises `DecodeError`, `UpscalerError`, and ValueError
    for a frame that the plan does not have.
    """
    if not 0 <= frame < plan.frame_count:
        raise ValueError(f"the export has frames 0 to {plan.frame_count - 1}, not {frame}")
    chunk = _chunk_around(plan, frame)
    stages = LoadedStages()
    with (
        OpenSources(
            lambda clip: stages.of(upscaler.stage_for(clip.scale)),
            strict=strict,
            on_warning=lambda _, warning: on_warning(warning),
            store=store,
        ) as sources,
        finished_pictures(chunk, sources, plan.size) as pictures,
    ):
        place = frame - chunk.frames.start
        picture = next(islice(pictures, place, None)).on_host()
        return Picture(picture.size, picture.buffer.copy())


def _chunk_around(plan: Plan, frame: int) -> Chunk:
    """Of the chunk that `frame` lies in, the frames that show the same source frames.

    It has no digest: its pictures go into no file.
    """
    whole = next(frames for frames in chunk_ranges(plan) if frame < frames.stop)
    row = frame - whole.start
    runs = [_run(layer, row) for layer in plan.layers(whole)]
    first, last = min(run.start for run in runs), max(run.stop for run in runs)
    frames = FrameRange(whole.start + first, whole.start + last)
    return Chunk(0, frames, plan.layers(frames), digest="")


def _run(layer: Layer, row: int) -> FrameRange:
    """The rows around `row` with the same source frame."""
    first, last = row, row + 1
    while first > 0 and layer.pts[first - 1] == layer.pts[row]:
        first -= 1
    while last < len(layer.pts) and layer.pts[last] == layer.pts[row]:
        last += 1
    return FrameRange(first, last)
