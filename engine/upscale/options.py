"""How a user may change the way a network runs. A value only."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True, slots=True)
class NetworkOptions:
    """What a user may set for a network."""

    model_path: Path | None = None
    """A checkpoint to use instead of the official file of the model."""
    denoise: float = 1.0
    """1 to 0, for realesr-general-x4v3: how much noise is removed."""
    batch: int | None = None
    """Pictures at a time; by default what memory allows."""
    precision: str | None = None
    """fp32, fp16, bf16; by default what suits the device."""
    compile: str | None = None
    """tensorrt; by default torch runs the network as it is."""
    on_download: Callable[[int, int], None] | None = None
    """Called with the bytes done and the bytes in all while weights are downloaded."""
