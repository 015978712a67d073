"""The first minutes on a GPU, rehearsed: none should be lost there to a fault of the script."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest
import torch

from bench import gpu, gpu_steps
from bench.gpu import Step, run_steps

SCRIPTS = {
    "fails": "raise SystemExit('no such luck')",
    "dies": "import os, signal; os.kill(os.getpid(), signal.SIGKILL)",
    "hangs": "import time; print('on and on', flush=True); time.sleep(600)",
    "works": "pass",
}


def test_a_step_that_fails_dies_or_hangs_stops_no_other(tmp_path: Path) -> None:
    def command(step: Step, found: Path) -> list[str]:
        write = f"import pathlib; pathlib.Path({str(found)!r}).write_text('[1]'); "
        return [sys.executable, "-c", write + SCRIPTS[step.name]]

    results = tmp_path / "out.json"
    run_steps([Step(name, 2 if name == "hangs" else 60) for name in SCRIPTS], command, results)
    steps = json.loads(results.read_text())["steps"]
    assert {name: step["ended"] for name, step in steps.items()} == {
        "fails": "failed with 1",
        "dies": "died of SIGKILL",
        "hangs": "hung: killed after 2 s",
        "works": "well",
    }
    assert all(step["found"] == [1] for step in steps.values())
    assert "no such luck" in steps["fails"]["printed"] and "on and on" in steps["hangs"]["printed"]


@pytest.mark.parametrize("name", ["rates", "idle", "tuning", "memory", "long", "nvenc", "hashes"])
def test_a_step_runs(name: str, tmp_path: Path) -> None:
    """On the CPU, with tiny sizes."""
    found = tmp_path / "found.json"
    gpu_steps.main(name, "cpu", str(found))
    assert json.loads(found.read_text())


def test_every_step_has_a_place_and_a_limit() -> None:
    assert {step.name for step in gpu.STEPS} | {"hashes"} == set(gpu_steps.STEPS)


def test_idle_is_what_no_kernel_covers() -> None:
    assert gpu_steps.covered_us([(0, 4), (2, 3), (6, 10)]) == (8, 10)


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a CUDA device")
def test_without_cuda_it_says_so(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert gpu.main([str(tmp_path / "out.json")]) == 2
    assert "there is no CUDA device here" in capsys.readouterr().err
    assert not (tmp_path / "out.json").exists()
