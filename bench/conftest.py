"""Shared by the guards: footage, a guard, and the machine's description in what they store."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Any

import pytest

from bench.footage import Footage
from bench.guard import Guard
from bench.machine import this_machine


@pytest.fixture(scope="session")
def footage(tmp_path_factory: pytest.TempPathFactory) -> Footage:
    """Films to export, kept between runs in `FRAMESTREAM_BENCH_DIR` where that is set."""
    kept = os.environ.get("FRAMESTREAM_BENCH_DIR")
    folder = Path(kept) if kept else tmp_path_factory.mktemp("footage")
    folder.mkdir(parents=True, exist_ok=True)
    return Footage(folder.resolve())


@pytest.fixture
def guard(benchmark: Any) -> Guard:
    return Guard(benchmark)


def pytest_benchmark_update_machine_info(machine_info: dict[str, Any]) -> None:
    """What a reader of the numbers needs to know, in place of what pytest-benchmark collects."""
    machine_info.clear()
    machine_info.update(this_machine(" ".join(["pytest", *sys.argv[1:]])).document())


def pytest_benchmark_update_json(output_json: dict[str, Any]) -> None:
    """Every single timing is too much to store."""
    for each in output_json["benchmarks"]:
        each["stats"].pop("data", None)
