"""Compiled functions where numba cannot keep them: the folder is no folder, full, or damaged."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.disks import fill, small_disk

CALL = """
import kernels
print(kernels.double(21), sum(kernels.double.stats.cache_hits.values()))
"""
KERNELS = """
from engine.compiled import compiled

@compiled()
def double(number: int) -> int:
    return 2 * number
"""


@pytest.fixture
def kernels(tmp_path: Path) -> Path:
    folder = tmp_path / "code"
    folder.mkdir()
    (folder / "kernels.py").write_text(KERNELS)
    return folder


def called(kernels: Path, cache: Path) -> tuple[str, bool]:
    """The result in a new process, and whether the code was found in the folder."""
    environment = {
        **os.environ,
        "PYTHONPATH": os.pathsep.join([str(kernels), str(Path(__file__).parents[2])]),
        "NUMBA_CACHE_DIR": str(cache),
        "NUMBA_CACHE_LOCATOR_CLASSES": "UserProvidedCacheLocator",
    }
    command = [sys.executable, "-c", CALL]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    result, hits = done.stdout.split()
    return result, hits != "0"


def test_the_code_is_kept_between_runs_and_replaced_where_it_is_torn(
    kernels: Path, tmp_path: Path
) -> None:
    cache = tmp_path / "cache"
    assert called(kernels, cache) == ("42", False)
    assert called(kernels, cache) == ("42", True)
    for kind in ("nbi", "nbc"):  # its index, its code
        [path] = cache.rglob(f"*.{kind}")
        os.truncate(path, path.stat().st_size // 2)
        assert called(kernels, cache) == ("42", False)
    assert called(kernels, cache) == ("42", True)


def test_without_a_folder_it_is_compiled(kernels: Path, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    assert called(kernels, tmp_path / "file" / "cache") == ("42", False)


def test_on_a_full_disk_it_is_compiled(kernels: Path, tmp_path: Path) -> None:
    with small_disk(tmp_path / "disk", 1 << 20) as disk:
        fill(disk)
        assert called(kernels, disk / "cache") == ("42", False)
