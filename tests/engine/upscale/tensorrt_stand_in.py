"""A stand-in for `tensorrt`: its names, computed by torch on the CPU while they are called.

As much of the interface of version 10 as a network is written with. A built engine holds the
picture that its definition has made of `Graph.picture`.
"""

from __future__ import annotations

import ctypes
import pickle
from enum import IntEnum, StrEnum
from types import ModuleType, SimpleNamespace
from typing import Any

import numpy as np
import torch
from torch.nn import functional as F  # noqa: N812 - what everyone calls it


class Layer(SimpleNamespace):
    """A layer, computed when its output is asked for, since its settings come later."""

    def get_output(self, index: int) -> Value:
        assert index == 0
        return Value(getattr(self, f"_{self.kind}")())

    def _convolution(self) -> torch.Tensor:
        return F.conv2d(self.x.data, self.kernel, self.bias, padding=self.padding_nd)

    def _constant(self) -> Any:
        return self.values

    def _prelu(self) -> torch.Tensor:
        return torch.where(self.x.data < 0, self.x.data * self.slopes.data, self.x.data)

    def _shuffle(self) -> Any:
        made = self.x.data.reshape(self.reshape_dims)
        order = getattr(self, "second_transpose", None)
        return made if order is None else made.permute(order)

    def _resize(self) -> torch.Tensor:
        assert (self.resize_mode, self.nearest_rounding) == ("nearest", "floor")
        assert self.coordinate_transformation == "asymmetric"
        return F.interpolate(self.x.data, scale_factor=tuple(self.scales[2:]), mode="nearest")

    def _elementwise(self) -> Any:
        assert self.operation == "sum" and self.x.data.shape == self.y.data.shape
        return self.x.data + self.y.data


class Value:
    def __init__(self, data: torch.Tensor) -> None:
        self.data = data
        self.name = ""


class Graph:
    """An `INetworkDefinition`."""

    picture: torch.Tensor
    """What goes through every network."""

    def add_input(self, name: str, dtype: Any, shape: tuple[int, ...]) -> Value:
        assert (name, tuple(self.picture.shape)) == ("rgb", shape)
        self.dtype = dtype
        return Value(self.picture.to(dtype))

    def _weights(self, array: Any) -> torch.Tensor:
        made = torch.from_numpy(array)
        assert made.dtype == self.dtype, "strongly typed"
        return made

    def add_convolution_nd(
        self, x: Value, maps: int, kernel_shape: Any, kernel: Any, bias: Any
    ) -> Layer:
        weights = self._weights(kernel)
        assert weights.shape == (maps, x.data.shape[1], *kernel_shape)
        return Layer(kind="convolution", x=x, kernel=weights, bias=self._weights(bias))

    def add_constant(self, shape: tuple[int, ...], values: Any) -> Layer:
        assert values.shape == shape
        return Layer(kind="constant", values=self._weights(values))

    def add_parametric_relu(self, x: Value, slopes: Value) -> Layer:
        return Layer(kind="prelu", x=x, slopes=slopes)

    def add_shuffle(self, x: Value) -> Layer:
        return Layer(kind="shuffle", x=x)

    def add_resize(self, x: Value) -> Layer:
        return Layer(kind="resize", x=x)

    def add_elementwise(self, x: Value, y: Value, operation: str) -> Layer:
        return Layer(kind="elementwise", x=x, y=y, operation=operation)

    def mark_output(self, value: Value) -> None:
        assert value.name == "enlarged"
        self.made = value.data


class Config:
    def set_memory_pool_limit(self, pool: str, size: int) -> None:
        assert pool == "workspace" and size > 0


class Builder:
    builds = 0
    refuses = False

    def __init__(self, logger: Any) -> None:
        del logger

    def create_network(self, flags: int) -> Graph:
        assert flags == 1 << NetworkDefinitionCreationFlag.STRONGLY_TYPED
        return Graph()

    def create_builder_config(self) -> Config:
        return Config()

    def build_serialized_network(self, graph: Graph, config: Config) -> Any:
        del config
        type(self).builds += 1
        return None if self.refuses else memoryview(pickle.dumps(graph.made.float().numpy()))


class Context:
    def __init__(self, made: Any) -> None:
        self._made = made
        self._at: dict[str, int] = {}

    def set_tensor_address(self, name: str, address: int) -> bool:
        self._at[name] = address
        return True

    def execute_async_v3(self, stream: int) -> bool:
        assert stream == 7 and self._at.keys() == {"rgb", "enlarged"}
        place = (ctypes.c_float * self._made.size).from_address(self._at["enlarged"])
        np.ctypeslib.as_array(place)[:] = self._made.ravel()
        return True


class Engine:
    def __init__(self, made: Any) -> None:
        self._made = made

    def create_execution_context(self) -> Context:
        return Context(self._made)


class Runtime:
    def __init__(self, logger: Any) -> None:
        del logger

    def deserialize_cuda_engine(self, plan: bytes) -> Engine:
        return Engine(pickle.loads(plan))


class NetworkDefinitionCreationFlag(IntEnum):
    STRONGLY_TYPED = 1


class Logger:
    WARNING = 2

    def __init__(self, level: int) -> None:
        assert level == self.WARNING


class InterpolationMode(StrEnum):
    NEAREST = "nearest"


class ResizeCoordinateTransformation(StrEnum):
    ASYMMETRIC = "asymmetric"


class ResizeRoundMode(StrEnum):
    FLOOR = "floor"


class ElementWiseOperation(StrEnum):
    SUM = "sum"


class MemoryPoolType(StrEnum):
    WORKSPACE = "workspace"


def module() -> ModuleType:
    """What `import tensorrt` gives."""
    made = ModuleType("tensorrt")
    made.__dict__.update(
        {
            each.__name__: each
            for each in (
                Builder, Runtime, NetworkDefinitionCreationFlag, Logger, InterpolationMode,
                ResizeCoordinateTransformation, ResizeRoundMode, ElementWiseOperation,
                MemoryPoolType,
            )
        },
        __version__="10.13.0", float16=torch.float16, float32=torch.float32,
    )  # fmt: skip
    return made
