"""Networks against the reference implementation: its golden outputs, and itself where installed."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from engine.errors import UpscalerError
from engine.upscale.models import MODELS
from engine.upscale.network import (
    CompactShape,
    Network,
    RRDBShape,
    Shape,
    blend_denoise,
    load_network,
    network_of,
    shape_of,
)
from tests.engine.upscale.material import GOLDENS, SEED, SHAPES, psnr_db, real_weights
from tests.engine.upscale.original import NotInstalledError, original_network
from tests.engine.upscale.seeded import checksum, fill, noise, seeded_module

SMALL: dict[str, Shape] = {
    "compact": CompactShape(features=8, inner_convs=3, scale=4),
    "compact x2": CompactShape(features=8, inner_convs=3, scale=2),
    "rrdb": RRDBShape(features=8, growth=4, blocks=2, scale=4),
    "rrdb x2": RRDBShape(features=8, growth=4, blocks=2, scale=2),
    "rrdb x1": RRDBShape(features=8, growth=4, blocks=1, scale=1),
}
PARAMETERS = {
    "realesr-general-x4v3": 1_213_296,
    "realesr-animevideov3": 621_424,
    "realesrgan-x4plus": 16_697_987,
    "realesrgan-x2plus": 16_703_171,
    "realesrgan-x4plus-anime-6b": 4_467_779,
}
"""Counted in the official checkpoints."""
REAL = ["animevideov3", "general", "general-wdn"]


@pytest.fixture(autouse=True, scope="module")
def one_thread() -> Iterator[None]:
    """Small tensors are quicker on one thread, all the more where the machine is busy."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def seeded(shape: Shape) -> Network:
    return network_of(seeded_module(shape, SEED).state_dict())


def saved(tmp_path: Path, content: object) -> Path:
    path = tmp_path / "net.pth"
    torch.save(content, path)
    return path


def largest_difference(found: torch.Tensor, wanted: np.ndarray | torch.Tensor) -> float:
    assert found.shape == wanted.shape
    return float((found - torch.as_tensor(wanted)).abs().max())


def golden_of(name: str) -> dict[str, NDArray[Any]]:
    """What the reference made of which input."""
    with np.load(GOLDENS / f"{name}.npz") as stored:
        return dict(stored)


@pytest.mark.parametrize("name", SHAPES)
def test_seeded_weights_give_the_reference_output(name: str) -> None:
    golden = golden_of(f"seeded-{name}")
    module = seeded_module(SHAPES[name], SEED)
    assert checksum(module) == golden["checksum"], "the seeded weights are others"
    network = network_of(module.state_dict())
    assert largest_difference(network(torch.from_numpy(golden["input"])), golden["output"]) <= 1e-4


@pytest.mark.parametrize("name", REAL)
def test_real_weights_give_the_reference_output(name: str) -> None:
    golden = golden_of(f"real-{name}")
    network = load_network(real_weights(name))
    assert largest_difference(network(torch.from_numpy(golden["input"])), golden["output"]) <= 1e-4


def test_denoise_strength_gives_the_reference_output() -> None:
    golden = golden_of("real-general-denoise")
    strong, weak = (load_network(real_weights(name)) for name in ("general", "general-wdn"))
    network = blend_denoise(strong, weak, 0.3)
    assert largest_difference(network(torch.from_numpy(golden["input"])), golden["output"]) <= 1e-4


@pytest.mark.parametrize("shape", SMALL.values(), ids=SMALL)
def test_every_kind_equals_the_reference_itself(shape: Shape) -> None:
    try:
        reference = original_network(shape)
    except NotInstalledError as error:
        pytest.skip(f"{error} (extra 'reference')")
    fill(reference, SEED)
    rgb = noise(1, 24, 20, batch=2)
    with torch.inference_mode():
        wanted = reference(rgb)
    assert largest_difference(network_of(reference.state_dict())(rgb), wanted) <= 1e-4


@pytest.mark.parametrize("name", REAL)
def test_bf16_is_close_on_real_weights(name: str) -> None:
    network = load_network(real_weights(name))
    rgb = noise(2, 8, 8) / 16 + torch.linspace(0.1, 0.6, 8)
    out = network.to("cpu", torch.bfloat16)(rgb.bfloat16())
    assert out.dtype == torch.bfloat16
    assert psnr_db(out, network(rgb.bfloat16().float())) >= 50


@pytest.mark.parametrize("name", ["realesrgan-x4plus-anime-6b"])
def test_bf16_is_close_on_seeded_weights(name: str) -> None:
    network = seeded(SHAPES[name])
    rgb = noise(2, 4, 4).bfloat16()
    assert psnr_db(network.to("cpu", torch.bfloat16)(rgb), network(rgb.float())) >= 50


@pytest.mark.parametrize("name", SHAPES)
def test_fp16_is_close_on_cuda(name: str) -> None:
    if not torch.cuda.is_available():
        if os.environ.get("FAIL_WITHOUT_CUDA") == "1":
            pytest.fail("FAIL_WITHOUT_CUDA is set, and there is no CUDA device")
        pytest.skip("needs a CUDA device")
    network = seeded(SHAPES[name])
    rgb = noise(2, 24, 20)
    found = network.to("cuda", torch.float16)(rgb.half().cuda())
    assert psnr_db(found.cpu(), network(rgb.half().float())) >= 50


@pytest.mark.parametrize("name", SHAPES)
def test_shapes_are_inferred_and_agree_with_the_table(name: str) -> None:
    shape, model = SHAPES[name], MODELS[name]
    with torch.device("meta"):
        state = shape.build().state_dict()
    assert shape_of(state) == shape
    assert sum(weight.numel() for weight in state.values()) == PARAMETERS[name]
    assert shape.scale == model.scale
    assert 2 * shape.macs_per_pixel == model.flops_per_pixel


@pytest.mark.parametrize("shape", SMALL.values(), ids=SMALL)
def test_small_shapes_are_inferred(shape: Shape) -> None:
    assert seeded(shape).shape == shape


@pytest.mark.parametrize("shape", SMALL.values(), ids=SMALL)
def test_multiply_adds_are_those_of_the_convolutions_that_run(shape: Shape) -> None:
    network = seeded(shape)
    counted = 0

    def count(module: torch.nn.Module, _: object, output: torch.Tensor) -> None:
        nonlocal counted
        assert isinstance(module, torch.nn.Conv2d)
        counted += module.weight.numel() * output.shape[2] * output.shape[3]

    for module in network.module.modules():
        if isinstance(module, torch.nn.Conv2d):
            module.register_forward_hook(count)
    network(noise(0, 8, 12))
    assert counted == shape.macs_per_pixel * 8 * 12


@pytest.mark.parametrize("shape", SMALL.values(), ids=SMALL)
def test_an_output_pixel_depends_on_the_receptive_radius_and_no_further(shape: Shape) -> None:
    """Not-a-number spreads to all that depends on it, and to nothing else."""
    radius, scale = shape.receptive_radius, shape.scale
    size = 2 * radius + 4 * shape.multiple
    size += -size % shape.multiple
    network = seeded(shape)
    reached = 0
    for phase in range(shape.multiple):  # where the pixel is in a fold of the input
        at = size // 2 // shape.multiple * shape.multiple + phase
        rgb = noise(3, shape.multiple * 2, size)
        rgb[..., at] = torch.nan
        touched = network(rgb)[0, 0].isnan().any(0).nonzero().flatten() // scale
        reached = max(reached, at - int(touched.min()), int(touched.max()) - at)
    assert reached == radius


def test_an_input_that_does_not_fit_is_an_error() -> None:
    network = seeded(SMALL["rrdb x2"])
    assert network(noise(0, 4, 6)).shape == (1, 3, 8, 12)
    for wrong in (noise(0, 5, 6), noise(0, 4, 7), noise(0, 4, 6)[0], torch.zeros(1, 1, 4, 4)):
        with pytest.raises(UpscalerError, match="multiples of 2"):
            network(wrong)


def test_a_copy_is_a_copy() -> None:
    network = seeded(SMALL["compact"])
    half = network.to("cpu", torch.bfloat16)
    dtypes = {weight.dtype for weight in network.module.state_dict().values()}
    assert dtypes == {torch.float32}
    assert {weight.dtype for weight in half.module.state_dict().values()} == {torch.bfloat16}
    state = network.module.state_dict()
    again = network_of(state)
    state["body.0.bias"].add_(1)
    rgb = noise(0, 4, 4)
    assert not torch.equal(network(rgb), again(rgb))


@pytest.mark.parametrize("wrap", ["params_ema", "params", None])
def test_checkpoints_are_found_under_every_key(tmp_path: Path, wrap: str | None) -> None:
    network = seeded(SMALL["rrdb"])
    state = network.module.state_dict()
    content = {wrap: state, "iter": 5} if wrap else state
    rgb = noise(0, 4, 4)
    assert torch.equal(load_network(saved(tmp_path, content))(rgb), network(rgb))


def test_the_averaged_weights_are_preferred(tmp_path: Path) -> None:
    state = seeded(SMALL["rrdb"]).module.state_dict()
    other = {name: weight + 1 for name, weight in state.items()}
    network = load_network(saved(tmp_path, {"params": other, "params_ema": state}))
    assert torch.equal(network.module.state_dict()["conv_hr.bias"], state["conv_hr.bias"])


class Harmful:
    """Would run code when unpickled."""

    def __reduce__(self) -> tuple[object, tuple[str]]:
        return os.system, ("touch harmed",)


def spoiled(change: str) -> dict[str, object]:
    state: dict[str, object] = dict(seeded(SMALL["compact"]).module.state_dict())
    if change == "missing":
        del state["body.4.bias"]
    elif change == "unexpected":
        state["extra.weight"] = torch.zeros(1)
    elif change == "shape":
        state["body.2.weight"] = torch.zeros(8, 9, 3, 3)
    elif change == "flat":
        state["body.0.weight"] = torch.zeros(8)
    elif change == "relu":
        state = {name: w for name, w in state.items() if name.split(".")[1] not in "1357"}
    elif change == "colours":
        state["body.8.weight"] = torch.zeros(49, 8, 3, 3)
    return state


@pytest.mark.parametrize(
    ("content", "why"),
    [
        (spoiled("missing"), r"body\.4\.bias is missing"),
        (spoiled("unexpected"), r"extra\.weight is \(1,\).*no such weight"),
        (spoiled("shape"), r"body\.2\.weight is \(8, 9, 3, 3\).*\(8, 8, 3, 3\)"),
        (spoiled("flat"), r"body\.0\.weight is no convolution"),
        (spoiled("relu"), "other activations than PReLU"),
        (spoiled("colours"), "49 output channels"),
        ({"conv.weight": torch.zeros(1)}, "neither SRVGGNetCompact nor RRDBNet"),
        ({"params": {"epoch": 3}}, "no state dictionary: 'epoch' is a int"),
        ({}, "no state dictionary"),
        ([1, 2], "no state dictionary"),
        ({"params": Harmful()}, "holds more than weights"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_other_checkpoints_are_refused(tmp_path: Path, content: object, why: str) -> None:
    path = saved(tmp_path, content)
    with pytest.raises(UpscalerError, match=why) as caught:
        load_network(path)
    assert str(caught.value).startswith(f"{path}: ") and "\n" not in str(caught.value)
    assert not Path("harmed").exists()


@pytest.mark.parametrize("content", [b"", b"<html>not found</html>", b"PK\x03\x04", bytes(5000)])
def test_other_files_are_refused(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "net.pth"
    path.write_bytes(content)
    with pytest.raises(UpscalerError, match="not a checkpoint"):
        load_network(path)


def test_a_truncated_checkpoint_is_refused(tmp_path: Path) -> None:
    path = saved(tmp_path, seeded(SMALL["compact"]).module.state_dict())
    path.write_bytes(path.read_bytes()[:-1000])
    with pytest.raises(UpscalerError, match="damaged"):
        load_network(path)


def test_a_missing_file_and_a_folder_are_refused(tmp_path: Path) -> None:
    with pytest.raises(UpscalerError, match=r"nothing\.pth: there is no such file"):
        load_network(tmp_path / "nothing.pth")
    with pytest.raises(UpscalerError, match="directory"):
        load_network(tmp_path)


def test_denoise_needs_a_strength_and_two_of_a_kind() -> None:
    one, other = seeded(SMALL["compact"]), seeded(SMALL["compact x2"])
    with pytest.raises(UpscalerError, match="from 0 to 1"):
        blend_denoise(one, one, 1.5)
    with pytest.raises(UpscalerError, match="two networks of one shape"):
        blend_denoise(one, other, 0.5)


def test_denoise_at_its_ends_is_one_of_the_two() -> None:
    strong = seeded(SMALL["compact"])
    weak = network_of({name: weight * 0.9 for name, weight in strong.module.state_dict().items()})
    rgb = noise(0, 6, 6)
    assert torch.equal(blend_denoise(strong, weak, 1)(rgb), strong(rgb))
    assert torch.equal(blend_denoise(strong, weak, 0)(rgb), weak(rgb))
