"""Where a network runs, and what a user reads of a device that is not here."""

from __future__ import annotations

import platform
import sys
from pathlib import Path
from types import ModuleType, SimpleNamespace

import pytest
import torch

from engine.errors import UpscalerError
from engine.upscale import devices
from engine.upscale.choice import choose_upscaler
from engine.upscale.devices import choose_device, openvino_target
from engine.upscale.load import precision_on
from engine.upscale.options import NetworkOptions
from engine.upscale.spec import NetworkSpec


@pytest.fixture
def nothing_here(monkeypatch: pytest.MonkeyPatch) -> pytest.MonkeyPatch:
    """A machine with a plain CPU: no NVIDIA device in sight, no OpenVINO."""
    monkeypatch.setattr(devices, "_NVIDIA_DEVICES", ())
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(devices, "find_spec", lambda name: None if name == "openvino" else name)
    return monkeypatch


def with_openvino(
    monkeypatch: pytest.MonkeyPatch, *, capabilities: list[str], found: list[str]
) -> None:
    """An OpenVINO that says so of the machine."""
    module = ModuleType("openvino")
    core = SimpleNamespace(
        available_devices=found, get_property=lambda _device, _name: capabilities
    )
    vars(module)["Core"] = lambda: core
    monkeypatch.setitem(sys.modules, "openvino", module)
    monkeypatch.setattr(devices, "find_spec", lambda name: name)


def test_cuda_by_name_is_there_where_torch_says_so(nothing_here: pytest.MonkeyPatch) -> None:
    """A container or a Jetson may have no device file where one looks for it."""
    nothing_here.setattr(torch.cuda, "is_available", lambda: True)
    assert choose_device("cuda").name == "cuda"
    assert choose_upscaler("auto", "cuda").device == "cuda"
    assert choose_device("auto").name == "cuda"


@pytest.mark.parametrize(
    ("error", "why"),
    [
        (AssertionError("Torch not compiled with CUDA enabled"), "Torch not compiled with CUDA"),
        (RuntimeError("Found no NVIDIA driver on your system.\nMore."), "Found no NVIDIA driver"),
    ],
    ids=["a build for CPUs", "no driver"],
)
def test_without_cuda_the_error_has_the_reason_of_torch(
    nothing_here: pytest.MonkeyPatch, error: Exception, why: str
) -> None:
    def init() -> None:
        raise error

    nothing_here.setattr(torch.cuda, "init", init)
    with pytest.raises(UpscalerError, match=f"^device cuda: torch .*: {why}[^\n]*$"):
        choose_upscaler("realesr-general-x4v3", "cuda")


def test_auto_looks_for_a_driver_before_it_loads_torch(nothing_here: pytest.MonkeyPatch) -> None:
    def asked(device: str) -> None:
        pytest.fail(f"torch was asked for {device}")

    nothing_here.setattr(devices, "lack_of", asked)
    upscaler = choose_upscaler("auto")
    assert (upscaler.name, upscaler.device) == ("none", "cpu")
    assert upscaler.why.startswith("auto: no CUDA device here, so plain resampling; ask for")


def test_auto_takes_no_network_on_a_cpu_that_is_asked_for(nothing_here: pytest.MonkeyPatch) -> None:
    nothing_here.setattr(torch.cuda, "is_available", lambda: True)
    assert choose_upscaler("auto", "cpu").why.startswith("auto: a network is slow on device cpu")


def test_apples_gpu_is_taken_where_there_is_one(nothing_here: pytest.MonkeyPatch) -> None:
    assert choose_device("auto") == ("cpu", "no GPU here; OpenVINO is not installed")
    nothing_here.setattr(platform, "system", lambda: "Linux")
    with pytest.raises(UpscalerError, match="device mps: is for Apple machines"):
        choose_device("mps")
    nothing_here.setattr(platform, "system", lambda: "Darwin")
    nothing_here.setattr(torch.backends.mps, "is_built", lambda: True)
    nothing_here.setattr(torch.backends.mps, "is_available", lambda: True)
    assert choose_device("mps").name == choose_device("auto").name == "mps"
    assert precision_on("mps", None) == "fp32"
    nothing_here.setattr(torch.backends.mps, "is_available", lambda: False)
    with pytest.raises(UpscalerError, match="device mps: torch finds no GPU of Apple's"):
        choose_device("mps")


def test_openvino_is_taken_where_it_computes_in_bfloat16(nothing_here: pytest.MonkeyPatch) -> None:
    with_openvino(nothing_here, capabilities=["FP32", "BF16"], found=["CPU"])
    assert choose_device("auto") == ("openvino", "OpenVINO computes in bfloat16 on this CPU")
    named = choose_upscaler("realesr-general-x4v3")
    assert (named.device, named.why) == (
        "openvino",
        "asked for: OpenVINO computes in bfloat16 on this CPU",
    )
    assert choose_device("cpu").name == "cpu"
    for options in (NetworkOptions(precision="fp32"), NetworkOptions(model_path=Path("x"))):
        assert choose_upscaler("realesr-general-x4v3", options=options).device == "cpu"
    with_openvino(nothing_here, capabilities=["FP32"], found=["CPU"])
    assert choose_device("auto").name == "cpu"
    assert choose_device("openvino").name == "openvino"


def test_openvino_by_name_is_refused_where_it_is_not(nothing_here: pytest.MonkeyPatch) -> None:
    with pytest.raises(UpscalerError, match=r"device openvino: OpenVINO is not installed: pip ins"):
        choose_device("openvino")
    with_openvino(nothing_here, capabilities=[], found=["CPU"])
    with pytest.raises(UpscalerError, match="device openvino:GPU: OpenVINO finds CPU"):
        choose_device("openvino:GPU")
    with_openvino(nothing_here, capabilities=[], found=["CPU", "GPU.0", "GPU.1"])
    assert choose_device("openvino:GPU").name == "openvino:GPU"
    assert openvino_target("openvino:GPU") == "GPU"


def test_the_same_weights_have_another_key_wherever_their_pixels_differ() -> None:
    def key(device: str) -> str:
        return NetworkSpec("any", device, "weights", "bf16", NetworkOptions()).key

    assert len({key(each) for each in ("cpu", "cuda", "openvino", "openvino:GPU")}) == 4
    assert key("cuda:0") == key("cuda:1")
