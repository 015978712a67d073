"""Networks by TensorRT, as far as that can be told without it: see `tensorrt_stand_in`."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from importlib import import_module
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from engine.errors import UpscalerError
from engine.geometry import Size
from engine.upscale import devices
from engine.upscale.choice import choose_upscaler
from engine.upscale.inference import Precision
from engine.upscale.load import runner_on
from engine.upscale.network import Network
from engine.upscale.options import NetworkOptions
from engine.upscale.spec import NetworkSpec, stage_document, stage_of_document
from tests.engine.upscale import tensorrt_stand_in as stand_in
from tests.engine.upscale.material import psnr_db
from tests.engine.upscale.test_network import SMALL, seeded

CPU = torch.device("cpu")
BY_TENSORRT = NetworkOptions(compile="tensorrt")


@pytest.fixture
def tensorrt(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Any]:
    """The module that is tested, with the stand-in in the place of TensorRT and of the GPU."""
    monkeypatch.setitem(sys.modules, "tensorrt", stand_in.module())
    monkeypatch.delitem(sys.modules, "engine.upscale.tensorrt_network", raising=False)
    monkeypatch.setattr(stand_in.Builder, "builds", 0)
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda _: "Tesla T4")
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda _: (7, 5))
    stream = SimpleNamespace(cuda_stream=7)
    monkeypatch.setattr(torch.cuda, "current_stream", lambda _: stream)
    tested = import_module("engine.upscale.tensorrt_network")
    monkeypatch.setattr(tested, "user_cache", lambda: tmp_path)
    yield tested
    sys.modules.pop(tested.__name__)


def picture(height: int = 12, width: int = 20) -> torch.Tensor:
    torch.manual_seed(5)
    stand_in.Graph.picture = torch.rand(1, 3, height, width)
    return stand_in.Graph.picture


def run(network: Network, images: torch.Tensor, precision: Precision = Precision.FP32) -> Any:
    """The result, and the events."""
    runner = runner_on(network, "cpu", precision, BY_TENSORRT)
    return runner(images), runner.events


@pytest.mark.usefixtures("tensorrt")
def test_it_is_the_network_of_torch() -> None:
    network = seeded(SMALL["compact"])
    made, events = run(network, picture())
    assert psnr_db(made, network(picture())) >= 110 and not events
    assert stand_in.Builder.builds == 1


def test_in_half_precision_all_weights_are_half(tensorrt: Any) -> None:
    network, graph = seeded(SMALL["compact"]), stand_in.Graph()
    images = picture()
    tensorrt.define(graph, network.module, Size(20, 12), Precision.FP16)
    assert graph.made.dtype == torch.float16
    assert psnr_db(graph.made.float(), network(images)) >= 50


@pytest.mark.usefixtures("tensorrt")
def test_an_engine_is_built_once_and_kept(tmp_path: Path) -> None:
    network = seeded(SMALL["compact"])
    for _ in range(2):
        run(network, picture())
    assert stand_in.Builder.builds == 1
    [file] = (tmp_path / "tensorrt").iterdir()
    file.write_bytes(file.read_bytes()[:-1])
    made, _ = run(network, picture())
    assert stand_in.Builder.builds == 2 and psnr_db(made, network(picture())) >= 110


def test_another_gpu_another_version_or_other_weights_are_another_engine(
    tensorrt: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    def key(seed: int = 1, width: int = 8, precision: Precision = Precision.FP16) -> Any:
        torch.manual_seed(seed)
        network = SMALL["compact"].build()
        return tensorrt.engine_key(network, Size(width, 8), precision, CPU)

    keys = [key(), key(2), key(width=16), key(precision=Precision.FP32)]
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda _: "NVIDIA L4")
    keys.append(key())
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda _: (8, 9))
    keys.append(key())
    monkeypatch.setattr(tensorrt.tensorrt, "__version__", "10.14.0")
    keys.append(key())
    assert len(set(keys)) == len(keys) and key() == keys[-1]


@pytest.mark.usefixtures("tensorrt")
def test_where_nothing_is_built_torch_computes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stand_in.Builder, "refuses", True)
    network = seeded(SMALL["compact"])
    made, events = run(network, picture())
    assert psnr_db(made, network(picture())) >= 110
    assert events == ["TensorRT: it builds no engine; torch computes 20x12"]


def test_many_sizes_are_left_to_torch(tensorrt: Any) -> None:
    network = seeded(SMALL["compact"])
    runner = runner_on(network, "cpu", Precision.FP32, BY_TENSORRT)
    for width in range(16, 16 + 2 * (tensorrt.MOST_SIZES + 3), 2):
        images = picture(width=width)
        assert psnr_db(runner(images), network(images)) >= 110
    assert stand_in.Builder.builds == tensorrt.MOST_SIZES
    assert runner.events == ["TensorRT: more than 3 sizes; torch computes the rest"]


@pytest.mark.usefixtures("tensorrt")
def test_what_it_does_not_run_torch_runs() -> None:
    network = seeded(SMALL["rrdb"])
    images = picture(16, 16)
    made, events = run(network, images)
    assert psnr_db(made, network(images)) >= 110
    assert events == ["TensorRT runs SRVGGNetCompact only: computed by torch"]


def test_where_it_is_not_installed_or_there_is_no_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    def refused(options: NetworkOptions, device: str = "cuda") -> str:
        with pytest.raises(UpscalerError) as caught:
            choose_upscaler("realesr-general-x4v3", device, options)
        return str(caught.value)

    monkeypatch.setattr(devices, "lack_of", lambda _: None)
    monkeypatch.setattr(devices, "find_spec", lambda name: name if name == "torch" else None)
    assert "pip install 'framestream[tensorrt]'" in refused(BY_TENSORRT)
    assert "not for cpu" in refused(BY_TENSORRT, "cpu")
    assert "there is tensorrt" in refused(NetworkOptions(compile="magic"))


def test_its_chunks_are_not_those_of_torch() -> None:
    plain = NetworkSpec("realesr-general-x4v3", "cuda", "w", "fp16", NetworkOptions())
    compiled = NetworkSpec("realesr-general-x4v3", "cuda", "w", "fp16", BY_TENSORRT)
    assert plain.key != compiled.key
    assert stage_of_document(stage_document(compiled)) == compiled
