"""What an export did, as a value that is written as JSON."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from engine.destination import output_file
from engine.files import whole_file
from engine.pipeline.chunk_store import ChunkRecord
from engine.pipeline.executors import Executor, RenderedChunk
from engine.pipeline.job import RenderJob
from engine.timeline.chunks import Chunk
from engine.timeline.plan import Plan
from engine.version import VERSION


@dataclass(frozen=True, slots=True)
class ChunkReport:
    """One chunk of an export."""

    start_frame: int
    stop_frame: int
    digest: str
    frame_hash: str | None
    """Hash of the frames given to the encoder, in order; None for a chunk whose packets were
    copied."""
    resumed: bool
    """True where an earlier run had rendered it."""
    render_s: float
    """Wall seconds it took, in whichever run that was."""
    route: tuple[str, ...]
    """Where its frames were decoded and encoded, and why they were copied; empty where no device
    took part."""
    failures: tuple[str, ...]
    """Why earlier attempts at it in this run failed."""


@dataclass(frozen=True, slots=True)
class Report:
    """A finished export: what was made, with what, why, and where the time went."""

    output: str
    engine_version: str
    duration_s: float
    frames: int
    frames_rendered: int
    frames_resumed: int
    source_frames: int
    """Distinct source frames the whole export shows."""
    source_frames_decoded: int
    """Frames that decoders put out in this run, those on the way to a wanted one included."""
    source_bytes_read: int
    """Bytes of the sources that this run downloaded from a store: their indexes, picture and sound.
    Files on a disk do not count."""
    device: str
    upscaler: str
    upscaler_why: str
    encoder: str
    encoder_why: str
    encoder_options: dict[str, str]
    key_interval: int
    """Frames from one key frame of a rendered chunk to the next, counted from its first."""
    executor: str
    executor_why: str
    workers: int
    """Chunks rendered at the same time, at most."""
    retries: int
    """Attempts at a chunk that failed and were made good."""
    wall_s: float
    frames_per_s: float
    """Frames rendered in this run over the whole run's wall time."""
    stage_s: dict[str, float]
    """Seconds each stage was at work; stages overlap."""
    bottleneck: str
    warnings: tuple[str, ...]
    chunks: tuple[ChunkReport, ...]

    def write(self, path: Path | str) -> None:
        """Writes the report as JSON; see `write_report`."""
        write_report(asdict(self), path)


def write_report(facts: Mapping[str, Any], path: Path | str) -> None:
    """Writes a report as JSON, whole or not at all. Raises what `output_file` raises."""
    with whole_file(output_file(path)) as unfinished:
        text = json.dumps(facts, indent=2, ensure_ascii=False) + "\n"
        # a name that is not Unicode text holds what JSON writes as an escape
        unfinished.write_text(text, encoding="utf-8", errors="backslashreplace")


@dataclass(frozen=True, slots=True)
class FinishedChunks:
    """Every chunk of an export, by digest."""

    found: Mapping[str, ChunkRecord]
    """From an earlier run."""
    rendered: Mapping[str, RenderedChunk]
    """In this run."""

    def record(self, chunk: Chunk) -> ChunkRecord:
        """What is known of a chunk, found or rendered."""
        rendered = self.rendered.get(chunk.digest)
        return rendered.record if rendered else self.found[chunk.digest]

    def report(self, chunk: Chunk) -> ChunkReport:
        """What there is to say of a chunk at its place in the export."""
        rendered, record = self.rendered.get(chunk.digest), self.record(chunk)
        return ChunkReport(
            chunk.frames.start,
            chunk.frames.stop,
            chunk.digest,
            record.frame_hash,
            resumed=rendered is None,
            render_s=record.render_s,
            route=record.route,
            failures=rendered.failures if rendered else (),
        )


def export_report(
    plan: Plan,
    job: RenderJob,
    executor: Executor,
    chunks: FinishedChunks,
    *,
    output: Path,
    source_bytes_read: int,
    wall_s: float,
    stage_s: Mapping[str, float],
    warnings: Sequence[str],
) -> Report:
    """The report of an export of `job` that took `wall_s` and is finished.

    `source_bytes_read` are those beside the rendered chunks' own.
    """
    reports = [chunks.report(chunk) for chunk in job.chunks]
    resumed = sum(each.stop_frame - each.start_frame for each in reports if each.resumed)
    rendered = plan.frame_count - resumed
    stages = {name: round(seconds, 3) for name, seconds in stage_s.items()}
    return Report(
        output=str(output),
        engine_version=VERSION,
        duration_s=float(plan.duration_s),
        frames=plan.frame_count,
        frames_rendered=rendered,
        frames_resumed=resumed,
        source_frames=plan.source_frame_count(),
        source_frames_decoded=sum(each.record.decoded_frames for each in chunks.rendered.values()),
        source_bytes_read=source_bytes_read
        + sum(each.record.source_bytes_read for each in chunks.rendered.values()),
        device=job.upscaler.device,
        upscaler=job.upscaler.name,
        upscaler_why=job.upscaler.why,
        encoder=job.encoder.name,
        encoder_why=job.encoder.why,
        encoder_options=dict(job.encoder.options),
        key_interval=job.encoder.key_interval,
        executor=executor.name,
        executor_why=executor.why,
        workers=executor.workers,
        retries=sum(len(each.failures) for each in chunks.rendered.values()),
        wall_s=round(wall_s, 3),
        frames_per_s=round(rendered / wall_s, 3),
        stage_s=stages,
        bottleneck=max(stages, key=stages.__getitem__),
        warnings=tuple(warnings),
        chunks=tuple(reports),
    )
