"""Where a network can run on this machine: each device is asked, and says why it cannot."""

from __future__ import annotations

import platform
from importlib.util import find_spec
from pathlib import Path
from typing import NamedTuple
from warnings import catch_warnings, simplefilter

from engine.errors import UpscalerError

OPENVINO = "openvino"
TENSORRT = "tensorrt"
DEVICES = ("auto", "cpu", "cuda", "mps", OPENVINO, f"{OPENVINO}:GPU")

_NVIDIA_DEVICES = ("/dev/nvidiactl", "/dev/dxg", "/proc/driver/nvidia")
"""Where Linux, and Linux under Windows, mostly shows an NVIDIA driver."""


class ChosenDevice(NamedTuple):
    """A device, and why it."""

    name: str
    """As torch spells it; `openvino` for a CPU by OpenVINO, and `openvino:GPU`."""
    why: str


def choose_device(name: str, *, plain_network: bool = True) -> ChosenDevice:
    """The device of that name; `auto` takes the fastest that is here.

    That is CUDA, else Apple's GPU, else OpenVINO where it computes in bfloat16, else the CPU.
    `plain_network`: an official network at the default precision, as OpenVINO is good for. Raises
    `UpscalerError` for a name that is not known, or whose device is not here.
    """
    if name not in DEVICES:
        raise UpscalerError(f"there is no device {name!r}; there are {', '.join(DEVICES)}")
    if find_spec("torch") is None:
        raise UpscalerError("networks need torch: pip install 'framestream[upscale]'")
    if name != "auto":
        if (lack := lack_of(name)) is not None:
            raise UpscalerError(f"device {name}: {lack}")
        return ChosenDevice(name, f"device {name} asked for")
    for fast in ("cuda", "mps"):
        if lack_of(fast) is None:
            return ChosenDevice(fast, f"there is a device {fast}")
    lack = _lack_of_bfloat16() if plain_network else "is for official networks at their precision"
    if lack is None:
        return ChosenDevice(OPENVINO, "OpenVINO computes in bfloat16 on this CPU")
    return ChosenDevice("cpu", f"no GPU here; OpenVINO {lack}")


def check_compiler(name: str | None, device: str) -> None:
    """Raises `UpscalerError` where networks on the device are not compiled by what was asked for.

    None: nothing was.
    """
    if name is None:
        return
    if name != TENSORRT:
        raise UpscalerError(f"there is no compiler {name!r}; there is {TENSORRT}")
    if device != "cuda":
        raise UpscalerError(f"TensorRT compiles for device cuda, not for {device}")
    if find_spec("tensorrt") is None:
        raise UpscalerError("TensorRT is not installed: pip install 'framestream[tensorrt]'")


def quick_lack_of_cuda() -> str | None:
    """Why there is no CUDA here, or None where there is. A plain look spares loading torch.

    A machine may hide its GPU from that look: for who asks for CUDA by name, torch is asked.
    """
    if not any(Path(device).exists() for device in _NVIDIA_DEVICES):
        return "no CUDA device here"  # and no need to load torch, which takes a second
    if find_spec("torch") is None:
        return "torch is not installed"
    return lack_of("cuda")


def openvino_target(device: str) -> str | None:
    """What OpenVINO calls a device of it; None for a device of torch."""
    name, _, target = device.partition(":")
    return (target or "CPU") if name == OPENVINO else None


def lack_of(device: str) -> str | None:
    """Why a device other than `auto` is not here, or None where it is."""
    if device == "cuda":
        return _lack_of_cuda()
    if device == "mps":
        return _lack_of_mps()
    if (target := openvino_target(device)) is not None:
        return _lack_of_openvino(target)
    return None


def _lack_of_cuda() -> str | None:
    """torch's own reason."""
    import torch

    with catch_warnings():
        simplefilter("ignore")  # it warns of a driver that is too old, and says so when asked again
        if torch.cuda.is_available():
            return None
        try:
            torch.cuda.init()  # type: ignore[no-untyped-call]
        except (RuntimeError, AssertionError) as error:
            why = str(error).partition("\n")[0]
            return f"torch {torch.__version__} has no use of it: {why}"
    return "torch finds no CUDA device"


def _lack_of_mps() -> str | None:
    if platform.system() != "Darwin":
        return "is for Apple machines"
    import torch

    if not torch.backends.mps.is_built():
        return f"torch {torch.__version__} is built without it"
    return None if torch.backends.mps.is_available() else "torch finds no GPU of Apple's"


def _lack_of_openvino(target: str) -> str | None:
    if find_spec("openvino") is None:
        return "OpenVINO is not installed: pip install 'framestream[openvino]'"
    from openvino import Core

    found: list[str] = Core().available_devices
    if target in {name.partition(".")[0] for name in found}:
        return None
    return f"OpenVINO finds {', '.join(found) or 'no device'}"


def _lack_of_bfloat16() -> str | None:
    """Why OpenVINO is not the faster way on this CPU.

    In bfloat16 it took 0.5 to 0.95 of torch's time on a core with AMX; elsewhere it was not
    measured. What it says of the CPU decides, not a trial: a machine always gives the same pixels.
    """
    if find_spec("openvino") is None:
        return "is not installed"
    from openvino import Core

    capabilities: list[str] = Core().get_property("CPU", "OPTIMIZATION_CAPABILITIES")
    return None if "BF16" in capabilities else "does not compute in bfloat16 on this CPU"
