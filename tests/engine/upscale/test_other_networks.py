"""Other people's networks in the stream, and what is said where spandrel is not installed.

The networks are small ones behind a fake descriptor: it has what spandrel documents of one, and its
call pads and clamps as spandrel's does. See test_spandrel.py for spandrel itself.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from dataclasses import dataclass, field
from enum import Enum
from pathlib import Path
from typing import Any
from warnings import catch_warnings, simplefilter

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from engine.errors import UpscalerError
from engine.geometry import Fit, Framing, Size
from engine.upscale import load
from engine.upscale.inference import Precision, Runner
from engine.upscale.models import X2PLUS
from engine.upscale.network import CompactShape, Network
from engine.upscale.network_stage import NetworkStage
from engine.upscale.options import NetworkOptions
from engine.upscale.other_networks import load_user_network, network_of_descriptor
from engine.upscale.regions import covering
from tests.engine.upscale.others import by_descriptor, unknown_checkpoint
from tests.engine.upscale.seeded import noise, seeded_module
from tests.engine.upscale.test_stage import FRAME, TARGET, apart, crops, pictures
from tests.sources import a_source

CPU = torch.device("cpu")


class Tiling(Enum):
    """The names of spandrel's `ModelTiling`."""

    SUPPORTED = 1
    DISCOURAGED = 2
    INTERNAL = 3


@dataclass
class Sides:
    """spandrel's `SizeRequirements`."""

    minimum: int = 0
    multiple_of: int = 1


@dataclass
class Named:
    """What is used of spandrel's `Architecture`."""

    name: str = "Fake"


class Blocks(nn.Module):
    """A network that only takes whole blocks of pixels, each of which it gives one brightness."""

    def __init__(self, block: int, scale: int) -> None:
        super().__init__()
        self.block, self.scale = block, scale
        self.gain = nn.Parameter(torch.tensor(1.0))
        self.sizes: list[tuple[int, ...]] = []

    def forward(self, rgb: Tensor) -> Tensor:
        self.sizes.append(tuple(rgb.shape))
        assert rgb.is_contiguous() and not any(side % self.block for side in rgb.shape[2:])
        mean = functional.avg_pool2d(rgb, self.block)
        return self.gain * mean.repeat_interleave(self.block * self.scale, 2).repeat_interleave(
            self.block * self.scale, 3
        )


@dataclass
class Fake:
    """A descriptor as spandrel documents it."""

    model: nn.Module
    scale: int = 2
    size_requirements: Sides = field(default_factory=Sides)
    tiling: Tiling = Tiling.SUPPORTED
    supports_half: bool = True
    supports_bfloat16: bool = True
    input_channels: int = 3
    output_channels: int = 3
    purpose: str = "SR"
    architecture: Named = field(default_factory=Named)

    def __call__(self, image: Tensor) -> Tensor:
        """Pads to the size requirements, clamps, and cuts the padding off."""
        assert len(image) == 1
        height, width = image.shape[2:]
        needed = [self._padded(side) - side for side in (width, height)]
        made: Tensor = self.model(functional.pad(image, (0, needed[0], 0, needed[1]), "replicate"))
        return made.clamp_(0, 1)[..., : height * self.scale, : width * self.scale]

    def _padded(self, side: int) -> int:
        multiple = self.size_requirements.multiple_of
        return -(-max(side, self.size_requirements.minimum) // multiple) * multiple


def blocks(block: int = 8, scale: int = 2, **others: Any) -> Fake:
    return Fake(Blocks(block, scale), scale, Sides(0, block), **others)


def sizes_of(network: Network) -> list[tuple[int, ...]]:
    """The inputs that its inner module was given."""
    inner = network.module.model
    assert isinstance(inner, Blocks)
    return inner.sizes


def stage(network: Network, batch: int | None = None) -> NetworkStage:
    return NetworkStage(Runner(network, CPU, Precision.FP32), batch=batch)


def test_what_the_descriptor_says_is_what_is_known() -> None:
    shape = network_of_descriptor(blocks(24, 3, supports_half=False)).shape
    assert (shape.scale, shape.multiple, shape.can_be_tiled) == (3, 24, True)
    assert shape.dtypes == {torch.float32, torch.bfloat16}
    assert not shape.tiles_exactly and shape.bytes_per_pixel is None
    assert not network_of_descriptor(blocks(tiling=Tiling.INTERNAL)).shape.can_be_tiled


@pytest.mark.parametrize("multiple", [1, 4, 7, 24, 64])
def test_regions_have_sides_of_the_network_s_multiple(multiple: int) -> None:
    for x in (0.0, 3.7, 60.2):
        region = covering(np.array([[x, 11.3, 54, 61]]), Size(193, 129), multiple)
        assert region.width % multiple == region.height % multiple == 0
        assert region.width % 2 == region.height % 2 == region.x % 2 == region.y % 2 == 0
        assert region.x <= x and x + 54 <= region.x + region.width
        assert region.y <= 11.3 and region.y + region.height >= 11.3 + 61


@pytest.mark.parametrize("batch", [1, 3])
def test_the_stream_gives_what_the_descriptor_itself_gives(batch: int) -> None:
    """Of every crop: the descriptor called on the whole frame, and its result sampled."""
    fake, given = blocks(8, 2), crops(4)
    network = network_of_descriptor(fake)
    assert apart(pictures(stage(network, batch), given), by_descriptor(fake, given)) <= 1


def test_images_reach_the_descriptor_one_by_one_and_in_whole_blocks() -> None:
    runner = Runner(network_of_descriptor(blocks(24)), CPU, Precision.FP32)
    made = [
        picture.on_host()
        for picture in NetworkStage(runner, batch=3).pictures(
            crops(5), a_source(size=FRAME), Framing(TARGET, Fit.CONTAIN)
        )
    ]
    assert len(made) == 5 == runner.images
    assert isinstance(runner._fast, Network)
    assert {size[:2] for size in sizes_of(runner._fast)} == {(1, 3)}
    assert runner.batch_size(FRAME) == 1


def test_a_picture_smaller_than_the_minimum_is_padded() -> None:
    fake = blocks(8, 2)
    fake.size_requirements = Sides(minimum=64, multiple_of=8)
    network = network_of_descriptor(fake)
    rgb = noise(1, 16, 24)
    assert torch.equal(network(rgb), fake(rgb))
    assert set(sizes_of(network)) == {(1, 3, 64, 64)}


class Tight(Blocks):
    """Out of memory above a number of input pixels."""

    most_pixels = 180 * 180

    def forward(self, rgb: Tensor) -> Tensor:
        if rgb.shape[2] * rgb.shape[3] > self.most_pixels:
            raise torch.OutOfMemoryError("too many pixels")
        return super().forward(rgb)


def test_out_of_memory_tiles_it_in_whole_blocks() -> None:
    image = noise(1, 240, 312)
    runner = Runner(network_of_descriptor(Fake(Tight(24, 2), 2, Sides(0, 24))), CPU, Precision.FP32)
    made = runner(image)
    assert torch.allclose(made, blocks(24)(image), atol=1e-6)
    assert runner.events == ["out of memory: in tiles of 72 pixels from here on"]


def test_a_network_that_changes_its_input_is_given_a_copy() -> None:
    """Its input is needed again when memory runs out in its middle."""

    class InPlace(Tight):
        def forward(self, rgb: Tensor) -> Tensor:
            return super().forward(rgb.mul_(0.5))

    image = noise(1, 240, 312)
    runner = Runner(network_of_descriptor(Fake(InPlace(8, 2), 2, Sides(0, 8))), CPU, Precision.FP32)
    assert torch.allclose(runner(image), blocks(8)(image * 0.5), atol=1e-6)
    assert torch.equal(image, noise(1, 240, 312)) and runner.events


def test_a_block_that_is_larger_than_the_smallest_tile() -> None:
    image = noise(1, 192, 192)
    tight = Tight(96, 2)
    tight.most_pixels = 192 * 192 - 1
    runner = Runner(network_of_descriptor(Fake(tight, 2, Sides(0, 96))), CPU, Precision.FP32)
    with pytest.raises(UpscalerError, match="not enough memory for a tile"):
        runner(image)  # a tile of 96 pixels reads 96 more on each side


def test_a_network_that_must_not_be_tiled_is_not() -> None:
    fake = Fake(Tight(8, 2), 2, Sides(0, 8), Tiling.INTERNAL)
    runner = Runner(network_of_descriptor(fake), CPU, Precision.FP32)
    with pytest.raises(UpscalerError, match="not enough memory, and the network cannot tile"):
        runner(noise(1, 240, 312))


@pytest.mark.parametrize("wrong", [torch.inf, torch.nan])
def test_what_is_not_finite_in_half_precision_is_computed_again(wrong: float) -> None:
    """Also where the descriptor's clamp would make white of it."""

    class Overflowing(Blocks):
        def forward(self, rgb: Tensor) -> Tensor:
            made = super().forward(rgb)
            return made if rgb.dtype == torch.float32 else made * wrong

    network = network_of_descriptor(Fake(Overflowing(8, 2), 2, Sides(0, 8)))
    upscaler = NetworkStage(Runner(network, CPU, Precision.BF16), batch=2)
    wanted = pictures(stage(network_of_descriptor(blocks(8, 2))), crops(3))
    assert apart(pictures(upscaler, crops(3)), wanted) == 0
    assert any("again in float32" in event for event in upscaler.events)


def test_a_copy_is_a_copy() -> None:
    network = network_of_descriptor(blocks())
    half = network.to("cpu", torch.bfloat16)
    assert {weight.dtype for weight in network.module.state_dict().values()} == {torch.float32}
    made = half(noise(1, 16, 16).bfloat16())
    assert made.dtype == torch.bfloat16 and sizes_of(network) == []


@pytest.mark.parametrize(
    ("change", "why"),
    [
        ({"purpose": "FaceSR"}, "Fake is for FaceSR, not for super-resolution"),
        ({"purpose": "Inpainting"}, "is for Inpainting"),
        ({"input_channels": 1, "output_channels": 1}, "1 channels in and 1 out, not RGB"),
        ({"architecture": Named("AuraSR")}, "the same frame differs from run to run"),
    ],
)
def test_other_kinds_are_refused(change: dict[str, Any], why: str) -> None:
    with pytest.raises(UpscalerError, match=why):
        network_of_descriptor(blocks(**change))


# Precision


def loaded(
    path: Path, monkeypatch: pytest.MonkeyPatch, asked: str | None, fake: Fake
) -> NetworkStage:
    """The stage of a file, whose network the fake stands for."""
    monkeypatch.setattr(load, "load_user_network", lambda _path: network_of_descriptor(fake))
    options = NetworkOptions(model_path=path, precision=asked)
    weights = load.checkpoint_digest(X2PLUS, options)
    return load.load_stage(X2PLUS.name, "cpu", weights, asked or "bf16", options)


def test_a_precision_that_it_does_not_support(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Falls back to float32, unless it was asked for."""
    path = tmp_path / "mine.pth"
    path.write_bytes(b"weights")
    able, unable = blocks(), blocks(supports_bfloat16=False)
    half = loaded(path, monkeypatch, None, able)
    assert half._runner.precision is Precision.BF16 and half.events == []
    full = loaded(path, monkeypatch, None, unable)
    assert full._runner.precision is Precision.FP32
    assert full.events == [
        "realesrgan-x2plus: the network does not support bf16: computed in float32"
    ]
    with pytest.raises(UpscalerError, match=r"mine\.pth: the network does not support bf16"):
        loaded(path, monkeypatch, "bf16", unable)


# Without spandrel


@pytest.fixture
def no_spandrel(monkeypatch: pytest.MonkeyPatch) -> Iterator[pytest.MonkeyPatch]:
    """As if nobody had imported it before; a test decides what an import finds."""
    for name in [each for each in sys.modules if each.split(".")[0] == "spandrel"]:
        monkeypatch.delitem(sys.modules, name)
    yield monkeypatch


@pytest.fixture
def unknown(tmp_path: Path) -> Path:
    return unknown_checkpoint(tmp_path)


def test_without_spandrel_it_says_what_to_install(
    unknown: Path, no_spandrel: pytest.MonkeyPatch
) -> None:
    no_spandrel.setitem(sys.modules, "spandrel", None)
    with pytest.raises(UpscalerError) as caught:
        load_user_network(unknown)
    text = str(caught.value)
    assert text.startswith(f"{unknown}: the weights are of neither SRVGGNetCompact nor RRDBNet")
    assert text.endswith("other networks need spandrel: pip install 'framestream[models]'")
    assert "\n" not in text


@pytest.mark.parametrize(
    ("error", "said"),
    [
        (
            "RuntimeError('operator torchvision::nms does not exist')",
            "torchvision does not fit torch 2.13.0+cpu (operator torchvision::nms does not exist): "
            "pip install --force-reinstall --no-deps 'torchvision==0.28.*' "
            "--index-url https://download.pytorch.org/whl/cpu",
        ),
        (
            "ModuleNotFoundError('no', name='torchvision')",
            "torchvision is not installed: pip install 'torchvision==0.28.*' "
            "--index-url https://download.pytorch.org/whl/cpu",
        ),
        (
            "ModuleNotFoundError('no', name='einops')",
            "other networks need spandrel: pip install 'framestream[models]'",
        ),
    ],
)
def test_an_import_that_fails_says_what_to_install(
    unknown: Path, tmp_path: Path, no_spandrel: pytest.MonkeyPatch, error: str, said: str
) -> None:
    (tmp_path / "spandrel.py").write_text(f"raise {error}\n")
    no_spandrel.syspath_prepend(tmp_path)
    no_spandrel.setattr(torch, "__version__", "2.13.0+cpu")
    with pytest.raises(UpscalerError) as caught:
        load_user_network(unknown)
    assert str(caught.value).startswith(f"{unknown}: ")
    assert str(caught.value).endswith(said) and "\n" not in str(caught.value)


def test_a_program_is_refused(tmp_path: Path) -> None:
    """TorchScript files are code, which is never run."""
    path = tmp_path / "program.pt"
    with catch_warnings():
        simplefilter("ignore")
        torch.jit.script(nn.Conv2d(3, 3, 3)).save(path)  # type: ignore[no-untyped-call]
    with pytest.raises(UpscalerError, match=r"program\.pt: a TorchScript program, not"):
        load_user_network(path)


def test_our_networks_need_no_spandrel(tmp_path: Path, no_spandrel: pytest.MonkeyPatch) -> None:
    no_spandrel.setitem(sys.modules, "spandrel", None)
    shape = CompactShape(features=8, inner_convs=1, scale=2)
    path = tmp_path / "ours.pth"
    torch.save({"params": seeded_module(shape, 1).state_dict()}, path)
    assert load_user_network(path).shape == shape


def test_safetensors_without_the_package_says_what_to_install(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "safetensors", None)
    path = tmp_path / "other.safetensors"
    path.write_bytes(b"")
    with pytest.raises(UpscalerError, match=r"safetensors is not installed: pip install 'frame"):
        load_user_network(path)
