"""What this machine can do: each encoder, decoder and network is tried."""

from __future__ import annotations

import io
import platform
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from fractions import Fraction
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path

import av
from av.codec.hwaccel import HWAccel
from av.error import FFmpegError

from engine.errors import EncoderError
from engine.geometry import Size
from engine.machine import this_machine
from engine.media.encoders import ENCODERS, Encoder, choose_encoder, refusal_of
from engine.upscale.choice import choose_upscaler
from engine.upscale.devices import OPENVINO, choose_device, lack_of
from engine.upscale.models import MODELS
from engine.upscale.weights import found_weights

_TRIAL_SIZE = Size(1080, 1920)
_TRIAL_FPS = Fraction(30)


@dataclass(frozen=True, slots=True)
class Finding:
    """One fact about this machine. `works` is None for a fact that cannot pass or fail."""

    what: str
    works: bool | None
    detail: str


def findings(folder: Path) -> Iterator[Finding]:
    """Tries everything that an export needs. `folder` is where its output would go."""
    yield Finding("framestream", None, version("framestream"))
    yield Finding("Python", None, f"{platform.python_version()} on {platform.platform()}")
    machine = this_machine()
    yield Finding("processors", None, f"{machine.cores:g}")
    yield Finding("memory", None, f"{machine.memory_bytes >> 20} MiB available")
    yield Finding("PyAV", None, f"{av.__version__} with FFmpeg {av.ffmpeg_version_info}")
    yield from (_encoder(name) for name in ENCODERS)
    yield _auto_encoder()
    yield _nvdec()
    yield from _upscaling()
    yield _space(folder)


def _encoder(name: str) -> Finding:
    refusal = refusal_of(Encoder(name, (), _TRIAL_SIZE, _TRIAL_FPS, key_interval=1))
    return Finding(name, refusal is None, "opens" if refusal is None else refusal)


def _auto_encoder() -> Finding:
    try:
        encoder = choose_encoder(_TRIAL_SIZE, _TRIAL_FPS)
    except EncoderError as error:
        return Finding("--encoder auto", False, str(error))
    return Finding("--encoder auto", True, f"{encoder.name} ({encoder.why})")


def _nvdec() -> Finding:
    try:
        accelerator = HWAccel("cuda", allow_software_fallback=False)
        with av.open(_tiny_clip(), "r", hwaccel=accelerator) as clip:
            next(clip.decode(video=0))
    except (FFmpegError, RuntimeError, NotImplementedError) as error:
        reason = getattr(error, "strerror", None) or str(error)
        return Finding("NVDEC", False, f"does not open: {reason}")
    return Finding("NVDEC", True, "decodes H.264")


def _tiny_clip() -> io.BytesIO:
    file = io.BytesIO()
    with av.open(file, "w", format="mp4") as container:
        stream = container.add_stream("libx264", rate=30)
        assert isinstance(stream, av.VideoStream)
        stream.width, stream.height, stream.pix_fmt = 256, 256, "yuv420p"
        container.mux(stream.encode(av.VideoFrame(256, 256, "yuv420p")))
        container.mux(stream.encode(None))
    file.seek(0)
    return file


def _upscaling() -> Iterator[Finding]:
    upscaler = choose_upscaler()
    yield Finding("--upscaler auto", None, f"{upscaler.name} ({upscaler.why})")
    if find_spec("torch") is None:
        yield Finding("torch", False, "not installed: pip install 'framestream[upscale]'")
        return
    import torch

    yield Finding("torch", None, torch.__version__)
    lack = lack_of("cuda")
    yield Finding("CUDA", lack is None, lack or torch.cuda.get_device_name())
    for device in ("mps", OPENVINO):
        lack = lack_of(device)
        yield Finding(device, lack is None, lack or "is here")
    chosen = choose_device("auto")
    yield Finding("--device auto", None, f"{chosen.name} ({chosen.why})")
    for model in MODELS.values():
        path = found_weights(model)
        where = f"in {path}" if path else "fetched when first used"
        yield Finding("weights", path is not None, f"{model.name}: {where}")


def _space(folder: Path) -> Finding:
    free_gib = shutil.disk_usage(folder).free / 2**30
    return Finding("free disk", free_gib > 1, f"{free_gib:.1f} GiB in {folder.resolve()}")
