"""The app on Modal: its name, and what its functions are given to run with."""

from __future__ import annotations

import os

import modal

from modal_functions.images import cpu_image, gpu_image
from modal_functions.protocol import app_name

APP_NAME = app_name()

GPU = "T4"
COMPILE = os.environ.get("FRAMESTREAM_COMPILE") or None
"""What compiles networks: `tensorrt` or nothing, as is said where the app is deployed."""

_ENVIRONMENT = {"MODAL_APP_NAME": APP_NAME, "FRAMESTREAM_COMPILE": COMPILE or ""}
GPU_IMAGE = gpu_image(_ENVIRONMENT, GPU, tensorrt=COMPILE == "tensorrt")
CPU_IMAGE = cpu_image(_ENVIRONMENT)

app = modal.App(APP_NAME, secrets=[modal.Secret.from_name("r2-credentials")])

GPU_CORES = 4
"""With these, decoding, sampling and libx264 keep up with a T4. With Modal's default of an eighth
of a core it would wait."""
GPU_MEMORY_MIB = 8192
CPU_CORES = 2
CPU_MEMORY_MIB = 4096

CLIP_S = CHUNKS_S = 4 * 3600
CONCATENATE_S = EXPORT_S = 24 * 3600
"""How long each function may take before Modal stops it.

A day is the most that Modal allows. A container with a GPU has less, because one that hangs is
billed until then. A call that is stopped leaves its finished chunks in the cache, and the next call
goes on from there, so that no work is too long.
"""
IDLE_S = 20
"""How long an idle renderer waits for another call before its container is given back."""
