"""What tests of stores share: a real S3 server, and a proxy in front of it that misbehaves."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace

import pytest

from engine.storage import S3Store
from tests.s3 import FaultyProxy, new_bucket


@pytest.fixture(scope="module")
def listening(s3_address: str) -> Iterator[tuple[FaultyProxy, str]]:
    """A proxy and its address."""
    proxy = FaultyProxy(s3_address)
    with proxy.listening() as address:
        yield proxy, address


@pytest.fixture
def proxy(listening: tuple[FaultyProxy, str]) -> FaultyProxy:
    """Does nothing wrong yet."""
    listening[0].forget()
    return listening[0]


@pytest.fixture
def store_behind_proxy(
    proxy: FaultyProxy, listening: tuple[FaultyProxy, str], monkeypatch: pytest.MonkeyPatch
) -> Callable[[int], S3Store]:
    """Makes an empty bucket that is tried so often; no time is lost between attempts."""
    monkeypatch.setattr("time.sleep", lambda _: None)

    def made(attempts: int) -> S3Store:
        settings = new_bucket(proxy.server, attempts=attempts)
        return S3Store(replace(settings, endpoint_url=listening[1]))

    return made
