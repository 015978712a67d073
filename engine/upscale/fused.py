"""SRVGGNetCompact with the bias and the activation behind each convolution in one CUDA kernel.

cuDNN adds no bias, so torch adds it in a pass over memory of its own, and PReLU takes another. Both
are bound by memory: one pass instead of two halves what they take, which is a third of the network
on a T4. The kernel is torch's own jiterator, which compiles it with the NVRTC of torch's wheel when
it is first called, in less than a second. No compiler and no Triton has to be there.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

import torch
from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812 - what everyone calls it

from engine.gpu.memory import first_line
from engine.upscale.network import Compact, Network, add_nearest

BiasPReLU = Callable[[Tensor, Tensor, Tensor], Tensor]
"""`bias_prelu` or what computes the same."""

_KERNEL = """
template <typename T> T framestream_bias_prelu(T x, T bias, T slope) {
  T sum = x + bias;
  return sum > T(0) ? sum : sum * slope;
}
"""
"""T is float where tensors are half: jiterator computes in it, and rounds the result once."""


def bias_prelu(x: Tensor, bias: Tensor, slope: Tensor) -> Tensor:
    """PReLU of `x + bias` in float32, rounded once to the type of `x` (n, c, h, w).

    `bias` and `slope`: (1, c, 1, 1). This is what the kernel computes, in torch.
    """
    total = x.float() + bias.float()
    return torch.where(total > 0, total, total * slope.float()).to(x.dtype)


class FusedCompact(nn.Module):
    """The same network as a `Compact`, with its weights."""

    def __init__(self, compact: Compact, activation: BiasPReLU) -> None:
        super().__init__()
        self.compact = compact
        self._activation = activation

    def forward(self, rgb: Tensor) -> Tensor:
        """See `Compact`."""
        x = rgb
        for convolution, prelu in self._hidden():
            assert convolution.bias is not None
            summed = F.conv2d(x, convolution.weight, padding=1)
            x = self._activation(summed, _per_channel(convolution.bias), _per_channel(prelu.weight))
        return add_nearest(self.compact.body[-1](x), rgb, self.compact.scale)

    def _hidden(self) -> Iterator[tuple[nn.Conv2d, nn.PReLU]]:
        layers = list(self.compact.body)[:-1]
        for convolution, prelu in zip(layers[::2], layers[1::2], strict=True):
            assert isinstance(convolution, nn.Conv2d) and isinstance(prelu, nn.PReLU)
            yield convolution, prelu


def fused_on_cuda(network: Network, events: list[str]) -> Network:
    """The network with fused activations, or itself where there are none to fuse.

    The kernel must give the very numbers of `bias_prelu`. Where it does not, or does not compile,
    `events` is told, and the network stays as it is.
    """
    if not isinstance(network.module, Compact):
        return network
    try:
        kernel: BiasPReLU = torch.cuda.jiterator._create_jit_fn(_KERNEL)
        weight = next(network.module.parameters())
        refusal = None if gives_the_same(kernel, weight) else "other numbers"
    except (RuntimeError, AssertionError) as error:
        refusal = first_line(error)
    if refusal is not None:
        events.append(f"bias and activation stay apart, which is slower: {refusal}")
        return network
    return Network(network.shape, FusedCompact(network.module, kernel))


@torch.inference_mode()
def gives_the_same(activation: BiasPReLU, like: Tensor) -> bool:
    """Whether it gives the bits of `bias_prelu`, for the type and device of `like`."""
    channels = 64
    values = torch.linspace(-3, 3, 2 * channels * 15, device=like.device).to(like.dtype)
    x = values.view(2, channels, 3, 5).contiguous(memory_format=torch.channels_last)
    bias, slope = _per_channel(values[:channels]), _per_channel(values[-channels:])
    made, wanted = activation(x, bias, slope), bias_prelu(x, bias, slope)
    return made.stride() == x.stride() and torch.equal(made, wanted)


def _per_channel(values: Tensor) -> Tensor:
    return values.view(1, -1, 1, 1)
