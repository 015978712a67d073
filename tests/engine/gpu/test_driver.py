"""FFmpeg's own NVENC and NVDEC code, without a GPU: the tests of `tests/gpu_driver`, in a child."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.gpu_driver import build
from tests.media import needs_ffmpeg

ROOT = Path(build.__file__).parents[2]
LONGEST_S = 150


@pytest.fixture(scope="module")
def driver(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the stand-in driver's libraries."""
    compiler = build.compiler()
    if compiler is None:
        pytest.skip("there is no C compiler to build the stand-in driver with")
    folder = tmp_path_factory.mktemp("driver")
    build.build(compiler, folder)
    return folder


@needs_ffmpeg
def test_on_the_stand_in_driver(driver: Path) -> None:
    environment = {
        **os.environ,
        "LD_LIBRARY_PATH": str(driver),
        "GPU_DRIVER_LOG": str(driver / "log"),
        "PYTHONPATH": str(ROOT),
        "OMP_NUM_THREADS": "1",  # its pictures are too small for more
    }
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "-p", "no:xdist"]
    done = subprocess.run(
        [*command, "tests/gpu_driver"],
        cwd=ROOT,
        env=environment,
        capture_output=True,
        text=True,
        timeout=LONGEST_S,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "skipped" not in done.stdout, done.stdout
