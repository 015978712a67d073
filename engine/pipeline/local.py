"""Renders chunks on this machine: as many at the same time as it carries, or as were asked for."""

from __future__ import annotations

from collections.abc import Generator
from dataclasses import dataclass, field

from engine.machine import this_machine
from engine.pipeline.executors import (
    Executor,
    InProcess,
    RenderContext,
    RenderedChunk,
    RenderObserver,
    check_workers,
)
from engine.pipeline.job import RenderJob
from engine.pipeline.workers import Work, WorkerDecision, decide_workers, work_of
from engine.upscale.stage import PlainResampler


@dataclass(slots=True)
class LocalWorkers:
    """An `Executor` that decides when it sees the job, and gives it to another one.

    Workers are threads, which start at once and share their memory. Where a network runs they are
    processes: each has a GPU, or its share of the processors.
    """

    asked: int | None = None
    """Chunks at a time. None: as many as this machine carries."""
    processes: bool = False
    """Each worker is a process, so that a decoder that crashes costs one chunk."""
    exports: int = 1
    """How many exports share this machine; each plans with its part."""
    _chosen: Executor = field(default_factory=InProcess, init=False)

    def __post_init__(self) -> None:
        if self.asked is not None:
            check_workers(self.asked)

    @property
    def name(self) -> str:
        """See `Executor`."""
        return self._chosen.name

    @property
    def why(self) -> str:
        """See `Executor`."""
        return self._chosen.why

    @property
    def workers(self) -> int:
        """See `Executor`."""
        return self._chosen.workers

    def render(
        self, context: RenderContext, observer: RenderObserver
    ) -> Generator[RenderedChunk, None, None]:
        """See `Executor`. Raises what the executor raises that it chooses."""
        self._chosen = self._choice(context.job)
        return self._chosen.render(context, observer)

    def _choice(self, job: RenderJob) -> Executor:
        work = _work_of(job)
        if self.asked is None:
            decision = decide_here(work, self.exports)
            workers, why = decision.workers, f"auto: {decision.why}"
        else:
            workers, why = self.asked, "asked for"
        # the modules of other kinds of workers are not loaded in vain
        if self.processes or (work.network and workers > 1):
            from engine.pipeline.processes import LocalProcesses

            return LocalProcesses(workers, why)
        if workers > 1:
            from engine.pipeline.threads import LocalThreads

            return LocalThreads(workers, why)
        return InProcess(why)


def decide_here(work: Work, exports: int = 1) -> WorkerDecision:
    """How many chunks at a time this machine renders now, where so many exports share it."""
    gpus = 0
    if work.network and work.device.startswith("cuda"):
        from engine.pipeline.processes import cuda_devices

        gpus = len(cuda_devices(work.device))
    return decide_workers(work, this_machine().shared_by(exports), gpus=gpus)


def _work_of(job: RenderJob) -> Work:
    clips = {layer.clip.index: layer.clip for chunk in job.chunks for layer in chunk.layers}
    stages = [job.stage_of(clip) for clip in clips.values()]
    return work_of(
        [len(chunk.frames) for chunk in job.chunks],
        clips.values(),
        network=not all(isinstance(stage, PlainResampler) for stage in stages),
        device=job.upscaler.device,
        encoder=job.encoder,
    )
