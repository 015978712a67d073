"""From a model's name to a stage that runs it: weights, network, precision. Needs torch."""

from __future__ import annotations

import hashlib
from pathlib import Path

import torch

from engine.errors import UpscalerError
from engine.upscale.inference import Precision, Runner, best_precision
from engine.upscale.models import Model, model_named
from engine.upscale.network import Network, blend_denoise, load_network
from engine.upscale.options import Settings
from engine.upscale.realesrgan import RealESRGAN
from engine.upscale.weights import weights_path


def load_stage(model: Model, device: torch.device, settings: Settings) -> RealESRGAN:
    """The model on the device, ready to run. Raises `UpscalerError`."""
    path = weights_path(model, model_path=settings.model_path, on_progress=settings.on_download)
    network = load_network(path)
    weights = _digest(path)
    if settings.denoise != 1:
        network = _less_denoised(network, model, settings)
        weights += f":denoise={settings.denoise:g}"
    runner = Runner(network, device, _precision(settings.precision, device))
    return RealESRGAN(runner, weights=weights, batch=settings.batch)


def _less_denoised(network: Network, model: Model, settings: Settings) -> Network:
    if model.companion is None or settings.model_path is not None:
        raise UpscalerError("denoise strength is for the official realesr-general-x4v3 only")
    path = weights_path(model_named(model.companion), on_progress=settings.on_download)
    return blend_denoise(network, load_network(path), settings.denoise)


def _precision(name: str | None, device: torch.device) -> Precision:
    if name is None:
        return best_precision(device)
    try:
        return Precision(name)
    except ValueError:
        names = ", ".join(Precision)
        raise UpscalerError(f"there is no precision {name!r}; there are {names}") from None


def _digest(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()[:16]
