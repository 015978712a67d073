"""Reading a checkpoint as data. No code in the file runs.

A checkpoint is a pickle, which can name any function to be called. `torch.load` with
`weights_only=True` reads it with an unpickler that builds tensors and plain containers and refuses
all else (https://docs.pytorch.org/docs/stable/generated/torch.load.html). The safetensors format
has no code in it. TorchScript files are programs, so they are refused.

spandrel's own loader is not used. It reads `.pth` files with a restricted unpickler as well
(spandrel/__helpers/unpickler.py, 0.4.2), but `.pt` files by `torch.jit.load`.
"""

from __future__ import annotations

import pickle
from collections.abc import Mapping
from pathlib import Path
from typing import Any
from warnings import catch_warnings, simplefilter

import torch
from torch import Tensor

from engine.errors import UpscalerError

Checkpoint = Mapping[str, Any]
"""What a file of weights holds: a state dictionary, bare or under some key, perhaps with more."""

State = Mapping[str, Tensor]
"""Weights by name."""


def read_checkpoint(path: Path) -> Checkpoint:
    """The content of a checkpoint of torch or safetensors, on the CPU. Raises `UpscalerError`."""
    try:
        content = _safetensors(path) if path.suffix == ".safetensors" else _torch_file(path)
    except FileNotFoundError:
        raise UpscalerError("there is no such file") from None
    except (IsADirectoryError, PermissionError) as error:
        raise UpscalerError(f"cannot be read: {error.strerror}") from error
    except pickle.UnpicklingError as error:
        raise UpscalerError("not a checkpoint, or one that holds more than weights") from error
    except (RuntimeError, OSError, EOFError, LookupError, ValueError, AttributeError) as error:
        if "TorchScript" in str(error):
            raise UpscalerError("a TorchScript program, not a checkpoint of weights") from error
        raise UpscalerError("not a checkpoint of torch, or a damaged one") from error
    if not isinstance(content, Mapping) or not content:
        raise UpscalerError("the checkpoint holds no state dictionary")
    return content


def state_of(content: Checkpoint) -> State:
    """The state dictionary, bare or under the keys of Real-ESRGAN. Raises `UpscalerError`."""
    for key in ("params_ema", "params"):
        if key in content:
            content = content[key]
            break
    if not isinstance(content, Mapping) or not content:
        raise UpscalerError("the checkpoint holds no state dictionary")
    for name, tensor in content.items():
        if not isinstance(name, str) or not isinstance(tensor, Tensor):
            raise UpscalerError(
                f"the checkpoint holds no state dictionary: {name!r} is a {type(tensor).__name__}"
            )
    return content


def _torch_file(path: Path) -> Any:
    with catch_warnings():
        simplefilter("ignore")  # of TorchScript files, which are an error here
        return torch.load(path, map_location="cpu", weights_only=True)


def _safetensors(path: Path) -> Any:
    try:
        from safetensors import SafetensorError  # with the extra `models` only
        from safetensors.torch import load_file
    except ImportError:
        raise UpscalerError(
            "safetensors is not installed: pip install 'framestream[models]'"
        ) from None
    try:
        return load_file(path)
    except SafetensorError as error:
        raise UpscalerError("not a checkpoint of safetensors, or a damaged one") from error
