"""SRVGGNetCompact computed by TensorRT on an NVIDIA GPU: the extra `tensorrt`. **Untried.**

TensorRT's own way to fuse an activation into its convolution, and to choose kernels by trying them,
is expected to take 20 to 30 % less time than torch on a T4. No machine with both was at hand. The
network is written down layer by layer with TensorRT's own operations, so that nothing has to
convert it. An engine is for one GPU, one size of picture and one version of TensorRT, and takes a
minute to build. It is kept in the user's cache. What has no engine is computed by torch, and an
event says so.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

import tensorrt
import torch
from torch import Tensor, nn

from engine.code_files import make_code, read_code
from engine.errors import UpscalerError
from engine.geometry import Size
from engine.upscale.inference import Precision
from engine.upscale.network import Compact, Network
from engine.user_cache import user_cache

MOST_SIZES = 3
"""For so many sizes of picture an engine is built, the first that come. A zoom has many."""
WORKSPACE_BYTES = 1 << 30
"""The most memory that a layer may take while it works."""

_DTYPES = {Precision.FP32: torch.float32, Precision.FP16: torch.float16}


class TensorRtNetwork:
    """A `CompiledNetwork` by TensorRT, for one picture at a time: batches gain nothing."""

    fixed_shapes = False

    def __init__(
        self,
        network: Network,
        device: torch.device,
        precision: Precision,
        otherwise: Callable[[], Callable[[Tensor], Tensor]],
    ) -> None:
        """`otherwise` gives what computes pictures for which there is no engine, when it is needed.

        Raises `UpscalerError` for a network that is no `Compact`, and for bfloat16.
        """
        if not isinstance(network.module, Compact):
            raise UpscalerError("TensorRT runs SRVGGNetCompact only")
        if precision not in _DTYPES:
            raise UpscalerError(f"TensorRT does not compute in {precision} here")
        self.dtype = _DTYPES[precision]
        self._network = network.module
        self._device = device
        self._precision = precision
        self._otherwise = cache(otherwise)
        self.events: list[str] = []
        """What torch computes instead, and why, one line each."""
        self._engines: dict[Size, _Engine | None] = {}
        """By the size of a picture. None where there is no engine for it."""

    def __call__(self, images: Tensor) -> Tensor:
        """See `CompiledNetwork`."""
        count, channels, height, width = images.shape
        size = Size(width, height)
        if size not in self._engines:
            self._engines[size] = self._engine_for(size)
        engine = self._engines[size]
        if engine is None:
            return self._otherwise()(images)
        scale = self._network.scale
        given = images.contiguous()  # channel by channel, as TensorRT reads it
        out = given.new_empty((count, channels, height * scale, width * scale))
        for image, made in zip(given, out, strict=True):
            engine.run(image, made)
        return out

    def _engine_for(self, size: Size) -> _Engine | None:
        if len(self._engines) == MOST_SIZES:
            self.events.append(f"TensorRT: more than {MOST_SIZES} sizes; torch computes the rest")
        if len(self._engines) >= MOST_SIZES:
            return None
        try:
            return _Engine(built(self._network, size, self._precision, self._device), self._device)
        except (UpscalerError, RuntimeError, OSError) as error:
            why = " ".join(str(error).split())
            self.events.append(f"TensorRT: {why}; torch computes {size}")
            return None


class _Engine:
    """A network that was built for one size. torch's current stream runs it."""

    def __init__(self, plan: bytes, device: torch.device) -> None:
        """Raises `UpscalerError` where TensorRT does not take what it has built."""
        self._device = device
        self._runtime = tensorrt.Runtime(tensorrt.Logger(tensorrt.Logger.WARNING))
        self._engine = self._runtime.deserialize_cuda_engine(plan)
        self._context = self._engine and self._engine.create_execution_context()
        if self._context is None:
            raise UpscalerError("there is no memory for the engine, or it is for another GPU")

    def run(self, image: Tensor, out: Tensor) -> None:
        """Begins to compute `out` (3, h * scale, w * scale) of `image` (3, h, w).

        Raises `UpscalerError`.
        """
        self._context.set_tensor_address("rgb", image.data_ptr())
        self._context.set_tensor_address("enlarged", out.data_ptr())
        stream = torch.cuda.current_stream(self._device).cuda_stream
        if not self._context.execute_async_v3(stream):
            raise UpscalerError("TensorRT did not run its engine")


def built(network: Compact, size: Size, precision: Precision, device: torch.device) -> bytes:
    """The engine, built now or before. Raises `UpscalerError` where TensorRT builds none."""
    key = repr(engine_key(network, size, precision, device))
    name = f"{hashlib.sha256(key.encode()).hexdigest()[:16]}.engine"
    folder = user_cache()
    files = [] if folder is None else [Path(folder, "tensorrt", name)]
    plan = read_code(files, key) or make_code(files, key, lambda: build(network, size, precision))
    if plan is None:
        raise UpscalerError("it builds no engine")
    return plan


class EngineKey(NamedTuple):
    """All that an engine depends on."""

    weights: str
    size: str
    precision: str
    gpu: str
    capability: tuple[int, int]
    tensorrt: str


def engine_key(
    network: Compact, size: Size, precision: Precision, device: torch.device
) -> EngineKey:
    """What tells the engine of this network, size, precision, GPU and TensorRT from all others."""
    weights = hashlib.sha256(repr((len(network.body), network.scale)).encode())
    for tensor in network.state_dict().values():
        weights.update(tensor.detach().cpu().float().numpy().tobytes())
    return EngineKey(
        weights=weights.hexdigest(),
        size=str(size),
        precision=str(precision),
        gpu=torch.cuda.get_device_name(device),
        capability=torch.cuda.get_device_capability(device),
        tensorrt=tensorrt.__version__,
    )


def build(network: Compact, size: Size, precision: Precision) -> bytes | None:
    """Builds the engine on the current GPU, in about a minute. None where TensorRT cannot."""
    builder = tensorrt.Builder(tensorrt.Logger(tensorrt.Logger.WARNING))
    typed = 1 << int(tensorrt.NetworkDefinitionCreationFlag.STRONGLY_TYPED)
    graph = builder.create_network(typed)
    kept = define(graph, network, size, precision)
    config = builder.create_builder_config()
    config.set_memory_pool_limit(tensorrt.MemoryPoolType.WORKSPACE, WORKSPACE_BYTES)
    plan = builder.build_serialized_network(graph, config)
    del kept  # TensorRT has read the weights by now
    return None if plan is None else bytes(plan)


def define(graph: Any, network: Compact, size: Size, precision: Precision) -> list[Any]:
    """Writes the network into a definition of TensorRT's, for one picture of that size.

    Returns the weights, which must live until the engine is built.
    """
    kept: list[Any] = []

    def weights(tensor: Tensor, *shape: int) -> Any:
        array = tensor.detach().cpu().to(_DTYPES[precision]).reshape(shape or tensor.shape)
        kept.append(array.contiguous().numpy())
        return kept[-1]

    kinds = {Precision.FP32: tensorrt.float32, Precision.FP16: tensorrt.float16}
    rgb = graph.add_input("rgb", kinds[precision], (1, 3, size.height, size.width))
    at = rgb
    for layer in network.body:
        if isinstance(layer, nn.Conv2d):
            assert layer.bias is not None
            convolution = graph.add_convolution_nd(
                at, layer.out_channels, (3, 3), weights(layer.weight), weights(layer.bias)
            )
            convolution.padding_nd = (1, 1)
            at = convolution.get_output(0)
        elif isinstance(layer, nn.PReLU):
            shape = (1, layer.num_parameters, 1, 1)
            slopes = graph.add_constant(shape, weights(layer.weight, *shape))
            at = graph.add_parametric_relu(at, slopes.get_output(0)).get_output(0)
    nearest = graph.add_resize(rgb)
    nearest.resize_mode = tensorrt.InterpolationMode.NEAREST
    nearest.coordinate_transformation = tensorrt.ResizeCoordinateTransformation.ASYMMETRIC
    nearest.nearest_rounding = tensorrt.ResizeRoundMode.FLOOR
    nearest.scales = [1, 1, network.scale, network.scale]
    total = graph.add_elementwise(
        _shuffled(graph, at, size, network.scale),
        nearest.get_output(0),
        tensorrt.ElementWiseOperation.SUM,
    ).get_output(0)
    total.name = "enlarged"
    graph.mark_output(total)
    return kept


def _shuffled(graph: Any, at: Any, size: Size, scale: int) -> Any:
    """`pixel_shuffle`: the channels (c, i, j) of a pixel are its rows i and columns j."""
    split = graph.add_shuffle(at)
    split.reshape_dims = (1, 3, scale, scale, size.height, size.width)
    split.second_transpose = (0, 1, 4, 2, 5, 3)
    joined = graph.add_shuffle(split.get_output(0))
    joined.reshape_dims = (1, 3, size.height * scale, size.width * scale)
    return joined.get_output(0)
