"""A server that kills itself at an exact moment, for a process of its own.

python -m tests.backend.killed_server "MOMENT" serve ...
"""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Callable
from typing import Any

from backend import modal_jobs
from backend.inspection import Inspector
from backend.jobs import Jobs
from engine.cli.main import app


def _die(*_: Any, **__: Any) -> Any:
    os.kill(os.getpid(), signal.SIGKILL)


def _after(function: Callable[..., Any]) -> Callable[..., Any]:
    def call_and_die(*args: Any, **kwargs: Any) -> Any:
        function(*args, **kwargs)
        _die()

    return call_and_die


MOMENTS: dict[str, tuple[Any, str, Callable[..., Any]]] = {
    "the sources are stored": (modal_jobs, "_put_sources", _after(modal_jobs._put_sources)),
    "the call has started": (Jobs, "call_started", _die),
    "a clip has come whole": (Inspector, "probe", _die),
    "the job is cancelled": (Jobs, "cancel", _after(Jobs.cancel)),
}


def main() -> None:
    """Runs framestream's command line, and dies at the moment that the first argument names."""
    owner, name, instead = MOMENTS[sys.argv.pop(1)]
    setattr(owner, name, instead)
    app()


if __name__ == "__main__":
    main()
