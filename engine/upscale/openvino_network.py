"""Our networks computed by OpenVINO, on a CPU or on Intel's GPUs: the extra `openvino`.

The graph is written down with OpenVINO's own operations, layer by layer. That takes 0.05 s, where
its converter of torch modules takes seconds and does not know all that ours do. In float32 the
result on a CPU differs from torch's by rounding only.
"""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import openvino
import torch
from openvino import opset13 as ops
from torch import Tensor, nn

from engine.errors import UpscalerError
from engine.upscale.inference import Precision
from engine.upscale.network import RRDB, Compact, DenseBlock, Network, RRDBNet

Node = Any
"""An output of an OpenVINO operation, or the operation itself."""

KEPT_SIZES = 4
"""Networks compiled for a size that are kept: a zoom goes through many."""

_PRECISIONS = {Precision.FP32: "f32", Precision.FP16: "f16", Precision.BF16: "bf16"}


class OpenVinoNetwork:
    """A `CompiledNetwork` by OpenVINO. Threads may share it.

    It is compiled for every size of picture that it meets, in about 0.1 s, and takes one picture
    at a time: sizes that are not fixed take twice as long, and batches gain nothing.
    """

    dtype = torch.float32
    fixed_shapes = False

    def __init__(
        self, graph: openvino.Model, scale: int, target: str, precision: Precision, at_once: int
    ) -> None:
        """`graph`: see `graph_of`. `scale`: of the network. `at_once`: passes at the same time.

        `target`: CPU or GPU, as OpenVINO spells it.
        """
        self._core = openvino.Core()
        self._graph = graph
        self._scale = scale
        self._target = target
        self._settings: dict[str, Any] = {
            "INFERENCE_PRECISION_HINT": _PRECISIONS[precision],
            "NUM_STREAMS": at_once,
        }
        if target == "CPU":
            # a thread that is bound to one processor waits while the encoder has it
            self._settings |= {
                "ENABLE_CPU_PINNING": False,
                "INFERENCE_NUM_THREADS": torch.get_num_threads(),
            }
        self._of_size: OrderedDict[torch.Size, _OfSize] = OrderedDict()
        self._lock = threading.Lock()

    def __call__(self, images: Tensor) -> Tensor:
        """See `CompiledNetwork`."""
        made = [self._upscaled(image) for image in torch.split(images, 1)]
        return made[0] if len(made) == 1 else torch.cat(made)

    def _upscaled(self, image: Tensor) -> Tensor:
        _, channels, height, width = image.shape
        out = torch.empty((1, channels, height * self._scale, width * self._scale))
        with self._compiled(image.shape).request() as request:
            # both share their memory with the tensors
            request.set_input_tensor(openvino.Tensor(image.contiguous().numpy(), True))
            request.set_output_tensor(openvino.Tensor(out.numpy(), True))
            request.infer()
        return out

    def _compiled(self, shape: torch.Size) -> _OfSize:
        with self._lock:
            if shape not in self._of_size:
                self._of_size[shape] = self._compile(shape)
            self._of_size.move_to_end(shape)
            while len(self._of_size) > KEPT_SIZES:
                self._of_size.popitem(last=False)
            return self._of_size[shape]

    def _compile(self, shape: torch.Size) -> _OfSize:
        self._graph.reshape(list(shape))
        try:
            return _OfSize(self._core.compile_model(self._graph, self._target, self._settings))
        except RuntimeError as error:
            why = " ".join(str(error).split())
            raise UpscalerError(f"OpenVINO cannot run it on {self._target}: {why}") from error


class _OfSize:
    """A network compiled for one size, with a request for each pass that runs at a time."""

    def __init__(self, model: openvino.CompiledModel) -> None:
        self._model = model
        self._idle: list[openvino.InferRequest] = []

    @contextmanager
    def request(self) -> Iterator[openvino.InferRequest]:
        """A request that nobody else uses meanwhile."""
        try:
            request = self._idle.pop()
        except IndexError:
            request = self._model.create_infer_request()
        yield request
        self._idle.append(request)


def graph_of(network: Network) -> openvino.Model:
    """One of our networks as a graph of OpenVINO's, for one picture of any size.

    Raises `UpscalerError` for any other network.
    """
    rgb = ops.parameter([1, 3, -1, -1], np.float32)
    match network.module:
        case Compact() as module:
            made = _compact(module, rgb)
        case RRDBNet() as module:
            made = _rrdb_net(module, rgb)
        case _:
            raise UpscalerError("OpenVINO runs SRVGGNetCompact and RRDBNet only")
    return openvino.Model([made], [rgb])


def _compact(module: Compact, rgb: Node) -> Node:
    at = rgb
    for layer in module.body:
        if isinstance(layer, nn.Conv2d):
            at = _conv(layer, at)
        elif isinstance(layer, nn.PReLU):
            at = ops.prelu(at, _constant(layer.weight))
    repeats = module.scale**2
    channels = ops.constant(np.arange(3).repeat(repeats))
    nearest = ops.gather(rgb, channels, ops.constant(1))
    return ops.depth_to_space(ops.add(at, nearest), "depth_first", module.scale)


def _rrdb_net(module: RRDBNet, rgb: Node) -> Node:
    folded = ops.space_to_depth(rgb, "depth_first", module.fold) if module.fold > 1 else rgb
    first = at = _conv(module.conv_first, folded)
    for block in module.body:
        assert isinstance(block, RRDB)
        inside = at
        for dense in (block.rdb1, block.rdb2, block.rdb3):
            inside = _dense(dense, inside)
        at = _scaled_sum(inside, at)
    at = ops.add(_conv(module.conv_body, at), first)
    for layer in (module.conv_up1, module.conv_up2):
        at = _lrelu(_conv(layer, _doubled(at)))
    return _conv(module.conv_last, _lrelu(_conv(module.conv_hr, at)))


def _dense(block: DenseBlock, x: Node) -> Node:
    seen = [x]
    for layer in (block.conv1, block.conv2, block.conv3, block.conv4):
        seen.append(_lrelu(_conv(layer, _joined(seen))))
    return _scaled_sum(_conv(block.conv5, _joined(seen)), x)


def _scaled_sum(x: Node, residual: Node) -> Node:
    return ops.add(ops.multiply(x, ops.constant(np.float32(0.2))), residual)


def _joined(nodes: list[Node]) -> Node:
    return ops.concat(nodes, 1) if len(nodes) > 1 else nodes[0]


def _doubled(x: Node) -> Node:
    """Each pixel four times, as nearest-neighbour scaling gives."""
    factors = ops.constant(np.array([2, 2], np.float32))
    axes = ops.constant(np.array([2, 3]))
    return ops.interpolate(
        x, factors, "nearest", "scales", axes=axes,
        coordinate_transformation_mode="asymmetric", nearest_mode="floor",
    )  # fmt: skip


def _lrelu(x: Node) -> Node:
    return ops.prelu(x, ops.constant(np.array([0.2], np.float32)))


def _conv(layer: nn.Conv2d, x: Node) -> Node:
    assert layer.bias is not None
    ones = [1, 1]
    made = ops.convolution(x, _constant(layer.weight), ones, ones, ones, ones)
    return ops.add(made, _constant(layer.bias.reshape(1, -1, 1, 1)))


def _constant(weights: Tensor) -> Node:
    return ops.constant(weights.detach().contiguous().numpy())
