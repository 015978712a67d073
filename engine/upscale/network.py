"""Real-ESRGAN's two networks, and loading them from their official checkpoints.

Both are written anew from their papers and their state dictionaries. Weight for weight they are
compatible with the originals in Real-ESRGAN (`SRVGGNetCompact`) and BasicSR (`RRDBNet`), which do
not import beside today's torch. Everything about a network is read from its weights.

Knows tensors and one file. It knows no frames, batches, tiles or devices.
"""

from __future__ import annotations

import copy
import math
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import torch
from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812 - what everyone calls it

from engine.errors import UpscalerError
from engine.upscale.checkpoint import State, read_checkpoint, state_of

DTYPES = frozenset({torch.float32, torch.float16, torch.bfloat16})
"""What both networks can be computed in."""


class NetworkTraits(Protocol):
    """What must be known of a network to run it on pictures of any size."""

    @property
    def scale(self) -> int:
        """Output pixels per input pixel, along each side."""

    @property
    def multiple(self) -> int:
        """The height and width of an input are multiples of this."""

    @property
    def tiles_exactly(self) -> bool:
        """Whether tiles with `receptive_radius` pixels around them cost little more than the whole.

        Otherwise tiles overlap by less and are feathered.
        """

    @property
    def receptive_radius(self) -> int | None:
        """Input pixels, in each direction, that an output pixel depends on. None: not known."""

    @property
    def can_be_tiled(self) -> bool:
        """Whether a picture that does not fit into memory may be cut into tiles."""

    @property
    def bytes_per_pixel(self) -> int | None:
        """Memory that a pass takes per input pixel, in half precision: an estimate or unknown."""

    @property
    def dtypes(self) -> frozenset[torch.dtype]:
        """What it can be computed in; float32 always."""

    @property
    def memory_format(self) -> torch.memory_format:
        """The order of the axes in memory that it runs in."""


@dataclass(frozen=True, slots=True)
class CompactShape:
    """Hyper-parameters of a `Compact` network."""

    features: int
    """Channels between the convolutions."""
    inner_convs: int
    """Convolutions between the first and the last."""
    scale: int

    multiple = 1
    tiles_exactly = True
    can_be_tiled = True
    dtypes = DTYPES
    memory_format = torch.channels_last

    @property
    def receptive_radius(self) -> int:
        """See `NetworkTraits`."""
        return self.inner_convs + 2

    @property
    def macs_per_pixel(self) -> int:
        """Multiply-adds per input pixel, of the convolutions."""
        inner = self.inner_convs * self.features**2
        return 9 * (3 * self.features + inner + self.features * 3 * self.scale**2)

    @property
    def bytes_per_pixel(self) -> int:
        """See `NetworkTraits`."""
        activations = 2 * self.features + 2 * 3 * self.scale**2
        return 2 * activations + 4 * 4 * 3 * self.scale**2  # and the result in single

    def build(self) -> nn.Module:
        """The network, with weights as torch initialises them."""
        return Compact(self)


@dataclass(frozen=True, slots=True)
class RRDBShape:
    """Hyper-parameters of an `RRDBNet`."""

    features: int
    """Channels of the trunk."""
    growth: int
    """Channels that each convolution of a dense block adds."""
    blocks: int
    """Residual-in-residual dense blocks."""
    scale: int
    """4. Or 2 or 1, by folding 2x2 or 4x4 input pixels into the channels of one."""

    tiles_exactly = False
    """The receptive radius is hundreds of pixels, but little comes from that far."""
    can_be_tiled = True
    dtypes = DTYPES
    memory_format = torch.channels_last

    @property
    def multiple(self) -> int:
        """See `NetworkTraits`."""
        return 4 // self.scale

    @property
    def receptive_radius(self) -> int:
        """See `NetworkTraits`."""
        trunk = 1 + 15 * self.blocks + 1
        return self.multiple * (trunk + 2)  # three convolutions at 4x and one at 2x are 2 pixels

    @property
    def macs_per_pixel(self) -> int:
        """Multiply-adds per input pixel, of the convolutions."""
        f, g = self.features, self.growth
        dense = sum((f + k * g) * g for k in range(4)) + (f + 4 * g) * f
        trunk = 3 * self.multiple**2 * f + self.blocks * 3 * dense + f * f
        behind = 4 * f * f + 16 * (f * f + f * f + f * 3)
        return 9 * (trunk + behind) // self.multiple**2

    @property
    def bytes_per_pixel(self) -> int:
        """See `NetworkTraits`."""
        return 2 * 4 * 16 * self.features // self.multiple**2  # four tensors of the largest size

    def build(self) -> nn.Module:
        """The network, with weights as torch initialises them."""
        return RRDBNet(self)


Shape = CompactShape | RRDBShape


def conv(inputs: int, outputs: int) -> nn.Conv2d:
    """A 3x3 convolution that keeps height and width."""
    return nn.Conv2d(inputs, outputs, 3, padding=1)


class Compact(nn.Module):
    """SRVGGNetCompact: a chain of convolutions that learns what nearest-neighbour scaling lacks.

    Wang et al., Real-ESRGAN, 2021, https://arxiv.org/abs/2107.10833.
    """

    def __init__(self, shape: CompactShape) -> None:
        super().__init__()
        features = shape.features
        layers: list[nn.Module] = [conv(3, features), nn.PReLU(features)]
        for _ in range(shape.inner_convs):
            layers += [conv(features, features), nn.PReLU(features)]
        self.body = nn.Sequential(*layers, conv(features, 3 * shape.scale**2))
        self.scale = shape.scale

    def forward(self, rgb: Tensor) -> Tensor:
        """See the class."""
        return add_nearest(self.body(rgb), rgb, self.scale)


def add_nearest(residual: Tensor, rgb: Tensor, scale: int) -> Tensor:
    """The picture (n, 3, h * scale, w * scale): a residual and `rgb` by nearest neighbour.

    `residual`: (n, 3 * scale**2, h, w), which is changed.
    """
    # each pixel is added to all that it becomes: shuffled, the nearest-neighbour picture
    torch.unflatten(residual, 1, (3, -1)).add_(rgb.unsqueeze(2))
    return F.pixel_shuffle(residual, scale)


class DenseBlock(nn.Module):
    """Five convolutions, each of which sees the results of all before it.

    The results are concatenated for each. In channels-last memory, writing them into one buffer
    instead would move as many bytes, since convolutions copy an input that is a slice.
    """

    def __init__(self, features: int, growth: int) -> None:
        super().__init__()
        self.conv1 = conv(features, growth)
        self.conv2 = conv(features + growth, growth)
        self.conv3 = conv(features + 2 * growth, growth)
        self.conv4 = conv(features + 3 * growth, growth)
        self.conv5 = conv(features + 4 * growth, features)

    def forward(self, x: Tensor) -> Tensor:
        """See the class."""
        x1 = lrelu(self.conv1(x))
        x2 = lrelu(self.conv2(torch.cat((x, x1), 1)))
        x3 = lrelu(self.conv3(torch.cat((x, x1, x2), 1)))
        x4 = lrelu(self.conv4(torch.cat((x, x1, x2, x3), 1)))
        x5: Tensor = self.conv5(torch.cat((x, x1, x2, x3, x4), 1))
        return x5.mul_(0.2).add_(x)


class RRDB(nn.Module):
    """Three dense blocks and a residual."""

    def __init__(self, features: int, growth: int) -> None:
        super().__init__()
        self.rdb1 = DenseBlock(features, growth)
        self.rdb2 = DenseBlock(features, growth)
        self.rdb3 = DenseBlock(features, growth)

    def forward(self, x: Tensor) -> Tensor:
        """See the class."""
        out: Tensor = self.rdb3(self.rdb2(self.rdb1(x)))
        return out.mul_(0.2).add_(x)


class RRDBNet(nn.Module):
    """ESRGAN's network: residual-in-residual dense blocks, then two nearest-neighbour doublings.

    Wang et al., ESRGAN, 2018, https://arxiv.org/abs/1809.00219.
    """

    def __init__(self, shape: RRDBShape) -> None:
        super().__init__()
        features = shape.features
        self.conv_first = conv(3 * shape.multiple**2, features)
        self.body = nn.Sequential(*(RRDB(features, shape.growth) for _ in range(shape.blocks)))
        self.conv_body = conv(features, features)
        self.conv_up1 = conv(features, features)
        self.conv_up2 = conv(features, features)
        self.conv_hr = conv(features, features)
        self.conv_last = conv(features, 3)
        self.fold = shape.multiple

    def forward(self, rgb: Tensor) -> Tensor:
        """See the class."""
        first = self.conv_first(F.pixel_unshuffle(rgb, self.fold))
        trunk = self.conv_body(self.body(first)).add_(first)
        twice = lrelu(self.conv_up1(F.interpolate(trunk, scale_factor=2, mode="nearest")))
        fourfold = lrelu(self.conv_up2(F.interpolate(twice, scale_factor=2, mode="nearest")))
        out: Tensor = self.conv_last(lrelu(self.conv_hr(fourfold)))
        return out


def lrelu(x: Tensor) -> Tensor:
    """Leaky ReLU with slope 0.2, in place."""
    return F.leaky_relu(x, 0.2, inplace=True)


@dataclass(frozen=True, slots=True, eq=False)
class Network:
    """A network with its weights, for inference only."""

    shape: NetworkTraits
    module: nn.Module
    """What `torch.compile` takes; its input and output are those of a call."""

    def __call__(self, rgb: Tensor) -> Tensor:
        """The upscaled batch.

        `rgb`: (batch, 3, height, width) in 0 to 1, of the network's dtype and device, with height
        and width multiples of `shape.multiple`. Gives (batch, 3, height * scale, width * scale),
        not clamped to 0 to 1. Raises `UpscalerError` for another shape.
        """
        multiple = self.shape.multiple
        if rgb.ndim != 4 or rgb.shape[1] != 3 or rgb.shape[2] % multiple or rgb.shape[3] % multiple:
            raise UpscalerError(
                f"the network takes (batch, 3, height, width) with multiples of {multiple} as "
                f"height and width, not {tuple(rgb.shape)}"
            )
        with torch.inference_mode():
            out: Tensor = self.module(rgb)
        return out

    def to(self, device: torch.device | str, dtype: torch.dtype = torch.float32) -> Network:
        """A copy on that device, of that dtype, its weights in `shape.memory_format`."""
        module = copy.deepcopy(self.module)
        # torch's own types know a memory format only without a device
        module = module.to(device, dtype).to(memory_format=self.shape.memory_format)  # type: ignore[call-overload]
        return Network(self.shape, module)


def load_network(path: Path) -> Network:
    """The network of a checkpoint, on the CPU in float32, in channels-last memory.

    The file is an official one, or one that was trained with the same code: a state dictionary,
    bare or under `params_ema` or `params`. It is read as data: no code in it runs. Raises
    `UpscalerError`, which names the file and says why it cannot be used.
    """
    try:
        return network_of(state_of(read_checkpoint(path)))
    except UpscalerError as error:
        raise UpscalerError(f"{path}: {error}") from error


def network_of(state: State) -> Network:
    """The network of a state dictionary, whose weights are copied. Raises `UpscalerError`."""
    shape = shape_of(state)
    with torch.device("meta"):
        module = shape.build()
    wanted = {name: tuple(tensor.shape) for name, tensor in module.state_dict().items()}
    found = {name: tuple(tensor.shape) for name, tensor in state.items()}
    for name in sorted(wanted.keys() | found.keys()):
        if wanted.get(name) != found.get(name):
            raise UpscalerError(
                f"{name} is {found.get(name, 'missing')}, "
                f"and a network {shape} has {wanted.get(name, 'no such weight')}"
            )
    weights = {name: tensor.detach().float() for name, tensor in state.items()}
    module.load_state_dict(weights, strict=True, assign=True)
    return Network(shape, module.eval().requires_grad_(False)).to("cpu")


def shape_of(state: State) -> Shape:
    """The hyper-parameters of a state dictionary's network. Raises `UpscalerError`."""
    if "conv_first.weight" in state and "body.0.rdb1.conv1.weight" in state:
        return _rrdb_shape(state)
    if "body.0.weight" in state:
        return _compact_shape(state)
    names = ", ".join(sorted(state)[:3])
    raise UpscalerError(f"the weights are of neither SRVGGNetCompact nor RRDBNet ({names}, ...)")


def blend_denoise(strong: Network, weak: Network, strength: float) -> Network:
    """The network between two of the same shape, interpolated weight by weight.

    `strength` 1 gives `strong`, 0 gives `weak`. The official pair is realesr-general-x4v3 and its
    wdn companion.
    Wang et al., Deep Network Interpolation, 2019, https://arxiv.org/abs/1811.10515. Raises
    `UpscalerError`.
    """
    if not 0 <= strength <= 1:
        raise UpscalerError(f"denoise strength is {strength}; it is from 0 to 1")
    if strong.shape != weak.shape:
        raise UpscalerError(
            f"denoise strength needs two networks of one shape, not {strong.shape} and {weak.shape}"
        )
    other = weak.module.state_dict()
    return network_of(
        {
            name: strength * weight + (1 - strength) * other[name]
            for name, weight in strong.module.state_dict().items()
        }
    )


def _compact_shape(state: State) -> CompactShape:
    numbers = _numbers(state)
    if numbers != set(range(len(numbers))) or len(numbers) < 3:
        raise UpscalerError("SRVGGNetCompact with other activations than PReLU")
    features, _ = _channels(state, "body.0.weight")
    outputs, _ = _channels(state, f"body.{len(numbers) - 1}.weight")
    scale = math.isqrt(outputs // 3)
    if 3 * scale**2 != outputs:
        raise UpscalerError(f"{outputs} output channels are no larger picture in three colours")
    return CompactShape(features, inner_convs=len(numbers) // 2 - 1, scale=scale)


def _rrdb_shape(state: State) -> RRDBShape:
    features, inputs = _channels(state, "conv_first.weight")
    growth, _ = _channels(state, "body.0.rdb1.conv1.weight")
    scales = {3: 4, 12: 2, 48: 1}
    if inputs not in scales:
        raise UpscalerError(f"RRDBNet with {inputs} input channels; there are 3, 12 and 48")
    return RRDBShape(features, growth, blocks=len(_numbers(state)), scale=scales[inputs])


def _numbers(state: State) -> set[int]:
    """The numbers of the layers or blocks under `body`."""
    parts = (name.split(".") for name in state if name.startswith("body."))
    return {int(part[1]) for part in parts if part[1].isdecimal()}


def _channels(state: State, name: str) -> tuple[int, int]:
    """Output and input channels of a convolution's weights."""
    weight = state.get(name)
    if weight is None or weight.ndim != 4:
        raise UpscalerError(f"{name} is no convolution")
    return weight.shape[0], weight.shape[1]
