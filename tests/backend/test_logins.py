"""Keys and logins: what they are in the database, and what ends them."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from pathlib import Path
from typing import Any

import httpx
import pytest
from typer.testing import CliRunner, Result
from websockets.exceptions import ConnectionClosed, InvalidStatus
from websockets.sync.client import connect

from backend.api_keys import ApiKeys
from backend.database import Database
from backend.login_sessions import LoginSessions
from backend.routes import progress
from engine.cli.main import app
from tests.backend.conftest import Serve

Rows = Callable[[str], list[tuple[Any, ...]]]
COOKIE = "framestream_session"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """The data folder of the servers that `serve` starts."""
    return tmp_path / "data"


@pytest.fixture
def rows(folder: Path) -> Rows:
    """Runs a statement in the server's database, by sqlite3 alone."""

    def execute(statement: str) -> list[tuple[Any, ...]]:
        with closing(sqlite3.connect(folder / "framestream.db")) as database, database:
            return database.execute(statement).fetchall()

    return execute


@pytest.fixture
def key_command(folder: Path) -> Callable[..., Result]:
    """`framestream key` on the server's data folder."""
    return lambda *words: CliRunner().invoke(app, ["key", *words, "--data-dir", str(folder)])


@pytest.fixture
def make_key(key_command: Callable[..., Result]) -> Callable[[str], str]:
    # a server that starts meanwhile may write to the same stream: the key is the last line
    return lambda user: key_command(user).stdout.split()[-1]


def log_in(client: httpx.Client, key: str) -> str:
    """The token in the cookie, which the client then sends with every request."""
    assert client.post("/api/session", json={"key": key}).status_code == 204
    return client.cookies[COOKIE]


def test_a_login_is_a_session_and_not_the_key(
    serve: Serve, make_key: Callable[[str], str], rows: Rows, folder: Path
) -> None:
    key = make_key("anna")
    client = serve()
    answer = client.post("/api/session", json={"key": key})
    cookie = answer.headers["set-cookie"]
    assert set(cookie.split("; ")[1:]) == {
        "HttpOnly",
        "Max-Age=2592000",
        "Path=/",
        "SameSite=strict",
    }
    token = client.cookies[COOKIE]
    assert len(token) > 40 and token != key
    told = client.get("/api/session").json()
    ((expires_at,),) = rows("SELECT expires_at FROM sessions")
    assert told == {"user_id": "anna", "expires_at": f"{expires_at.replace(' ', 'T')}Z"}

    ((hashed, of_key),) = rows("SELECT token_hash, key_hash FROM sessions")
    assert [(of_key,)] == rows("SELECT key_hash FROM api_keys")
    stored = b"".join(path.read_bytes() for path in folder.glob("framestream.db*"))
    assert hashed.encode() in stored
    assert key.encode() not in stored and token.encode() not in stored

    assert client.delete("/api/session").status_code == 204
    assert rows("SELECT * FROM sessions") == [] and not client.cookies
    assert client.get("/api/session", headers=_cookie(token)).status_code == 401
    by_key = client.get("/api/session", headers={"X-API-Key": key}).json()
    assert by_key == {"user_id": "anna", "expires_at": None}


def _cookie(value: str, name: str = COOKIE) -> dict[str, str]:
    return {"Cookie": f"{name}={value}"}


def test_a_key_in_a_cookie_is_no_login(serve: Serve, make_key: Callable[[str], str]) -> None:
    key = make_key("anna")
    client = serve()
    for name in ("framestream_key", COOKIE, f"__Host-{COOKIE}"):
        assert client.get("/api/session", headers=_cookie(key, name)).status_code == 401
    token = log_in(client, key)
    client.cookies.clear()
    for headers in ({"X-API-Key": token}, {"Authorization": f"Bearer {token}"}):
        assert client.get("/api/session", headers=headers).status_code == 401, "nor a token a key"


def test_a_login_expires_on_the_server(
    serve: Serve, make_key: Callable[[str], str], rows: Rows
) -> None:
    key = make_key("anna")
    client = serve()
    old = log_in(client, key)
    rows("UPDATE sessions SET expires_at = '2020-02-02 02:02:02.000000'")
    assert client.get("/api/session").status_code == 401
    client.cookies.clear()
    assert log_in(client, key) != old
    assert len(rows("SELECT * FROM sessions")) == 1, "the expired one was removed"


@pytest.mark.parametrize(
    ("settings", "headers"),
    [
        ({}, {"X-Forwarded-Proto": "https"}),  # by a proxy on this machine
        ({"public_url": "https://video.example"}, {}),
    ],
    ids=["forwarded", "public-url"],
)
def test_over_tls_the_cookie_is_bound_to_it(
    serve: Serve,
    make_key: Callable[[str], str],
    settings: dict[str, Any],
    headers: dict[str, str],
) -> None:
    key = make_key("anna")
    client = serve(**settings)
    answer = client.post("/api/session", json={"key": key}, headers=headers)
    name, _, rest = answer.headers["set-cookie"].partition("=")
    token, *attributes = rest.split("; ")
    assert name == f"__Host-{COOKIE}" and {"Secure", "Path=/"} <= set(attributes)
    client.cookies.clear()
    assert client.get("/api/session", headers=headers | _cookie(token, name)).status_code == 200
    assert client.get("/api/session", headers=headers | _cookie(token)).status_code == 401
    left = client.delete("/api/session", headers=headers | _cookie(token, name))
    assert {"Secure", "Max-Age=0"} <= set(left.headers["set-cookie"].split("; "))
    assert client.get("/api/session", headers=headers | _cookie(token, name)).status_code == 401


def test_keys_are_listed_without_secrets_and_revoked_by_id(
    serve: Serve, key_command: Callable[..., Result], make_key: Callable[[str], str], rows: Rows
) -> None:
    keys = {user: make_key(user) for user in ("anna", "ben")}
    client = serve()
    tokens = [log_in(client, keys["anna"]) for _ in range(2)]
    listed = key_command("--list").stdout
    head, *lines = (line.split() for line in listed.splitlines())
    assert head == ["ID", "USER", "CREATED", "REVOKED", "LOGINS"]
    assert [(user, revoked, logins) for _, user, _, revoked, logins in lines] == [
        ("anna", "-", "2"),
        ("ben", "-", "0"),
    ]
    hashes: dict[str, str] = dict(rows("SELECT user_id, key_hash FROM api_keys"))
    assert [key_id for key_id, *_ in lines] == [hashes[user][:12] for user in ("anna", "ben")]
    for secret in (*keys.values(), *tokens, *hashes.values()):
        assert secret not in listed

    revoked = key_command("--revoke", hashes["anna"][:12])
    assert revoked.stdout == f"revoked {hashes['anna'][:12]} of anna; logins ended: 2\n"
    assert rows("SELECT * FROM sessions") == []
    assert client.get("/api/session").status_code == 401
    by_key = {user: {"X-API-Key": key} for user, key in keys.items()}
    client.cookies.clear()
    assert client.get("/api/session", headers=by_key["anna"]).status_code == 401
    assert client.post("/api/session", json={"key": keys["anna"]}).status_code == 401
    assert client.get("/api/session", headers=by_key["ben"]).status_code == 200
    ((at,),) = rows("SELECT revoked_at FROM api_keys WHERE user_id = 'anna'")
    assert key_command("--revoke", hashes["anna"]).exit_code == 0
    assert [(at,)] == rows("SELECT revoked_at FROM api_keys WHERE user_id = 'anna'")

    assert key_command("--revoke", hashes["ben"][:4]).exit_code == 0
    assert all("-" not in line.split()[3:4] for line in key_command("--list").stdout.splitlines())
    assert client.get("/api/session").status_code == 401, "no key is left, and none may do without"


def test_a_key_that_is_not_meant_clearly_stays(
    key_command: Callable[..., Result], rows: Rows
) -> None:
    key_command("anna")
    for last in "12":
        rows(
            "INSERT INTO api_keys (key_hash, user_id, created_at) "
            f"VALUES ('{'a' * 63}{last}', 'ben', '2024-01-01 00:00:00.000000')"
        )
    hint = "framestream key --list shows the ids"
    for words, said in [
        (["--revoke", "0" * 12], f"{'0' * 12} is the id of no key: {hint}"),
        (["--revoke", "a" * 12], f"{'a' * 12} is the start of several ids: {hint}"),
        (["--revoke", ""], f"'' is not the id of a key: {hint}"),
        (["--revoke", "abc"], f"'abc' is not the id of a key: {hint}"),
        (["--revoke", "%%%%"], f"'%%%%' is not the id of a key: {hint}"),
        ([], "name either a USER, or --list, or --revoke ID"),
        (["anna", "--list"], "name either a USER, or --list, or --revoke ID"),
        (["--list", "--revoke", "abcd"], "name either a USER, or --list, or --revoke ID"),
    ]:
        refused = key_command(*words)
        assert (refused.exit_code, refused.stderr) == (2, f"error {said}\n")
    assert rows("SELECT count(*) FROM api_keys WHERE revoked_at IS NULL") == [(3,)]


def test_listing_makes_no_database(key_command: Callable[..., Result], folder: Path) -> None:
    refused = key_command("--list")
    assert refused.exit_code == 1 and str(folder) in refused.stderr
    assert not folder.exists()


def test_no_login_outlives_the_revocation_of_its_key(database: Database) -> None:
    keys, sessions = ApiKeys(database), LoginSessions(database)
    for _ in range(5):
        key = keys.make("anna")
        key_id = keys.list()[-1].id
        with ThreadPoolExecutor(8) as pool:
            started = [pool.submit(sessions.start, key) for _ in range(4)]
            revoked = pool.submit(keys.revoke, key_id)
            started += [pool.submit(sessions.start, key) for _ in range(4)]
        assert revoked.result().id == key_id and revoked.result().revoked_at is None
        tokens = [token for each in started if (token := each.result())]
        assert [sessions.find(token) for token in tokens] == [None] * len(tokens)
        assert keys.list()[-1].open_sessions == 0 and keys.user_of(key) is None
    assert keys.were_made()


@pytest.mark.parametrize("end", ["logout", "revocation"])
def test_who_follows_an_export_is_asked_again(
    serve: Serve,
    make_key: Callable[[str], str],
    key_command: Callable[..., Result],
    rows: Rows,
    monkeypatch: pytest.MonkeyPatch,
    end: str,
) -> None:
    monkeypatch.setattr(progress, "RECHECK_S", 0.05)
    client = serve()
    token = log_in(client, make_key("anna"))
    rows(
        "INSERT INTO export_jobs (user_id, id, type, status, project_name, folder, output_key, "
        "request, request_hash, progress, phase, message, attempts, modal_used, leftovers, "
        "created_at, progress_at_start, remote) VALUES ('anna', 'reel', 'multi_clip', 'queued', "
        "'', 'x', 'anna/x', '{}', '', 10, 'queued', 'Waiting', 0, 0, 1, "
        "'2024-01-01 00:00:00.000000', 0, 0)"
    )
    address = str(client.base_url).replace("http", "ws", 1) + "/ws/export/reel"
    as_events = {"Accept": "text/event-stream"}
    with (
        connect(address, additional_headers=_cookie(token)) as socket,
        client.stream("GET", "/api/export/progress/reel", headers=as_events, timeout=60) as events,
    ):
        received = events.iter_lines()
        assert "Waiting" in socket.recv(timeout=60) and "Waiting" in next(received)
        if end == "logout":
            client.delete("/api/session")
        else:
            ((hashed,),) = rows("SELECT key_hash FROM api_keys")
            key_command("--revoke", hashed)
        with pytest.raises(ConnectionClosed) as closed:
            socket.recv(timeout=60)
        assert closed.value.rcvd is not None and closed.value.rcvd.code == 1008
        assert not [line for line in received if line.startswith("data")], "and the stream ends"
    with pytest.raises(InvalidStatus), connect(address, additional_headers=_cookie(token)):
        pass
