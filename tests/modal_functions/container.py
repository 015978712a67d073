"""Runs one function in a process of its own, as a container does.

Reads the arguments from standard input and writes the result to standard output. SIGTERM stands for
a cancelled input, which Modal raises in the main thread.
"""

from __future__ import annotations

import pickle
import signal
import sys
from importlib import import_module
from types import FrameType

from modal._serialization import serialize
from modal.exception import InputCancellation


def _cancel(number: int, frame: FrameType | None) -> None:
    del number, frame
    raise InputCancellation


def main() -> None:
    module, _, name = sys.argv[1].partition(":")
    args, kwargs = pickle.load(sys.stdin.buffer)
    signal.signal(signal.SIGTERM, _cancel)
    function = getattr(import_module(module), name)
    sys.stdout.buffer.write(serialize(function(*args, **kwargs)))


if __name__ == "__main__":
    main()
