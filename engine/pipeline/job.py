"""What an export renders, decided once and as one value.

The same job is given to this process, to a worker of `--workers`, to a container, and to a run that
resumes: nobody who renders decides anything again. It holds no open file, no network and no secret,
so it can be pickled and sent.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace

from engine.errors import SourceError
from engine.media.encoders import Encoder
from engine.timeline.chunks import Chunk, cut_into_chunks
from engine.timeline.plan import Plan, PlannedClip
from engine.upscale.stage import StageSpec, Upscaler


@dataclass(frozen=True, slots=True)
class ChosenUpscaler:
    """What was chosen to enlarge the clips, for the report; see `upscale.stage.Upscaler`."""

    name: str
    why: str
    device: str
    """As torch spells it."""


@dataclass(frozen=True, slots=True, eq=False)
class RenderJob:
    """The chunks of an export, and everything that decides their pixels."""

    chunks: tuple[Chunk, ...]
    """In the order of the export. Their layers name the sources and where these lie."""
    stages: tuple[StageSpec, ...]
    """What each clip of the plan goes through, by the clip's index."""
    upscaler: ChosenUpscaler
    encoder: Encoder
    strict: bool
    """Any damage in a source is an error."""

    def stage_of(self, clip: PlannedClip) -> StageSpec:
        """What the clip goes through."""
        return self.stages[clip.index]

    def only(self, chunks: Iterable[Chunk]) -> RenderJob:
        """The same job with only these of its chunks."""
        return replace(self, chunks=tuple(chunks))


def plan_job(
    plan: Plan, upscaler: Upscaler, encoder: Encoder, *, strict: bool = False
) -> RenderJob:
    """The job that renders `plan`: every decision made, nothing loaded.

    Raises `UpscalerError` for weights that cannot be had, and what `decided_job` raises.
    """
    stages = [upscaler.stage_for(clip.scale) for clip in plan.clips]
    chosen = ChosenUpscaler(upscaler.name, upscaler.why, upscaler.device)
    return decided_job(plan, stages, chosen, encoder, strict=strict)


def decided_job(
    plan: Plan,
    stages: Iterable[StageSpec],
    upscaler: ChosenUpscaler,
    encoder: Encoder,
    *,
    strict: bool = False,
) -> RenderJob:
    """The job that renders `plan` through stages, one per clip, that were chosen elsewhere.

    Raises `SourceError` where `strict` and a source had to be repaired while it was probed.
    """
    if strict:
        for clip in plan.clips:
            for repair in clip.source.repairs:
                raise SourceError(clip.source.location, repair)
    by_clip = tuple(stages)
    keys = [stage.key for stage in by_clip]
    chunks = cut_into_chunks(plan, stage_key=lambda clip: keys[clip.index], encoder_key=encoder.key)
    return RenderJob(chunks, by_clip, upscaler, encoder, strict)
