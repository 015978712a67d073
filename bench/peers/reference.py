"""Real-ESRGAN's own class, for the peers that are not framestream: one picture at a time.

Its packages need an interpreter of their own (see ../reference/README.md), which
FRAMESTREAM_REFERENCE_PYTHON names; without it, or where this one has them, this one is used.
"""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from functools import cache
from importlib.util import find_spec
from typing import Any

from bench.machine import ROOT
from bench.peers.edits import PeerEdit

VARIABLE = "FRAMESTREAM_REFERENCE_PYTHON"


def python(network: str) -> str:
    """The interpreter that runs a peer."""
    return os.environ.get(VARIABLE, sys.executable) if network else sys.executable


def lack(network: str, *packages: str) -> str | None:
    """What of these packages, and of Real-ESRGAN's where a network is asked for, is missing."""
    needed = (*packages, "cv2", "realesrgan", "basicsr") if network else packages
    missing = [name for name in needed if not _has(python(network), name)]
    return f"{', '.join(missing)} not installed" if missing else None


@cache
def _has(interpreter: str, package: str) -> bool:
    if interpreter == sys.executable:
        return find_spec(package) is not None
    code = f"import importlib.util, sys; sys.exit(importlib.util.find_spec({package!r}) is None)"
    return subprocess.run([interpreter, "-c", code], cwd=ROOT).returncode == 0


def enlarger(edit: PeerEdit) -> Callable[[Any], Any]:
    """A function from a crop to a picture of the target's size, both BGR as OpenCV has them.

    The network's own factor, then one resize, which is quicker than to let `enhance` resize too.
    """
    import cv2

    from tests.engine.upscale.material import SHAPES
    from tests.engine.upscale.original import original_network, original_upscaler

    shape = SHAPES[edit.network]
    upscaler = original_upscaler()(
        scale=shape.scale, model_path=edit.weights, model=original_network(shape), half=False
    )
    size = (edit.target.width, edit.target.height)

    def enlarged(crop: Any) -> Any:
        picture, _ = upscaler.enhance(crop)
        return cv2.resize(picture, size, interpolation=cv2.INTER_CUBIC)

    return enlarged
