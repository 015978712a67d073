"""Compiled functions in new processes: what is compiled, what is loaded, what is left to numba."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

KERNELS = """
from engine.compiled import compiled

FACTOR = 2

@compiled()
def scaled(number: int) -> int:
    return FACTOR * number

@compiled()
def total(numbers: object, share: float, more: bool) -> float:
    total = 0.0
    for index in range(numbers.shape[0]):
        total += scaled(numbers[index])
    return total * share + more

@compiled()
def quotient(a: int, b: int) -> int:
    return a // b

@compiled()
def shown(number: int) -> None:
    print(number)
"""

CALLS = """
import sys
import numpy as np
from kernels import quotient, scaled, total

numbers = np.arange(10, dtype=np.int16)
print(scaled(21), scaled(np.uint8(200)), scaled(-3))
print(total(numbers, 0.5, True), total(numbers[::-3], 1.0, False), total(numbers[:0], 1.0, True))
print(quotient(-7, 2))
try:
    quotient(1, 0)
except RuntimeError as error:
    print(error)
print("numba" in sys.modules)
"""
RESULTS = ["42 400 -6", "46.0 36.0 1.0", "-4", "kernels.quotient ended with numba's status 1"]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "kernels.py").write_text(KERNELS)
    return tmp_path


def printed(folder: Path, code: str) -> list[str]:
    """The lines that a new process prints."""
    environment = {
        **os.environ,
        "PYTHONPATH": os.pathsep.join([str(folder), str(Path(__file__).parents[2])]),
        "NUMBA_CACHE_DIR": str(folder / "cache"),
    }
    command = [sys.executable, "-c", code]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout.splitlines()


def test_numba_is_only_loaded_to_compile(folder: Path) -> None:
    assert printed(folder, CALLS) == [*RESULTS, "True"]
    assert printed(folder, CALLS) == [*RESULTS, "False"]
    (folder / "kernels.py").write_text("# longer\n" + KERNELS)
    assert printed(folder, CALLS) == [*RESULTS, "False"]


def test_a_change_of_what_a_function_calls_compiles_it_again(folder: Path) -> None:
    call = "import kernels, numpy; print(kernels.total(numpy.array([21]), 1.0, False))"
    assert printed(folder, call) == ["42.0"]
    (folder / "kernels.py").write_text(KERNELS.replace("FACTOR = 2", "FACTOR = 3"))
    assert printed(folder, call) == ["63.0"]


def test_code_that_needs_numba_when_it_runs_has_it(folder: Path) -> None:
    """Its file stays empty, so each process compiles it."""
    assert printed(folder, "import kernels; kernels.shown(42)") == ["42"]
    assert [each.stat().st_size for each in (folder / "cache").iterdir()] == [0]
