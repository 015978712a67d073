"""What browsers are told on every response, from a real server over a socket."""

from __future__ import annotations

import importlib
import pkgutil
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import httpx
import pytest
from fastapi import APIRouter, FastAPI
from fastapi.responses import StreamingResponse

import backend.routes
import backend.server
from backend.app import create_app
from backend.settings import Settings
from tests.backend.conftest import Serve, serving

METHODS = ("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "TRACE", "PROPFIND")
UNKNOWN = ("/nothing", "/api/nothing", "/page/nothing.js", "/docs/files/nothing", "/api/clips/")
BESIDE_THE_ROUTERS = ("/openapi.json", "/docs/files/swagger-ui.css")
OWN_PAGES = ("/", "/page/{name}", "/page/constants.js", "/docs", "/docs/start.js")
HANDSHAKE = {
    "Connection": "Upgrade",
    "Upgrade": "websocket",
    "Sec-WebSocket-Version": "13",
    "Sec-WebSocket-Key": "dGhlIHNhbXBsZSBub25jZQ==",
}


def app_that_fails(settings: Settings) -> FastAPI:
    """The app, with a route that raises and one that streams."""
    app = create_app(settings)

    @app.get("/test/failure")
    def fail() -> None:
        raise RuntimeError("a bug")

    @app.get("/test/stream")
    def stream() -> StreamingResponse:
        async def pieces() -> AsyncIterator[str]:
            yield "<script>alert(1)</script>"

        return StreamingResponse(pieces(), media_type="text/html")

    return app


@pytest.fixture(scope="module")
def client(tmp_path_factory: pytest.TempPathFactory) -> Iterator[httpx.Client]:
    settings = Settings(data_dir=tmp_path_factory.mktemp("server"))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(backend.server, "create_app", app_that_fails)
        with serving(settings) as client:
            yield client


def every_path() -> list[str]:
    """The paths of all routes, read from the routers themselves."""
    found = set(UNKNOWN + BESIDE_THE_ROUTERS)
    for each in pkgutil.iter_modules(backend.routes.__path__):
        module = importlib.import_module(f"backend.routes.{each.name}")
        for router in vars(module).values():
            if isinstance(router, APIRouter):
                found |= {route.path for route in router.routes if hasattr(route, "path")}
    return sorted(found)


def check(answer: httpx.Response, policy: str = "sandbox") -> None:
    """Each header is there once, and no script may run but the page's own."""
    for name in ("X-Content-Type-Options", "Content-Security-Policy", "Referrer-Policy"):
        assert len(answer.headers.get_list(name)) == 1, (answer.request, answer.headers)
    assert answer.headers["X-Content-Type-Options"] == "nosniff"
    assert answer.headers["Referrer-Policy"] == "no-referrer"
    assert answer.headers["Cross-Origin-Resource-Policy"] == "same-origin"
    said = [part.strip() for part in answer.headers["Content-Security-Policy"].split(";")]
    assert {"default-src 'none'", "frame-ancestors 'none'"} <= set(said)
    assert policy in said, (answer.request, said)


def test_every_response_of_every_route_has_them(client: httpx.Client) -> None:
    paths = every_path()
    assert {"/api/files/{key:path}", "/api/exports/{export_id}/report"} < set(paths)
    seen = set()
    for path in paths:
        filled = path.replace("{name}", "main.js").replace("{key:path}", "a/evil.html")
        for method in METHODS:
            answer = client.request(method, filled.replace("{", "").replace("}", ""))
            is_page = path in OWN_PAGES and answer.status_code == 200
            check(answer, "script-src 'self'" if is_page else "sandbox")
            seen.add(answer.status_code)
    assert {200, 204, 307, 403, 404, 405, 412, 415, 422} <= seen


def test_failures_and_streams_have_them(client: httpx.Client) -> None:
    failed = httpx.get(f"{client.base_url}/test/failure")  # after it, uvicorn closes the connection
    assert failed.status_code == 500
    check(failed)
    with client.stream("GET", "/test/stream") as answer:
        assert "".join(answer.iter_text()) == "<script>alert(1)</script>"
        check(answer)


def test_what_is_refused_before_a_route_has_them(client: httpx.Client) -> None:
    for headers, status in (
        ({"Host": "evil.example"}, 421),
        ({"Host": "[x"}, 400),
        ({"Origin": "http://evil.example"}, 403),
    ):
        answer = client.get("/api/clips", headers=headers)
        assert answer.status_code == status
        check(answer)
    socket = client.get("/ws/export/a", headers=HANDSHAKE | {"Origin": "http://evil.example"})
    assert socket.status_code == 403
    check(socket)


def test_pages_of_listed_origins_may_embed_and_are_told_no_less(
    serve: Serve, clips: list[Path]
) -> None:
    client = serve(cors_origins=["http://app.example"])
    asked = {"Origin": "http://app.example", "Access-Control-Request-Method": "GET"}
    preflight = client.options("/api/clips", headers=asked)
    assert preflight.headers["Access-Control-Allow-Origin"] == "http://app.example"
    assert client.put("/api/clips/a.mp4", content=clips[1].read_bytes()).status_code == 201
    embedded = client.get("/api/clips/a.mp4/file")
    for answer in (preflight, embedded, client.get(embedded.headers["Location"])):
        assert answer.headers["Cross-Origin-Resource-Policy"] == "cross-origin"
        assert answer.headers["X-Content-Type-Options"] == "nosniff"
        assert "sandbox" in answer.headers["Content-Security-Policy"]
