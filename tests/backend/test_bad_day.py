"""A day on which database, bucket and Modal fail and the program has bugs: no secret is told."""

from __future__ import annotations

import base64
import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import closing, suppress
from pathlib import Path
from urllib.parse import quote

import httpx
import pytest
from sqlalchemy import make_url

from backend.access import Access
from backend.database import Database
from backend.settings import Settings
from tests.backend.conftest import post
from tests.backend.test_kill import server
from tests.tcp_proxy import TcpProxy
from tests.waiting import wait_until

WITH_BUGS = """
import os
import sys
from dataclasses import replace
from backend.cleanup import Cleanup
from backend.jobs import Jobs
from backend.settings import Settings
from engine.storage import settings as storage

def broken(*arguments, **more):
    secrets = [Settings().database, os.environ["R2_SECRET_ACCESS_KEY"]]  # a debugger shows it
    raise RuntimeError("a bug")

Cleanup.sweep = Jobs.list = broken
settings_of = storage.s3_settings
storage.s3_settings = lambda given: replace(settings_of(given), attempts=1)  # nobody will answer
sys.argv[0] = "framestream"
sys.argv.insert(1, "serve")
from engine.cli.main import main
main()
"""
NOBODY = "http://127.0.0.1:1"
PASSWORD = "secret-db/p@ss"
OUTSIDE = {
    "R2_BUCKET_NAME": "films",
    "R2_ENDPOINT_URL": NOBODY,
    "R2_ACCESS_KEY_ID": "secret-bucket-id",
    "R2_SECRET_ACCESS_KEY": "secret-bucket-key",
    "MODAL_ENABLED": "true",
    "MODAL_SERVER_URL": NOBODY,
    "MODAL_TOKEN_ID": "ak-secret-modal-id",
    "MODAL_TOKEN_SECRET": "as-secret-modal",
}

Outage = tuple[str, Callable[[], None]]
"""The URL of a database, and what takes that database away."""


@pytest.fixture
def outage(database_url: str) -> Iterator[Outage]:
    url = make_url(database_url)
    if url.get_backend_name() == "sqlite":
        path = Path(url.database or "")
        yield database_url, lambda: path.unlink()
        return
    assert url.port
    proxy = TcpProxy(url.port)
    behind = url.set(password=PASSWORD, host="127.0.0.1", port=proxy.port)
    yield behind.render_as_string(hide_password=False), proxy.down
    proxy.down()


def written(secret: str | bytes) -> set[str]:
    """How a secret may be written in a log or an address."""
    raw = secret.encode() if isinstance(secret, str) else secret
    ways = {raw.hex(), base64.b64encode(raw).decode(), base64.urlsafe_b64encode(raw).decode()}
    if isinstance(secret, str):
        return ways | {secret, quote(secret, safe=""), repr(secret), json.dumps(secret)}
    return ways | {repr(raw)}


def test_a_bad_day_tells_no_secret(
    outage: Outage, clips: list[Path], tmp_path: Path, database_url: str
) -> None:
    url, take_away = outage
    data = tmp_path / "data"
    with closing(Database(database_url)) as database:
        database.migrate()
        key = Access(Settings(), database).keys.make("anna")
    log: list[str] = []
    told: list[str] = []

    def listen(response: httpx.Response) -> None:
        response.read()
        told.extend([response.text, str(response.headers.get("location"))])

    environment = {**OUTSIDE, "DATABASE_URL": url}
    program = ("-c", WITH_BUGS)
    with server(data, program=program, host="127.0.0.1", log=log, **environment) as (client, _):
        client.event_hooks["response"].append(listen)
        cookies = client.post("/api/session", json={"key": key}).cookies
        client.headers["Authorization"] = f"Bearer {key}"
        assert client.get("/api/exports").status_code == 500, "the bug"
        with suppress(httpx.TransportError):  # refused before the body was read
            client.put("/api/clips/goal.mp4", content=b"no film")
        assert client.get("/api/clips").status_code == 503
        post(client, clips[1:], export_id="reel", headers={"Prefer": "respond-async"})
        assert client.get("/api/ready").json()["store"] != "ok"
        wait_until(lambda: any("the run broke off" in line for line in log))
        take_away()
        for _ in range(3):
            assert client.get("/api/ready").json()["database"] != "ok"
            with suppress(httpx.TransportError):
                client.post("/api/exports/reel/retry")
                client.delete("/api/exports/reel")
                client.get("/api/exports/reel", headers={"Authorization": f"Bearer {key}x"})
                post(client, clips[1:], export_id="other")
                client.post("/api/session", json={"key": key})

    assert sum('"exc_type": "RuntimeError"' in line for line in log) == 1, "the sweep's bug, once"
    assert any(line.startswith("RuntimeError: a bug") for line in log), "the request's bug"
    assert any("the database refuses" in line or "not ready: database" in line for line in log)
    signing_key = (data / "signing.key").read_bytes()
    outside = [value for value in OUTSIDE.values() if "secret" in value]
    secrets: list[str | bytes] = [PASSWORD, key, *cookies.values(), signing_key, *outside]
    for secret in secrets:
        for way in written(secret):
            assert way not in "".join(log)
            assert not any(way in each for each in told)


def test_a_database_out_of_reach_tells_no_secret(tmp_path: Path) -> None:
    url = f"postgresql+psycopg://me:{quote(PASSWORD, safe='')}@127.0.0.1:1/db"
    done = subprocess.run(
        [sys.executable, "-m", "engine", "serve", "--port", "0", "--data-dir", str(tmp_path)],
        env={**os.environ, **OUTSIDE, "DATABASE_URL": url},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 1 and len(done.stderr.splitlines()) == 1
    assert done.stderr.startswith("error postgresql+psycopg://me:***@127.0.0.1:1/db: ")
    assert not any(way in done.stderr for way in written(PASSWORD))
