"""What an export will take, before it begins: frames, and time where that is known.

The time here is that of earlier exports of the same kind; it is unknown before the first. The time
on Modal is arithmetic on published figures, which are named. None of it was measured there.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from engine.media.encoders import Encoder
from engine.pipeline.capacity import Costs, Prediction, decide, predict
from engine.pipeline.history import History, Run
from engine.pipeline.local import decide_here
from engine.pipeline.report import Report
from engine.pipeline.workers import work_of
from engine.timeline.chunks import chunk_ranges
from engine.timeline.plan import Layer, Plan
from engine.upscale.choice import network_for
from engine.upscale.models import Model
from engine.upscale.regions import BUCKET_PX
from engine.upscale.stage import Upscaler

ENCODED_PX_PER_S = 60 * 1080 * 1920
T4_FLOPS = 22.5e12
T4_BYTES_PER_S = 250e9
CONVERSION_S_PER_PX = 0.28e-9
RESAMPLING_S_PER_PX = 1.5e-9
WAITS_S = 0.001
CHUNK_BORDER_S = 0.3
"""What the parts of `t4_frame_parts_s` are made of."""
MAX_CONTAINERS = 10
T4_COSTS = Costs(
    startup_s=45,
    serial_s=20,
    idle_s=20,
    usd_per_container_s=0.84 / 3600,
    usd_per_orchestrator_s=0.13 / 3600,
)
ASSUMPTIONS = (
    "not measured on Modal",
    "a T4 computes convolutions at 22.5 TFLOP/s, a third of the 65 that NVIDIA names, and moves "
    "250 of 320 GB/s between them",
    "a frame of 624x1080 takes realesr-general-x4v3 about 100 ms: convolutions 72, activations 23, "
    "conversion 3, resampling 3, waits 1",
    "four cores encode 60 frames of 1080x1920 a second with libx264",
    "a container takes 45 s to start and waits 20 s at the end; planning and joining take 20 s",
    "$0.84 an hour for a T4 with 4 cores and 8 GiB, $0.13 for the orchestrator "
    "(published prices, 2026)",
    "at most 10 containers, and one more only where starting it is at most 15 % of its work",
)
"""Said beside every estimate of Modal."""


@dataclass(frozen=True, slots=True)
class Estimate:
    """What an export will take."""

    frames: int
    """Frames to render; `Report.frames` of the finished export."""
    source_frames: int
    """Frames to decode, crop and enlarge, each once; `Report.source_frames`."""
    upscaled_frames: int
    """Those of them that go through a network."""
    chunk_frames: tuple[int, ...]
    """Frames of each chunk, in order."""
    here_s: float | None
    """None before the first export of this kind."""
    here_from: str
    """What `here_s` is based on, or why it is not known."""
    modal: Prediction
    modal_why: str
    """Why so many containers."""


def estimate(
    plan: Plan,
    history: History,
    *,
    upscaler: Upscaler,
    encoder: Encoder,
    workers: int | None = None,
    exports: int = 1,
    modal_upscaler: str = "auto",
) -> Estimate:
    """What an export of `plan` will take, here and on Modal.

    `upscaler` and `encoder` are those chosen here, `workers` and `exports` what `LocalWorkers` is
    given. `modal_upscaler` is the name that Modal's
    containers, which have CUDA, would be asked for.
    """
    ranges = chunk_ranges(plan)
    encoded_by = _encoded_by(encoder.name, dict(encoder.options))
    if workers is None:
        work = work_of(
            map(len, ranges),
            plan.clips,
            network=any(network_for(upscaler.name, clip.scale) for clip in plan.clips),
            device=upscaler.device,
            encoder=encoder,
        )
        workers = decide_here(work, exports).workers
    alike = history.alike(upscaler.name, encoded_by, plan.size, workers)
    target_px = plan.size.width * plan.size.height
    work_s = [t4_work_s(plan.layers(frames), target_px, modal_upscaler) for frames in ranges]
    decision = decide(work_s, startup_s=T4_COSTS.startup_s, max_containers=MAX_CONTAINERS)
    return Estimate(
        frames=plan.frame_count,
        source_frames=plan.source_frame_count(),
        upscaled_frames=_upscaled(plan, upscaler.name),
        chunk_frames=tuple(len(frames) for frames in ranges),
        here_s=_here_s(plan, alike) if alike else None,
        here_from=_basis(alike, f"{upscaler.name}, {encoded_by}, {plan.size}"),
        modal=predict(work_s, decision.containers, T4_COSTS),
        modal_why=decision.why,
    )


def measured(plan: Plan, report: Report) -> Run | None:
    """What a finished export teaches; None where an earlier run had a part in it."""
    if report.frames_resumed:
        return None
    return Run(
        upscaler=report.upscaler,
        encoder=_encoded_by(report.encoder, report.encoder_options),
        width=plan.size.width,
        height=plan.size.height,
        workers=report.workers,
        frames=report.frames,
        source_frames=report.source_frames,
        wall_s=report.wall_s,
    )


def t4_work_s(layers: Sequence[Layer], target_px: int, upscaler: str) -> float:
    """Seconds that a T4 takes for a chunk of these layers, in frames of `target_px` pixels.

    The network and the encoder overlap, so the slower one counts.
    """
    network_s = 0.0
    for layer in layers:
        if (model := network_for(upscaler, layer.clip.scale)) is not None:
            region_px = float(np.mean(_bucketed(layer.rects[:, 2]) * _bucketed(layer.rects[:, 3])))
            frame_s = sum(t4_frame_parts_s(model, region_px, target_px).values())
            network_s += CHUNK_BORDER_S + frame_s * len(set(layer.pts.tolist()))
    return max(network_s, len(layers[0].pts) * target_px / ENCODED_PX_PER_S)


def t4_frame_parts_s(model: Model, region_px: float, target_px: int) -> dict[str, float]:
    """Seconds that a T4 takes for a frame, by what it does. A model: nothing of it was measured.

    The network is given `region_px` pixels, and its result is resampled to `target_px`.
    """
    return {
        "convolutions": model.flops_per_pixel * region_px / T4_FLOPS,
        "activations": model.moved_bytes_per_pixel * region_px / T4_BYTES_PER_S,
        "conversion": CONVERSION_S_PER_PX * region_px * model.scale**2,
        "resampling": RESAMPLING_S_PER_PX * target_px,
        "waits": WAITS_S,
    }


def _bucketed(sides_px: NDArray[np.float64]) -> NDArray[np.float64]:
    """Sides of rectangles as a network is given them: whole buckets."""
    return np.asarray(np.ceil(sides_px / BUCKET_PX) * BUCKET_PX)


def _encoded_by(name: str, options: Mapping[str, str]) -> str:
    return f"{name} {options['preset']}" if "preset" in options else name


def _here_s(plan: Plan, runs: Sequence[Run]) -> float:
    """At their speed: per frame, or per source frame where a network takes most of the time."""
    wall_s = sum(run.wall_s for run in runs)
    if runs[0].upscaler == "none":
        return wall_s / sum(run.frames for run in runs) * plan.frame_count
    return wall_s / sum(run.source_frames for run in runs) * plan.source_frame_count()


def _basis(runs: Sequence[Run], kind: str) -> str:
    if not runs:
        return f"unknown until a first export here ({kind})"
    exports = "1 export" if len(runs) == 1 else f"{len(runs)} exports"
    return f"as fast as {exports} here before ({kind})"


def _upscaled(plan: Plan, upscaler: str) -> int:
    return sum(
        len(set(clip.pts.tolist()))
        for clip in plan.clips
        if network_for(upscaler, clip.scale) is not None
    )
