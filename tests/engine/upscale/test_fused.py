"""The fused activation, by its reference in torch: the kernel itself runs on CUDA only."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F  # noqa: N812 - what everyone calls it

from engine.upscale.fused import FusedCompact, bias_prelu, fused_on_cuda, gives_the_same
from engine.upscale.network import Compact, Network, RRDBShape
from tests.engine.upscale.test_stage import TINY, seeded


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_it_is_nearer_to_the_truth_than_two_steps(dtype: torch.dtype) -> None:
    """It rounds once. Adding the bias and the PReLU by themselves round twice."""
    torch.manual_seed(0)
    x, bias, slope = (torch.randn(shape).to(dtype) for shape in ((4, 32, 9, 9), (32,), (32,)))
    by_channel = bias.view(1, -1, 1, 1), slope.view(1, -1, 1, 1)
    fused = bias_prelu(x, *by_channel)
    apart = F.prelu(x + by_channel[0], slope)
    exact = F.prelu(x.double() + by_channel[0].double(), slope.double())
    assert fused.dtype == dtype
    assert torch.equal(fused, exact.to(dtype))
    assert (fused - exact).abs().mean() < (apart - exact).abs().mean()


def test_the_network_is_the_same() -> None:
    network, rgb = seeded(TINY), torch.rand(2, 3, 20, 28)
    assert isinstance(network.module, Compact)
    for parameter in network.module.parameters():
        parameter.data.add_(torch.randn_like(parameter), alpha=0.1)
    made = Network(TINY, FusedCompact(network.module, bias_prelu))(rgb)
    assert torch.allclose(made, network(rgb), atol=1e-6)


def test_a_kernel_that_gives_other_numbers_is_found() -> None:
    def without_bias(x: Tensor, bias: Tensor, slope: Tensor) -> Tensor:
        return bias_prelu(x, torch.zeros_like(bias), slope)

    def in_other_memory(x: Tensor, bias: Tensor, slope: Tensor) -> Tensor:
        return bias_prelu(x, bias, slope).contiguous()

    like = torch.zeros(1, dtype=torch.float16)
    assert gives_the_same(bias_prelu, like)
    assert not gives_the_same(without_bias, like)
    assert not gives_the_same(in_other_memory, like)


@pytest.mark.skipif(torch.cuda.is_available(), reason="here the kernel compiles")
def test_where_the_kernel_does_not_compile_the_network_stays_as_it_is() -> None:
    network, events = seeded(TINY), list[str]()
    assert fused_on_cuda(network, events) is network
    (event,) = events
    assert event.startswith("bias and activation stay apart, which is slower: Jiterator is only")


def test_a_network_without_prelu_is_left_alone() -> None:
    network, events = seeded(RRDBShape(features=8, growth=4, blocks=1, scale=4)), list[str]()
    assert fused_on_cuda(network, events) is network and events == []
