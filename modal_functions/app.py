"""The app on Modal: its name, and what its functions are given to run with."""

from __future__ import annotations

import os

import modal

from modal_functions.images import cpu_image, gpu_image

APP_NAME = os.environ.get("MODAL_APP_NAME", "reel-ballers-video")
"""The name under which a backend looks the functions up."""

_ENVIRONMENT = {"MODAL_APP_NAME": APP_NAME}
GPU_IMAGE, CPU_IMAGE = gpu_image(_ENVIRONMENT), cpu_image(_ENVIRONMENT)

app = modal.App(APP_NAME, secrets=[modal.Secret.from_name("r2-credentials")])

GPU = "T4"
GPU_CORES = 4
"""Decoding, sampling and libx264 keep up with a T4 on these; Modal's default of an eighth of a core
would leave it waiting."""
GPU_MEMORY_MIB = 8192
CPU_CORES = 2
CPU_MEMORY_MIB = 4096

CLIP_S = 900
CONCATENATE_S = 600
CHUNKS_S = 3600
EXPORT_S = 6 * 3600
"""How long each may take before Modal stops it."""
IDLE_S = 20
"""How long a renderer waits for more before its container is given back."""
