"""Pages of other origins: what a browser does on their behalf is refused, on every route that
changes anything and on the socket."""

from __future__ import annotations

import re
from pathlib import Path

import httpx
import pytest
from typer.testing import CliRunner
from websockets.exceptions import InvalidStatus
from websockets.sync.client import connect

from backend.app import create_app
from engine.cli.main import app
from tests.backend.conftest import Serve

ALLOWED = "https://app.example"
PUBLIC = "https://video.example"

CHANGES = [
    (method.upper(), re.sub(r"{\w+}", "any.mp4", path))
    for path, methods in create_app().openapi()["paths"].items()
    for method in methods
    if method not in ("get", "head", "options")
] + [("POST", "/api/uploads/any.mp4")]
"""Every operation that does not only read. The last is tus's stand-in for PATCH and DELETE."""

FOREIGN: list[dict[str, str]] = [
    {"Origin": "https://evil.example"},
    {"Origin": "null"},  # a sandboxed page
    {"Origin": ""},
    {"Origin": "http://127.0.0.1:1"},  # the same host, another port: the cookie comes along
    {"Origin": "http://127.0.0.1"},
    {"Origin": "http://app.example"},  # the allowed one without TLS
    {"Origin": f"{ALLOWED}:8443"},
    {"Origin": f"{ALLOWED}.evil.example"},
    {"Origin": "http://video.example"},
    {"Origin": "https://[::1"},
    {"Sec-Fetch-Site": "cross-site"},
    {"Sec-Fetch-Site": "same-site"},
    {"Origin": "https://evil.example", "Sec-Fetch-Site": "same-origin"},
]
OWN: list[dict[str, str]] = [
    {},
    {"Origin": "OWN"},
    {"Origin": "OWN over TLS"},  # which a proxy ends without saying so
    {"Origin": ALLOWED},
    {"Origin": ALLOWED.upper()},
    {"Origin": f"{PUBLIC}:443"},
    {"Sec-Fetch-Site": "same-origin"},
    {"Sec-Fetch-Site": "none"},
]


def key_of(folder: Path) -> str:
    return CliRunner().invoke(app, ["key", "anna", "--data-dir", str(folder)]).stdout.strip()


@pytest.fixture(params=["cookie", "proxy", "open"])
def browser(request: pytest.FixtureRequest, serve: Serve, tmp_path: Path) -> httpx.Client:
    """A client that is known without a header of its own choice."""
    folder = tmp_path / "data"
    by_cookie, by_proxy = request.param == "cookie", request.param == "proxy"
    key = key_of(folder) if by_cookie else ""
    client = serve(
        data_dir=folder,
        cors_origins=[ALLOWED],
        public_url=f"{PUBLIC}/films",
        trust_user_header=by_proxy,
    )
    if by_cookie:  # the client keeps it from plain HTTP, so the test sends it
        set_cookie = client.post("/api/session", json={"key": key}).headers["set-cookie"]
        client.headers["Cookie"] = set_cookie.partition(";")[0]
    if by_proxy:
        client.headers["X-User-ID"] = "anna"
    return client


def from_page(client: httpx.Client, headers: dict[str, str]) -> dict[str, str]:
    """What the browser of a page sends, with this server's own address in it."""
    own = f"{client.base_url}".rstrip("/")
    named = {"OWN": own, "OWN over TLS": own.replace("http", "https", 1)}
    return {name: named.get(value, value) for name, value in headers.items()}


def change(client: httpx.Client, method: str, path: str, headers: dict[str, str]) -> httpx.Response:
    return client.request(method, path, json={}, headers={"Tus-Resumable": "1.0.0", **headers})


def opened(client: httpx.Client, headers: dict[str, str]) -> None:
    """Opens a socket and closes it. Raises `InvalidStatus`."""
    known = {
        name: client.headers[name] for name in ("Cookie", "X-User-ID") if name in client.headers
    }
    address = str(client.base_url).replace("http", "ws", 1)
    with connect(f"{address}/ws/export/any", additional_headers=known | headers):
        pass


def test_pages_of_other_origins_change_nothing(browser: httpx.Client) -> None:
    assert len(CHANGES) > 12
    for headers in FOREIGN:
        for method, path in CHANGES:
            answer = change(browser, method, path, headers)
            assert answer.status_code == 403, (method, path, headers)
            assert "a page of another origin" in answer.json()["detail"]
        with pytest.raises(InvalidStatus) as refused:
            opened(browser, headers)
        assert refused.value.response.status_code == 403
        assert b"a page of another origin" in (refused.value.response.body or b"")
    # what needs no preflight: a form, and JSON that is called text
    form = browser.post("/api/export/multi-clip", files={"video_0": b"x"}, headers=FOREIGN[0])
    text = FOREIGN[0] | {"Content-Type": "text/plain"}
    sent = browser.post("/api/estimate", content=b'{"edit": {}}', headers=text)
    assert form.status_code == sent.status_code == 403
    assert browser.get("/api/exports").json() == {"exports": []}, "and nobody was logged out"


def test_own_pages_and_other_clients_are_not_hindered(browser: httpx.Client) -> None:
    for headers in OWN:
        sent = from_page(browser, headers)
        for method, path in CHANGES:
            if path != "/api/session":  # it would log out
                assert change(browser, method, path, sent).status_code != 403, (method, path, sent)
        opened(browser, sent)
    own = from_page(browser, {"Origin": "OWN"})
    assert change(browser, "DELETE", "/api/session", own).status_code == 204


def test_over_tls_an_own_page_came_over_tls(serve: Serve) -> None:
    client = serve()
    over_tls = {"X-Forwarded-Proto": "https"}
    for scheme, status in (("https", 404), ("http", 403)):
        own = f"{scheme}://{client.base_url.netloc.decode()}"
        answer = client.delete("/api/exports/any", headers=over_tls | {"Origin": own})
        assert answer.status_code == status


def test_a_key_in_a_header_comes_from_no_browser(serve: Serve, tmp_path: Path) -> None:
    key = key_of(tmp_path / "data")
    client = serve(data_dir=tmp_path / "data")
    for header in ({"Authorization": f"Bearer {key}"}, {"X-API-Key": key}):
        for foreign in FOREIGN:
            answer = client.delete("/api/exports/any", headers=header | foreign)
            assert answer.status_code == 404
        opened(client, header | FOREIGN[0])
