"""Tells a lack of memory from all other errors, whichever library reports it.

Only torch's own allocator raises `torch.OutOfMemoryError`. The libraries beneath it allocate memory
of their own, and torch passes on what they say as a `RuntimeError`.
"""

from __future__ import annotations

import torch

OUT_OF_MEMORY_TEXTS = (
    # torch's allocator; the CUDA runtime, for kernels and for pinned host memory; FFmpeg's
    # CUDA_ERROR_OUT_OF_MEMORY
    "out of memory",
    "out_of_memory",
    # cuBLAS and cuDNN, which create their handles and workspaces at the first call
    "cublas_status_alloc_failed",
    "cublas_status_not_initialized",
    "cudnn_status_alloc_failed",
    "cudnn_status_not_initialized",
    "cudnn_status_internal_error",  # version 9 adds _DEVICE_ALLOCATION_FAILED or _HOST_...
    # torch tries one cuDNN plan after the other, and hides that each lacked memory
    "unable to find an engine to execute this computation",
    "cannot allocate memory",  # the system's own text
    "can't allocate memory",  # torch's allocator for host memory
)
"""What such errors say, in lower case."""


def is_out_of_memory(error: BaseException) -> bool:
    """Whether the error says that a device, or the host, has not enough memory.

    Some of these texts have other causes, too. They then come again with a smaller batch, down to
    the smallest, and the last one is raised.
    """
    if isinstance(error, (torch.OutOfMemoryError, MemoryError)):
        return True
    text = str(error).lower()
    return isinstance(error, (RuntimeError, OSError)) and any(
        each in text for each in OUT_OF_MEMORY_TEXTS
    )


def first_line(error: BaseException) -> str:
    """What an error says, without the advice of many lines that torch adds."""
    return str(error).partition("\n")[0]
