"""Networks that run out of memory: in either precision, in every guise, and remembered."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from engine.errors import UpscalerError
from engine.gpu.memory import is_out_of_memory
from engine.upscale.inference import Precision, Runner
from engine.upscale.network import Network
from engine.upscale.network_stage import NetworkStage
from tests.engine.upscale.test_stage import TINY, Nearest, apart, crops, pictures, stage

CPU = torch.device("cpu")

GUISES = {
    "torch": torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB"),
    "the runtime": RuntimeError("CUDA error: out of memory\nCompile with `TORCH_USE_CUDA_DSA`"),
    "cuBLAS": RuntimeError(
        "CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate(handle)`"
    ),
    "cuDNN 8": RuntimeError("cuDNN error: CUDNN_STATUS_ALLOC_FAILED"),
    "cuDNN 9": RuntimeError("cuDNN error: CUDNN_STATUS_INTERNAL_ERROR_DEVICE_ALLOCATION_FAILED"),
    "no plan of cuDNN": RuntimeError(
        "GET was unable to find an engine to execute this computation"
    ),
    "the host": MemoryError(),
}


class Poor(Nearest):
    """Above a number of input pixels it fails. In half precision it overflows, where asked."""

    def __init__(
        self,
        most_pixels: dict[torch.dtype, int],
        error: BaseException = GUISES["torch"],
        *,
        overflows: bool = False,
    ) -> None:
        super().__init__(4)
        self.most_pixels = most_pixels
        self.error = error
        self.overflows = overflows
        self.tried: list[tuple[torch.dtype, tuple[int, ...]]] = []

    def __deepcopy__(self, memo: object) -> nn.Module:
        return self  # so that what was tried is told by the one the test has

    def forward(self, rgb: Tensor) -> Tensor:
        self.tried.append((rgb.dtype, tuple(rgb.shape)))
        if len(rgb) * rgb.shape[2] * rgb.shape[3] > self.most_pixels.get(rgb.dtype, 1 << 40):
            raise self.error
        made = super().forward(rgb)
        return made * torch.inf if self.overflows and rgb.dtype != torch.float32 else made


def runner_of(module: Poor, precision: Precision = Precision.FP32) -> Runner:
    return Runner(Network(TINY, module), CPU, precision)


@pytest.mark.parametrize("guise", GUISES)
def test_every_guise_of_out_of_memory_is_one(guise: str) -> None:
    """The batch is halved, then its pictures are tiled."""
    runner = runner_of(Poor({torch.float32: 100 * 100}, GUISES[guise]))
    images = torch.rand(2, 3, 128, 160)
    assert torch.equal(runner(images), Nearest(4)(images))
    assert runner.events == [
        "out of memory: batches of 1 from here on",
        "out of memory: in tiles of 80 pixels from here on",
    ]


def test_the_host_s_own_allocator_is_known() -> None:
    with pytest.raises(RuntimeError) as raised:
        torch.empty(1 << 55, dtype=torch.uint8)
    assert is_out_of_memory(raised.value)


@pytest.mark.parametrize(
    "error",
    [
        RuntimeError("CUDA error: an illegal memory access was encountered"),
        RuntimeError("mat1 and mat2 shapes cannot be multiplied (2x3 and 4x5)"),
        ValueError("out of memory"),
    ],
)
def test_another_error_is_not_tried_again(error: Exception) -> None:
    module = Poor({torch.float32: 0}, error)
    with pytest.raises(type(error)) as raised:
        runner_of(module)(torch.rand(2, 3, 16, 16))
    assert raised.value is error and len(module.tried) == 1


def test_an_error_that_looks_like_it_is_told_in_the_end() -> None:
    failing = Poor({torch.float32: 0}, RuntimeError("cuDNN error: CUDNN_STATUS_INTERNAL_ERROR"))
    with pytest.raises(UpscalerError, match=r"not enough memory.*CUDNN_STATUS_INTERNAL_ERROR"):
        runner_of(failing)(torch.rand(1, 3, 128, 128))


def test_tiles_are_remembered() -> None:
    """Pictures of that size or larger begin with them. Smaller ones are tried whole."""
    module = Poor({torch.float32: 100 * 100})
    runner = runner_of(module)
    whole = []
    for sides in ((128, 160), (128, 160), (160, 160), (80, 120)):
        images = torch.rand(1, 3, *sides)
        module.tried.clear()
        assert torch.equal(runner(images), Nearest(4)(images))
        whole.append((1, 3, *sides) in [shape for _, shape in module.tried])
    assert whole == [True, False, False, True]
    assert runner.events == ["out of memory: in tiles of 80 pixels from here on"]


def test_tiles_that_become_too_large_are_halved_again() -> None:
    module = Poor({torch.float32: 180 * 180})
    runner = runner_of(module)
    images = torch.rand(1, 3, 320, 320)
    runner(images)
    module.most_pixels[torch.float32] = 100 * 100
    assert torch.equal(runner(images), Nearest(4)(images))
    assert runner.events == [
        f"out of memory: in tiles of {tile} pixels from here on" for tile in (160, 80)
    ]


@pytest.mark.parametrize("on_device", [False, True])
def test_what_is_not_finite_is_computed_again_in_the_memory_there_is(on_device: bool) -> None:
    """float32 has its own halving and its own tiles. Half precision keeps its batches of 4."""
    region_px = 80 * 128
    module = Poor({torch.float32: 70 * 70}, overflows=True)
    upscaler = NetworkStage(runner_of(module, Precision.BF16), batch=4, keep_on_device=on_device)
    given = crops(8, pace=0)
    expected = pictures(stage(Network(TINY, Nearest(4)), 1, on_device=on_device), given)
    assert apart(expected, pictures(upscaler, given)) == 0
    halves = [shape for dtype, shape in module.tried if dtype == torch.bfloat16]
    assert [shape[0] for shape in halves] == [4, 4] and halves[0][2] * halves[0][3] == region_px
    assert upscaler.events == [
        "network: a result was not finite and was computed again in float32",
        "network: out of memory in float32: batches of 2 from here on",
        "network: out of memory in float32: batches of 1 from here on",
        "network: out of memory in float32: in tiles of 64 pixels from here on",
        "network: a result was not finite and was computed again in float32",
    ]
