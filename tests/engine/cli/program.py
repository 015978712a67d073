"""The program as tests run it, and the small edits it is given."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from typer.testing import CliRunner

from engine.cli.main import app
from tests.waiting import wait_until


@dataclass(frozen=True)
class Done:
    """How a command ended."""

    returncode: int
    stdout: str
    stderr: str


def framestream(*words: str | Path) -> Done:
    """Runs a command in this process, on a wide plain console."""
    result = CliRunner(env={"COLUMNS": "200", "NO_COLOR": "1"}).invoke(app, [str(w) for w in words])
    if result.exception is not None and not isinstance(result.exception, SystemExit):
        raise result.exception
    return Done(result.exit_code, result.stdout, result.stderr)


def interrupted(*words: str | Path, once: Callable[[], object]) -> Done:
    """Runs a command in a process of its own, and presses Ctrl-C once the condition holds."""
    command = [sys.executable, "-m", "engine", *map(str, words)]
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as process:
        try:
            wait_until(once)
            process.send_signal(signal.SIGINT)
            stdout, stderr = process.communicate(timeout=60)
        finally:
            process.kill()
    return Done(process.returncode, stdout, stderr)


def write_edit(path: Path, document: dict[str, Any]) -> Path:
    """Writes an edit with a small target; gives its path."""
    small = {"targetWidth": 240, "targetHeight": 144}
    path.write_text(json.dumps(document | small))
    return path
