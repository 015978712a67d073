"""Which ways to the same pictures in less time are taken: all, but where one is measured.

`bench/gpu.py` leaves them out one by one on the same device.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Tuning:
    """Each may change a picture by one code at most, and only on a GPU, unless it says so."""

    fused_activations: bool = True
    """The bias and the activation behind a convolution are one kernel on CUDA."""
    half_results: bool = True
    """What a network gives in float16 stays so until it is resampled."""
    banded_resampling: bool = True
    """Products of small blocks along the band of weights, and colours after it."""
    gathered_tables: bool = True
    """The small arrays of a batch go up in one copy. Changes no picture."""
    batches_ahead: int = 2
    """Batches that are begun on CUDA before the first is waited for. Changes no picture."""
    blocking_waits: bool = True
    """A thread that waits for CUDA sleeps, and leaves its core to others. Changes no picture."""


TUNED = Tuning()
"""All of them."""
