"""Other people's networks by spandrel itself: the same pictures as its own call gives."""

from __future__ import annotations

import importlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from warnings import catch_warnings, simplefilter

import pytest
import torch

from engine.errors import UpscalerError
from engine.upscale.choice import choose_upscaler
from engine.upscale.network import CompactShape, load_network
from engine.upscale.options import NetworkOptions
from engine.upscale.other_networks import load_user_network, network_of_descriptor
from tests.engine.upscale.material import real_weights
from tests.engine.upscale.others import by_descriptor, installed_spandrel, unknown_checkpoint
from tests.engine.upscale.seeded import noise, seeded_module
from tests.engine.upscale.test_stage import apart, crops, pictures


@pytest.fixture(scope="module")
def spandrel() -> Iterator[Any]:
    with installed_spandrel() as package:
        yield package


TINY: dict[str, dict[str, Any]] = {
    "SPAN": {"num_in_ch": 3, "num_out_ch": 3, "feature_channels": 8, "upscale": 2},
    "DITN": {
        "dim": 12, "ITL_blocks": 1, "SAL_blocks": 1, "UFONE_blocks": 1, "upscale": 3,
        "patch_size": 8,
    },
    "CRAFT": {"embed_dim": 12, "depths": [2], "num_heads": [2], "upscale": 2},
    "SwinIR": {
        "depths": [2], "embed_dim": 12, "num_heads": [2], "window_size": 8, "mlp_ratio": 2,
        "upscale": 2, "upsampler": "pixelshuffledirect", "img_range": 1.0,
    },
    "RCAN": {"scale": 2, "n_resgroups": 1, "n_resblocks": 1, "n_feats": 16},
}  # fmt: skip
"""Small networks of other architectures: of blocks of 1, 8 and 16 pixels, one that should not be
tiled, and one that changes its input."""


@pytest.fixture(params=TINY)
def other(request: pytest.FixtureRequest, spandrel: Any, tmp_path: Path) -> Path:
    """A checkpoint with seeded weights."""
    name = str(request.param)
    family = importlib.import_module(f"{spandrel.__name__}.architectures.{name}")
    torch.manual_seed(0)
    with catch_warnings():
        simplefilter("ignore")  # of weights that are empty in so small a network
        module = getattr(family, name)(**TINY[name])
    path = tmp_path / f"{name}.pth"
    torch.save({"params_ema": module.state_dict()}, path)
    return path


def described(spandrel: Any, path: Path) -> Any:
    """By spandrel's own loader, from the file."""
    with catch_warnings():
        simplefilter("ignore")
        return spandrel.ModelLoader().load_from_file(path)


def test_other_architectures_give_what_spandrel_gives(spandrel: Any, other: Path) -> None:
    network, descriptor = load_user_network(other), described(spandrel, other)
    multiple = network.shape.multiple
    assert multiple == descriptor.size_requirements.multiple_of
    rgb = noise(1, 3 * multiple + 16 // multiple * multiple, 4 * multiple, batch=2)
    wanted = torch.cat([descriptor(image.clone()) for image in torch.split(rgb, 1)])
    assert wanted.std() > 0.01
    assert torch.equal(network(rgb), wanted)


def test_the_stream_of_other_architectures(spandrel: Any, other: Path) -> None:
    given = crops(2, of_each=2)
    upscaler = choose_upscaler(
        "realesrgan", "cpu", NetworkOptions(model_path=other, precision="fp32")
    )
    descriptor = described(spandrel, other)
    assert (
        apart(pictures(upscaler.stage_for(2).load(), given), by_descriptor(descriptor, given)) <= 1
    )


@pytest.mark.parametrize("name", ["animevideov3", "general"])
def test_official_weights_give_what_spandrel_gives(spandrel: Any, name: str) -> None:
    path = real_weights(name)
    descriptor = described(spandrel, path)
    assert descriptor.architecture.name == "RealESRGAN Compact"
    network = load_network(path)
    assert isinstance(network.shape, CompactShape) and network.shape.scale == descriptor.scale
    rgb = noise(2, 24, 20) / 4 + 0.4
    assert float((network(rgb).clamp(0, 1) - descriptor(rgb)).abs().max()) <= 1e-4
    by_spandrel = network_of_descriptor(descriptor)
    assert float((by_spandrel(rgb) - descriptor(rgb)).abs().max()) == 0


@pytest.mark.usefixtures("spandrel")
def test_safetensors(tmp_path: Path) -> None:
    save_file = importlib.import_module("safetensors.torch").save_file
    shape = CompactShape(features=8, inner_convs=1, scale=2)
    state = seeded_module(shape, 1).state_dict()
    save_file(state, tmp_path / "ours.safetensors")
    network = load_user_network(tmp_path / "ours.safetensors")
    assert network.shape == shape
    assert torch.equal(network.module.state_dict()["body.0.bias"], state["body.0.bias"])
    (tmp_path / "not.safetensors").write_bytes(b"not at all")
    with pytest.raises(UpscalerError, match="not a checkpoint of safetensors"):
        load_user_network(tmp_path / "not.safetensors")


@pytest.mark.usefixtures("spandrel")
def test_what_nobody_knows_says_so(tmp_path: Path) -> None:
    path = unknown_checkpoint(tmp_path)
    with pytest.raises(
        UpscalerError, match=r"neither .* nor does spandrel know its network"
    ) as caught:
        load_user_network(path)
    assert "\n" not in str(caught.value)


@pytest.mark.usefixtures("spandrel")
def test_a_network_with_a_weight_missing_says_so(tmp_path: Path) -> None:
    state = seeded_module(CompactShape(features=8, inner_convs=1, scale=2), 1).state_dict()
    del state["body.2.bias"]
    torch.save(state, tmp_path / "net.pth")
    with pytest.raises(
        UpscalerError, match=r"body\.2\.bias is missing.*; nor can spandrel load it"
    ):
        load_user_network(tmp_path / "net.pth")
