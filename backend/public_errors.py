"""What users may read: no path of this server, and nothing that only its operator can act on."""

from __future__ import annotations

import re
import sys
import tempfile
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from backend.assignment import INPUT_ERRORS
from engine.errors import (
    ChunkError,
    EncoderError,
    EngineError,
    JoinError,
    OutputError,
    StoreError,
    UpscalerError,
)

_OPERATORS: dict[type[EngineError], str] = {
    UpscalerError: "the upscaler cannot run on this server",
    EncoderError: "this server cannot encode the film",
    OutputError: "this server cannot write its files",
    StoreError: "the store does not answer",
    ChunkError: "a part of the film came out wrong, and it is not published",
    JoinError: "the film came out wrong, and is not published",
}
"""What users are told of errors that they cannot mend."""

_FOLDERS = re.compile(r"""(?<![\w/:.…-])/(?:[^/\s:;,'"()]+/)+""")
"""The folders of an absolute path, and not those of a URL."""

_SPACED = {str(Path.home()), tempfile.gettempdir(), sys.prefix} - {"/"}
"""Folders of this machine that may have spaces in their names."""


def public_text(error: Exception, folders: Iterable[Path] = ()) -> str:
    """The error as its user may read it. Who calls this logs the whole of it.

    An error of the engine that the user cannot mend is told in a few words. Others are told as they
    are, but for paths; see `without_paths`.
    """
    if isinstance(error, INPUT_ERRORS) or not isinstance(error, EngineError):
        return str(without_paths(str(error), folders))
    kinds = (_OPERATORS[kind] for kind in type(error).__mro__ if kind in _OPERATORS)
    return f"{next(kinds, 'this server failed')} (its operator finds the reason in the log)"


def without_paths(value: Any, folders: Iterable[Path] = ()) -> Any:
    """A JSON value whose texts name no folder of this server, only files.

    Files below `folders` keep their path from there on.
    """
    if isinstance(value, dict):
        return {name: without_paths(each, folders) for name, each in value.items()}
    if isinstance(value, list | tuple):
        return [without_paths(each, folders) for each in value]
    if not isinstance(value, str) or "/" not in value:
        return value
    for folder in folders:
        value = value.replace(f"{folder}/", "")
    for spaced in _SPACED:
        value = value.replace(spaced, "/…")
    return _FOLDERS.sub("", value)
