"""Networks that are not ours: spandrel builds them from a checkpoint, and says what they need.

spandrel (https://github.com/chaiNNer-org/spandrel, the extra `models`) knows about forty
architectures. What is read here is what it documents of a descriptor: scale, size requirements,
supported precisions and tiling. SRVGGNetCompact and RRDBNet stay with `network.py`, which runs them
1.5 to 1.9 times as fast and needs no spandrel.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol
from warnings import catch_warnings, simplefilter

import torch
from torch import Tensor, nn

from engine.errors import UpscalerError
from engine.upscale.checkpoint import Checkpoint, read_checkpoint, state_of
from engine.upscale.network import Network, network_of

INSTALL = "pip install 'framestream[models]'"
RANDOM_ARCHITECTURES = ("AuraSR",)
"""They add noise to their input, so the same frame would differ from run to run."""


class Requirements(Protocol):
    """spandrel's `SizeRequirements`: what the sides of an input must be."""

    multiple_of: int


class Descriptor(Protocol):
    """What is used of spandrel's `ImageModelDescriptor`."""

    scale: int
    input_channels: int
    output_channels: int
    supports_half: bool
    supports_bfloat16: bool

    @property
    def purpose(self) -> str:
        """SR, FaceSR, Restoration or Inpainting."""

    @property
    def architecture(self) -> Any:
        """Its `name` is the architecture's."""

    @property
    def model(self) -> nn.Module:
        """The network."""

    @property
    def size_requirements(self) -> Requirements:
        """What the sides of an input must be; a call pads one that is otherwise."""

    @property
    def tiling(self) -> Any:
        """Its `name` is SUPPORTED, DISCOURAGED, or INTERNAL for one that must not be tiled."""

    def __call__(self, image: Tensor) -> Tensor:
        """(1, 3, h, w) in 0 to 1 gives (1, 3, h * scale, w * scale), clamped to 0 to 1."""


@dataclass(frozen=True, slots=True)
class DescribedShape:
    """The `NetworkTraits` of a network whose inside is not known."""

    architecture: str
    scale: int
    multiple: int
    dtypes: frozenset[torch.dtype]
    can_be_tiled: bool

    tiles_exactly = False
    receptive_radius = None
    bytes_per_pixel = None
    memory_format = torch.contiguous_format
    """Some of them reshape what they compute, which channels-last tensors do not allow."""


class DescribedModule(nn.Module):
    """A descriptor as a module: a batch in, a batch out, one image at a time as spandrel asks."""

    def __init__(self, descriptor: Descriptor) -> None:
        super().__init__()
        self.model = descriptor.model.eval().requires_grad_(False)
        self.model.register_forward_hook(_infinity_is_no_number)
        self._descriptor = descriptor

    def forward(self, rgb: Tensor) -> Tensor:
        """See `Network`. The sides are padded to what the network needs, and cut off again."""
        # copies: some networks change their input, which is needed again when memory runs out
        return torch.cat([self._descriptor(image.clone()) for image in torch.split(rgb, 1)])


def _infinity_is_no_number(_module: nn.Module, _inputs: object, output: object) -> object:
    """A descriptor clamps its result, which hides infinity. It does not hide what is no number."""
    if isinstance(output, Tensor):
        return output.masked_fill(output.isinf(), torch.nan)
    return output


def load_user_network(path: Path) -> Network:
    """The network of a user's checkpoint, on the CPU in float32.

    It is ours where its weights are of SRVGGNetCompact or RRDBNet, else spandrel's. Raises
    `UpscalerError`, which names the file, why it cannot be used, or what must be installed.
    """
    try:
        content = read_checkpoint(path)
        try:
            return network_of(state_of(content))
        except UpscalerError as error:
            return network_of_descriptor(_descriptor(content, str(error)))
    except UpscalerError as error:
        raise UpscalerError(f"{path}: {error}") from error


def network_of_descriptor(descriptor: Descriptor) -> Network:
    """The network that spandrel describes. Raises `UpscalerError` where it is of another kind."""
    name = str(descriptor.architecture.name)
    if descriptor.purpose != "SR":
        raise UpscalerError(f"{name} is for {descriptor.purpose}, not for super-resolution (SR)")
    channels = descriptor.input_channels, descriptor.output_channels
    if channels != (3, 3):
        raise UpscalerError(f"{name} with {channels[0]} channels in and {channels[1]} out, not RGB")
    if name in RANDOM_ARCHITECTURES:
        raise UpscalerError(f"{name} adds noise, so the same frame differs from run to run")
    halves = {
        torch.float16: descriptor.supports_half,
        torch.bfloat16: descriptor.supports_bfloat16,
    }
    shape = DescribedShape(
        architecture=name,
        scale=descriptor.scale,
        multiple=descriptor.size_requirements.multiple_of,
        dtypes=frozenset({torch.float32, *(each for each, can in halves.items() if can)}),
        can_be_tiled=descriptor.tiling.name != "INTERNAL",
    )
    return Network(shape, DescribedModule(descriptor))


def _descriptor(content: Checkpoint, not_ours: str) -> Descriptor:
    """What spandrel makes of a checkpoint. Raises `UpscalerError`."""
    with _spandrel(not_ours) as spandrel:
        try:
            state = spandrel.canonicalize_state_dict(content)
            descriptor: Descriptor = spandrel.ModelLoader().load_from_state_dict(state)
        except spandrel.UnsupportedModelError:
            raise UpscalerError(f"{not_ours}; nor does spandrel know its network") from None
        except Exception as error:  # forty architectures guess from weights, each in its own way
            why = str(error).partition("\n")[0]
            raise UpscalerError(
                f"{not_ours}; nor can spandrel load it ({type(error).__name__}: {why})"
            ) from error
    return descriptor


@contextmanager
def _spandrel(not_ours: str) -> Iterator[Any]:
    """The package, its warnings silenced. Raises `UpscalerError` that says what to install."""
    with catch_warnings():
        simplefilter("ignore")
        try:
            import spandrel  # optional, and it takes two seconds
        except ModuleNotFoundError as error:
            if error.name == "torchvision":
                raise UpscalerError(f"torchvision is not installed: {_torchvision()}") from error
            raise UpscalerError(f"{not_ours}; other networks need spandrel: {INSTALL}") from error
        except (ImportError, RuntimeError, OSError, AttributeError) as error:
            why = str(error).partition("\n")[0]
            raise UpscalerError(
                f"torchvision does not fit torch {torch.__version__} ({why}): "
                f"{_torchvision('--force-reinstall --no-deps ')}"
            ) from error
        yield spandrel


def _torchvision(how: str = "") -> str:
    """The command that installs the torchvision of this torch: its version and its build.

    torch 2.N goes with torchvision 0.(N + 15): https://github.com/pytorch/vision#installation.
    """
    version, _, build = torch.__version__.partition("+")
    fitting = f"'torchvision==0.{int(version.split('.')[1]) + 15}.*'"
    index = f" --index-url https://download.pytorch.org/whl/{build}" if build else ""
    return f"pip install {how}{fitting}{index}"
