"""The tests of this folder run in a child process that has loaded the stand-in driver.

Elsewhere they are not collected. After each test everything must have been given back, and the
driver must have had nothing to complain of.
"""

from __future__ import annotations

import ctypes
import gc
import os
from collections.abc import Iterator
from pathlib import Path

import pytest

LOG = "GPU_DRIVER_LOG"
collect_ignore_glob = [] if LOG in os.environ else ["test_*.py"]


class Driver:
    """The stand-in driver in this process, and what it wrote into its log."""

    def __init__(self) -> None:
        from tests.gpu_driver.host_as_cuda import Memory

        self.library = ctypes.CDLL("libcuda.so.1")
        self.memory = Memory(self.library)
        self._log = Path(os.environ[LOG])

    def begin(self) -> None:
        """Counts from 1 again, and begins a new log."""
        self.library.driver_begin()
        self._log.write_text("")

    def end(self) -> None:
        """Complains of what was not given back."""
        from engine.gpu import checks, encoder_frames

        checks._difference.cache_clear()
        encoder_frames._cuda_context.cache_clear()
        gc.collect()
        self.memory.empty_cache()
        self.library.driver_end()

    def complaints(self) -> list[str]:
        """All since it was asked last."""
        lines = self._log.read_text().splitlines()
        found = [line for line in lines if line.startswith("complaint: ")]
        self._log.write_text("".join(f"{line}\n" for line in lines if line not in found))
        return [line.removeprefix("complaint: ") for line in found]

    def records(self, kind: str) -> list[dict[str, str]]:
        """What it told of an encoder or a decoder that was opened, oldest first."""
        words = [line.split() for line in self._log.read_text().splitlines()]
        return [
            dict(word.split("=", 1) for word in told)
            for first, what, *told in words
            if (first, what) == ("record:", kind)
        ]


@pytest.fixture(scope="session")
def _driver() -> Iterator[Driver]:
    from tests.gpu_driver.host_as_cuda import declare_host_memory_as_cuda

    driver = Driver()
    with pytest.MonkeyPatch.context() as patch:
        declare_host_memory_as_cuda(patch, driver.memory)
        yield driver


@pytest.fixture(autouse=True)
def driver(_driver: Driver, monkeypatch: pytest.MonkeyPatch) -> Iterator[Driver]:  # noqa: ARG001
    """The stand-in driver. The test fails where it has to complain.

    What a test patches stays so until all was given back.
    """
    _driver.begin()
    yield _driver
    _driver.end()
    assert _driver.complaints() == []
