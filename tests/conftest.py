"""Settings for every test, and what takes long to start."""

from __future__ import annotations

import gc
import os
import sys
from collections.abc import Generator, Iterator
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import settings

if TYPE_CHECKING:
    from tests.modal_functions.control_plane import ControlPlane

settings.register_profile("framestream", deadline=None)  # timings belong in bench/
settings.load_profile("framestream")


# Without its bytecode each of the many processes that tests start compiles the project's modules.
os.environ.pop("PYTHONDONTWRITEBYTECODE", None)
sys.dont_write_bytecode = False
# torch's threads that wait for each other would spin, and take the processor from other tests.
os.environ.setdefault("OMP_WAIT_POLICY", "passive")

LONGEST_S = 180
"""Fifteen times what the longest test takes: one that hangs fails, and tells where."""


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        item.add_marker(pytest.mark.timeout(LONGEST_S))


@pytest.hookimpl(wrapper=True)
def pytest_collection() -> Generator[None, object, object]:
    """Nothing that is imported becomes garbage: it takes 2 s to find that out again and again."""
    gc.disable()
    try:
        return (yield)
    finally:
        gc.freeze()  # and each collection of the tests would take a third of a second
        gc.enable()


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> Any:
    """Workers take neighbouring tests, which share servers, and help each other at the end."""
    from xdist.scheduler import WorkStealingScheduling

    return WorkStealingScheduling(config, log)


@pytest.fixture(scope="session", autouse=True)
def _own_history(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Exports of tests teach the user's estimates nothing."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("FRAMESTREAM_HISTORY", str(tmp_path_factory.mktemp("history") / "speeds"))
        yield


@pytest.fixture(scope="session")
def s3_address() -> Iterator[str]:
    """A real S3 server on loopback; `tests.s3.new_bucket` makes buckets there."""
    from tests.s3 import s3_server

    with s3_server() as address:
        yield address


@pytest.fixture(scope="session")
def _control_plane() -> Iterator[ControlPlane]:
    from tests.modal_functions.control_plane import serving

    with serving() as plane:
        yield plane


@pytest.fixture
def control_plane(
    _control_plane: ControlPlane, monkeypatch: pytest.MonkeyPatch
) -> Iterator[ControlPlane]:
    """Modal's client talks to it, with a token that means nothing; empty for every test."""
    from tests.modal_functions.control_plane import close_clients, retry_at_once

    monkeypatch.setenv("MODAL_SERVER_URL", _control_plane.url)
    monkeypatch.setenv("MODAL_TOKEN_ID", "ak-test")
    monkeypatch.setenv("MODAL_TOKEN_SECRET", "as-test")
    retry_at_once(monkeypatch)
    yield _control_plane
    _control_plane.forget()
    close_clients()
