"""Networks by OpenVINO, against the same by torch."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
import torch

from engine.errors import UpscalerError
from engine.upscale.inference import Precision, Runner, best_precision
from engine.upscale.load import load_stage
from engine.upscale.models import model_named
from engine.upscale.network import Network, load_network
from engine.upscale.network_stage import NetworkStage
from engine.upscale.options import NetworkOptions
from tests.engine.upscale.material import psnr_db, real_weights
from tests.engine.upscale.test_network import SMALL, seeded
from tests.engine.upscale.test_stage import TINY, Nearest, apart, crops, pictures, stage

openvino = pytest.importorskip("openvino", reason="openvino is not installed (extra 'openvino')")

from engine.upscale import load  # noqa: E402
from engine.upscale.openvino_network import KEPT_SIZES, OpenVinoNetwork, graph_of  # noqa: E402

CPU = torch.device("cpu")


def by_openvino(network: Network, precision: Precision, at_once: int = 1) -> OpenVinoNetwork:
    return OpenVinoNetwork(graph_of(network), network.shape.scale, "CPU", precision, at_once)


def some_images(count: int = 1, height: int = 20, width: int = 28) -> torch.Tensor:
    torch.manual_seed(3)
    return torch.rand(count, 3, height, width)


@pytest.mark.parametrize("name", SMALL)
def test_every_network_of_ours_is_that_of_torch(name: str) -> None:
    network, images = seeded(SMALL[name]), some_images(2)
    made = by_openvino(network, Precision.FP32)(images)
    assert psnr_db(made, network(images)) >= 110


@pytest.mark.parametrize("real", [False, True], ids=["seeded", "real weights"])
def test_in_bfloat16_it_is_near_float32(real: bool) -> None:
    if "BF16" not in openvino.Core().get_property("CPU", "OPTIMIZATION_CAPABILITIES"):
        pytest.skip("this CPU does not compute in bfloat16")
    network = load_network(real_weights("general")) if real else seeded(SMALL["compact"])
    images = some_images(height=32, width=48)
    made = by_openvino(network, Precision.BF16)(images)
    assert psnr_db(made, network(images)) >= 48


def test_more_sizes_than_are_kept_by_several_threads_at_once() -> None:
    network = seeded(SMALL["compact"])
    compiled = by_openvino(network, Precision.FP32, at_once=2)
    images = [some_images(height=16 + 2 * (k % (KEPT_SIZES + 2))) for k in range(24)]
    with ThreadPoolExecutor(4) as pool:
        for image, made in zip(images, pool.map(compiled, images), strict=True):
            assert psnr_db(made, network(image)) >= 110


def test_pictures_by_openvino_are_those_by_torch() -> None:
    network = seeded(TINY)
    runner = Runner(network, CPU, Precision.FP32, compiled=by_openvino(network, Precision.FP32))
    found = pictures(NetworkStage(runner), crops(3))
    assert apart(found, pictures(stage(network), crops(3))) == 0
    assert not runner.events


def test_a_spec_that_says_openvino_runs_on_it(tmp_path: Path) -> None:
    path = tmp_path / "tiny.pth"
    torch.save(seeded(TINY).module.state_dict(), path)
    options = NetworkOptions(model_path=path)
    model = model_named("realesr-general-x4v3")
    weights = load.checkpoint_digest(model, options)
    loaded = load_stage(model.name, "openvino", weights, "fp32", options)
    assert isinstance(loaded._runner._fast, OpenVinoNetwork)
    assert apart(pictures(loaded, crops(2)), pictures(stage(seeded(TINY)), crops(2))) == 0


def test_a_network_that_is_not_ours_is_computed_by_torch_and_that_is_said() -> None:
    runner = load._openvino_runner(Network(TINY, Nearest(4)), "CPU", Precision.BF16)
    assert runner.events == [
        "OpenVINO runs SRVGGNetCompact and RRDBNet only: computed by torch on the CPU"
    ]
    assert runner.precision is best_precision(CPU)
    assert torch.equal(runner(some_images()), Nearest(4)(some_images().to(runner.precision.dtype)))


def test_what_openvino_cannot_run_is_an_error_that_says_so() -> None:
    network = seeded(SMALL["compact"])
    nowhere = OpenVinoNetwork(graph_of(network), network.shape.scale, "GPU.77", Precision.FP16, 1)
    with pytest.raises(UpscalerError, match=r"^OpenVINO cannot run it on GPU\.77: "):
        nowhere(some_images())
