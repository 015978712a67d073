"""The images of the containers. Evaluated where `modal deploy` runs and again in each container.

The requirements have the ranges of pyproject.toml (a test compares them), except for two that must
fit the machine. av brings FFmpeg 8.1, whose NVENC needs a driver from 570 on. torch is the build
for CUDA 12.8, which has kernels for a T4 (compute capability 7.5) and runs on drivers from 570 on.
Modal's hosts had driver 580 in 2026.
"""

from __future__ import annotations

from pathlib import Path

import modal

PYTHON = "3.12"
TORCH_INDEX = "https://download.pytorch.org/whl/cu128"
TORCH = "torch==2.9.1"
REQUIREMENTS = (
    "av==18.1.0",
    "numpy>=2.0,<3",
    "numba>=0.63,<1",
    "pydantic>=2.12,<3",
    "platformdirs>=4.3,<5",
    "pooch>=1.8,<2",
    "requests>=2.32,<3",
    "xxhash>=3.5,<5",
    "boto3>=1.40,<2",
)

TENSORRT = "tensorrt-cu12>=10.13,<11"
"""Only where the app is deployed with FRAMESTREAM_COMPILE=tensorrt."""

WEIGHTS_FOLDER = "/opt/framestream/weights"
KERNELS_FOLDER = "/opt/framestream/kernels"
_WEIGHTS_SOURCES = {
    "__init__.py",
    "errors.py",
    "user_cache.py",
    "version.py",
    "upscale/__init__.py",
    "upscale/models.py",
    "upscale/weights.py",
}
"""The files of the engine that fetch weights. Only a change of these fetches the weights again."""


def fetch_weights(sha256: dict[str, str]) -> None:
    """Puts the weights of every official model into the image, checked by size and SHA-256.

    `sha256`, by model, is there so that Modal builds this layer again when a hash changes.
    """
    from engine.upscale.models import MODELS
    from engine.upscale.weights import weights_path

    for name, model in MODELS.items():
        assert model.sha256 == sha256[name], "deployed from the same source"
        weights_path(model, folder=Path(WEIGHTS_FOLDER))


def _weights_sha256() -> dict[str, str]:
    from engine.upscale.models import MODELS

    return {name: model.sha256 for name, model in MODELS.items()}


def _fetches_no_weights(path: Path) -> bool:
    return path.as_posix() not in _WEIGHTS_SOURCES


def compile_kernels() -> None:
    """See `kernels.py`, which needs the engine: not everyone who deploys has all of it."""
    from modal_functions import kernels

    kernels.compile_kernels()


def _with_sources(
    image: modal.Image, environment: dict[str, str], engines_for: str | None = None
) -> modal.Image:
    """The image with the project's own code, which comes last since it changes most often.

    The engine is copied and not mounted, so that its kernels are compiled while the image is built,
    for a processor type that every host can run: kernels for another one are compiled again.
    """
    numba = {
        "NUMBA_CACHE_DIR": KERNELS_FOLDER,
        "NUMBA_CPU_NAME": "haswell",  # AVX2
        "NUMBA_CPU_FEATURES": "",
    }
    image = (
        image.env({**numba, **environment})
        .add_local_python_source("engine", copy=True)
        .run_function(compile_kernels)
    )
    if engines_for is not None:
        image = image.run_function(build_engines, gpu=engines_for)
    return image.add_local_python_source("modal_functions")


def build_engines() -> None:
    """Has TensorRT compile the usual network for the usual sizes, on a GPU like those to come."""
    from modal_functions.renderer import RendererState

    RendererState.loaded()


def gpu_image(environment: dict[str, str], gpu: str, *, tensorrt: bool = False) -> modal.Image:
    """The image for rendering: torch, the weights, and the driver's video libraries for NVENC.

    With `tensorrt`, it has TensorRT and its engines for the usual pictures on that GPU.
    """
    image = (
        modal.Image.debian_slim(python_version=PYTHON)
        .uv_pip_install(TORCH, index_url=TORCH_INDEX)
        .uv_pip_install(*REQUIREMENTS, *((TENSORRT,) if tensorrt else ()))
        .add_local_python_source("engine", copy=True, ignore=_fetches_no_weights)
        .run_function(fetch_weights, kwargs={"sha256": _weights_sha256()})
    )
    return _with_sources(
        image,
        {
            "NVIDIA_DRIVER_CAPABILITIES": "compute,utility,video",
            "FRAMESTREAM_WEIGHTS_DIR": WEIGHTS_FOLDER,
            "FRAMESTREAM_DEVICE": "cuda",
            **environment,
        },
        engines_for=gpu if tensorrt else None,
    )


def cpu_image(environment: dict[str, str]) -> modal.Image:
    """The image for planning, joining and copying. Without torch, it starts much faster."""
    image = modal.Image.debian_slim(python_version=PYTHON).uv_pip_install(*REQUIREMENTS)
    return _with_sources(image, environment)
