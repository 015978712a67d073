"""Guards of the start: from a process that begins to its first frames."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

from bench.footage import Footage
from bench.guard import Guard
from bench.machine import ROOT

LIBRARIES = "import numpy, av, pydantic, typer"
ROUNDS = 9


def test_start_up(benchmark: Any, guard: Guard, footage: Footage, tmp_path: Path) -> None:
    """Of `render`, with kernels that an earlier run has compiled."""
    edit, output = tmp_path / "edit.json", tmp_path / "out.mp4"
    edit.write_text(json.dumps({"clips": [{"fileName": str(footage.path("first"))}]}))
    render = ("render", edit, "--output", output, "--upscaler", "none", "--encoder", "libx264")
    libraries_s: list[float] = []
    passed_s: list[dict[str, float]] = []

    def load_libraries() -> None:
        started_s = time.monotonic()
        run("-c", LIBRARIES)
        libraries_s.append(time.monotonic() - started_s)

    def start() -> None:
        started_s = str(time.monotonic())
        passed_s.append(json.loads(run("-m", "bench.first_frame", started_s, *render, "--quiet")))

    run("-m", "engine", *render)  # compiles the kernels
    load_libraries()
    benchmark.pedantic(start, setup=load_libraries, rounds=ROUNDS)
    reference_s = min(libraries_s)
    for name, mark in (("first frame decoded", "decoded_s"), ("first frame encoded", "encoded_s")):
        ours_s = min(each[mark] for each in passed_s)
        guard.hold(
            f"start-up, {name}", ours_s / reference_s, f"`{LIBRARIES}`",
            ours_s=ours_s, reference_s=reference_s,
        )  # fmt: skip


def run(*words: str | Path) -> str:
    """What a new process of Python prints."""
    return subprocess.run(
        [sys.executable, *words], cwd=ROOT, check=True, capture_output=True, text=True
    ).stdout
