"""Shared by the benchmarks: footage, a place to write, and the machine's description."""

from __future__ import annotations

import os
import platform
import subprocess
from importlib.metadata import version
from pathlib import Path
from typing import Any

import pytest

from bench.footage import Footage

PACKAGES = ("framestream", "av", "numpy", "numba")


@pytest.fixture(scope="session")
def footage(tmp_path_factory: pytest.TempPathFactory) -> Footage:
    """Films to export, kept between runs in `FRAMESTREAM_BENCH_DIR` where that is set."""
    kept = os.environ.get("FRAMESTREAM_BENCH_DIR")
    folder = Path(kept) if kept else tmp_path_factory.mktemp("footage")
    folder.mkdir(parents=True, exist_ok=True)
    return Footage(folder.resolve())


def pytest_benchmark_update_machine_info(machine_info: dict[str, Any]) -> None:
    """Adds what a reader of the numbers needs to know and pytest-benchmark does not tell."""
    said = subprocess.run(["ffmpeg", "-version"], capture_output=True, text=True, check=True).stdout
    machine_info["ffmpeg"] = said.split()[2]
    machine_info["packages"] = {name: version(name) for name in PACKAGES}
    machine_info["processor_name"] = _processor()
    machine_info["cores"] = len(os.sched_getaffinity(0))
    machine_info["memory_gib"] = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") / 2**30
    machine_info["system_name"] = f"{platform.system()} {platform.release()}"


def _processor() -> str:
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        if line.startswith("model name"):
            return line.partition(":")[2].strip()
    return platform.processor()
