"""What an export did, as a value that is written as JSON."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from pathlib import Path

from engine.files import whole_file


@dataclass(frozen=True, slots=True)
class ChunkReport:
    """One chunk of an export."""

    start_frame: int
    stop_frame: int
    digest: str
    frame_hash: str
    """Hash of the frames given to the encoder, in order."""
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
    device: str
    upscaler: str
    upscaler_why: str
    encoder: str
    encoder_why: str
    encoder_options: dict[str, str]
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
        """Writes the report as JSON, whole or not at all."""
        with whole_file(Path(path)) as unfinished:
            text = json.dumps(asdict(self), indent=2, ensure_ascii=False) + "\n"
            # a name that is not Unicode text holds what JSON writes as an escape
            unfinished.write_text(text, encoding="utf-8", errors="backslashreplace")
