"""The first ten minutes on a CUDA machine: what could be wrong there, and how fast it is.

    pip install '.[upscale,test]'
    python -m bench.gpu OUT.json                  # all steps, the most telling first
    python -m bench.gpu OUT.json --steps idle tuning
    python -m bench.gpu OUT.json --device cpu     # a rehearsal with tiny sizes: proves code only

Each step runs in a process of its own, within its own time. What it found is in OUT.json as soon as
it is known, so a run that is killed keeps it, and a step that fails, hangs or dies stops no other.
The steps are in `gpu_steps.py`. Weights are seeded: speed does not depend on them.
"""

from __future__ import annotations

import argparse
import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

TAIL_CHARACTERS = 2000
"""How much is kept of what a step printed that did not end well."""


@dataclass(frozen=True, slots=True)
class Step:
    """One question to the machine."""

    name: str
    limit_s: float
    """Longer than this it is killed, with all that it started."""


STEPS = (
    Step("doctor", 40),
    Step("tests", 200),
    Step("races", 90),
    Step("rates", 90),
    Step("idle", 30),
    Step("tuning", 60),
    Step("memory", 60),
    Step("long", 60),
    Step("nvenc", 20),
)
"""In the order of how much each would tell. The limits' sum is more than ten minutes; most need
half of theirs."""


def main(arguments: Sequence[str]) -> int:
    parser = argparse.ArgumentParser(prog="python -m bench.gpu", description=__doc__)
    parser.add_argument("results", type=Path, help="JSON file to write")
    names = [step.name for step in STEPS]
    parser.add_argument("--steps", nargs="+", default=names, choices=names, metavar="STEP")
    parser.add_argument("--device", default="cuda", choices=["cuda", "cpu"])
    asked = parser.parse_args(arguments)
    if asked.device == "cuda" and (lack := lack_of_cuda()) is not None:
        print(f"python -m bench.gpu: {lack}; --device cpu rehearses it", file=sys.stderr)
        return 2

    def command(step: Step, found: Path) -> list[str]:
        return [sys.executable, "-m", "bench.gpu_steps", step.name, asked.device, str(found)]

    steps = [step for step in STEPS if step.name in asked.steps]
    document = run_steps(steps, command, asked.results)
    return 0 if all(each["ended"] == "well" for each in document["steps"].values()) else 1


def lack_of_cuda() -> str | None:
    """Why there is nothing to measure here, or None."""
    try:
        import torch
    except ModuleNotFoundError:
        return "torch is not installed: pip install '.[upscale,test]'"
    return None if torch.cuda.is_available() else "there is no CUDA device here"


def run_steps(
    steps: Sequence[Step], command: Callable[[Step, Path], list[str]], results: Path
) -> dict[str, Any]:
    """Runs each step by the command that writes what it finds to a JSON file.

    `results` is written whenever a step has ended: how it ended, how long it took, what it found,
    and the end of what it printed where it did not end well.
    """
    document: dict[str, Any] = {"command": " ".join(sys.argv), "steps": {}}
    for step in steps:
        print(f"{step.name} ...", end=" ", flush=True)
        with tempfile.TemporaryDirectory() as folder:
            found, printed = Path(folder) / "found.json", Path(folder) / "printed"
            start_s = time.monotonic()
            ended = _ended(command(step, found), step.limit_s, printed)
            entry = {"ended": ended, "took_s": round(time.monotonic() - start_s, 1)}
            if found.exists():
                entry["found"] = json.loads(found.read_text())
            if ended != "well":
                entry["printed"] = printed.read_text(errors="replace")[-TAIL_CHARACTERS:]
        document["steps"][step.name] = entry
        write_json(results, document)
        print(f"{ended}, {entry['took_s']} s", flush=True)
    return document


def _ended(command: Sequence[str], limit_s: float, printed: Path) -> str:
    """How it ended: "well", "failed", "killed by a signal" or "hung"."""
    with printed.open("wb") as output:
        child = subprocess.Popen(
            command, stdout=output, stderr=subprocess.STDOUT, start_new_session=True
        )
        try:
            code = child.wait(limit_s)
        except subprocess.TimeoutExpired:
            code = None
        finally:
            if child.poll() is None:
                os.killpg(child.pid, signal.SIGKILL)
                child.wait()
    if code is None:
        return f"hung: killed after {limit_s:g} s"
    if code < 0:
        return f"died of {signal.Signals(-code).name}"
    return "well" if code == 0 else f"failed with {code}"


def write_json(path: Path, document: object) -> None:
    """All of it or nothing, so that a kill leaves what was there."""
    part = path.with_name(path.name + ".part")
    part.write_text(json.dumps(document, indent=1) + "\n")
    part.replace(path)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
