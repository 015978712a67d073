"""The reference implementation: `basicsr` 1.4.2 and `realesrgan` 0.3.0, as they were released.

Their packages no longer import, since they pull in all of their training code and torchvision
functions that are gone. The files that hold the networks and the upscaler do, under packages that
are empty but for their path. bench/reference/README.md says how to install them.
"""

from __future__ import annotations

import importlib
import logging
import sys
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.machinery import PathFinder
from types import ModuleType
from typing import Any

import torch

from engine.upscale.network import CompactShape, Shape

PACKAGES = ("basicsr", "basicsr.archs", "basicsr.utils", "realesrgan", "realesrgan.archs")


class NotInstalledError(Exception):
    """The reference implementation is not installed."""


def original_network(shape: Shape) -> torch.nn.Module:
    """The reference's network of that shape, with random weights."""
    with _importable():
        if isinstance(shape, CompactShape):
            srvgg: Any = importlib.import_module("realesrgan.archs.srvgg_arch")
            module = srvgg.SRVGGNetCompact(
                num_feat=shape.features, num_conv=shape.inner_convs, upscale=shape.scale
            )
        else:
            rrdb: Any = importlib.import_module("basicsr.archs.rrdbnet_arch")
            module = rrdb.RRDBNet(
                num_in_ch=3,
                num_out_ch=3,
                scale=shape.scale,
                num_feat=shape.features,
                num_block=shape.blocks,
                num_grow_ch=shape.growth,
            )
    network: torch.nn.Module = module.eval().requires_grad_(False)
    return network


def original_upscaler() -> Any:
    """The class `realesrgan.utils.RealESRGANer`; needs `cv2`."""
    with _importable():
        return importlib.import_module("realesrgan.utils").RealESRGANer


@contextmanager
def _importable() -> Iterator[None]:
    """Lets the files of the reference be imported, and leaves no trace in `sys.modules`."""
    before = dict(sys.modules)
    try:
        for name in PACKAGES:
            package = ModuleType(name)
            package.__path__ = [_folder(name)]
            sys.modules[name] = package
        # asked for at import by what is not used here
        sys.modules["basicsr.utils"].get_root_logger = logging.getLogger  # type: ignore[attr-defined]
        sys.modules.setdefault("torchvision", ModuleType("torchvision"))
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # distutils
            yield
    finally:
        for name in sys.modules.keys() - before.keys():
            if name.split(".")[0] in {"basicsr", "realesrgan", "torchvision"}:
                del sys.modules[name]


def _folder(package: str) -> str:
    top, *inner = package.split(".")
    spec = PathFinder.find_spec(top)
    if spec is None or not spec.submodule_search_locations:
        raise NotInstalledError(f"{top} is not installed")
    return "/".join([spec.submodule_search_locations[0], *inner])
