"""Bodies and heads that are too large, too slow or ambiguous, sent to every route over a socket."""

from __future__ import annotations

import contextlib
import json
import re
import socket
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from pathlib import Path

import httpx
import pytest

from backend.api_keys import ApiKeys
from backend.app import create_app
from backend.body_limits import DEFAULT_BYTES
from backend.database import Database
from backend.server import MAX_HEAD_BYTES, MAX_HEADERS
from backend.settings import Settings
from tests.backend.conftest import serving
from tests.backend.test_kill import server

MIB = 1 << 20
IDLE_S = 0.4
HEAD = "{} {} HTTP/1.1\r\nHost: localhost\r\n"

Route = tuple[str, str]


def routes() -> list[Route]:
    """Method and path of every route of the document, and some that are in none."""
    documented = [
        (method.upper(), re.sub(r"{\w+}", "a.mp4", path))
        for path, methods in create_app().openapi()["paths"].items()
        for method in methods
    ]
    others = ["POST /nowhere", "POST /api/health", "PUT /docs", "GET /", "POST /ws/export/a"]
    return [*documented, *((each.split()[0], each.split()[1]) for each in others)]


def content_type(route: Route) -> str:
    """What the route wants to be sent. Headers that it also wants are added."""
    method, path = route
    if method == "PATCH":
        return (
            "application/offset+octet-stream\r\nTus-Resumable: 1.0.0\r\nUpload-Offset: 0\r\n"
            f"Content-Range: bytes 0-{MIB}/{MIB + 1}"
        )
    if method == "POST" and ("/export/" in path or path.endswith("extract")):
        return "multipart/form-data; boundary=B"
    return "application/json"


@pytest.fixture(scope="module")
def client(tmp_path_factory: pytest.TempPathFactory) -> Iterator[httpx.Client]:
    """A server with little patience."""
    folder = tmp_path_factory.mktemp("server") / "data"
    with serving(Settings(data_dir=folder, upload_idle_s=IDLE_S)) as client:
        yield client


@pytest.fixture(scope="module")
def patient(tmp_path_factory: pytest.TempPathFactory) -> Iterator[httpx.Client]:
    """A server that waits for a minute. It has keys."""
    settings = Settings(data_dir=tmp_path_factory.mktemp("server"), upload_idle_s=60)
    with serving(settings) as client:
        with closing(Database(settings.database)) as database:
            ApiKeys(database).make("anna")
        yield client


def address(client: httpx.Client) -> tuple[str, int]:
    return client.base_url.host, client.base_url.port or 0


def read_to_end(raw: socket.socket) -> bytes:
    """All that the server sends until it closes the connection."""
    answer = b""
    with contextlib.suppress(ConnectionResetError):
        while block := raw.recv(65536):
            answer += block
    return answer


def told(client: httpx.Client, request: str) -> bytes:
    """What the server answers to these bytes, until it closes the connection."""
    with closing(socket.create_connection(address(client), timeout=60)) as raw:
        raw.sendall(request.encode())
        return read_to_end(raw)


def accepted_bytes(client: httpx.Client, start: str, more: bytes, most: int) -> int:
    """How much of a request that never ends is taken before the connection is closed."""
    with closing(socket.create_connection(address(client), timeout=60)) as raw:
        raw.sendall(start.encode())
        sent = 0
        with contextlib.suppress(ConnectionError):
            while sent < most:
                raw.sendall(more)
                sent += len(more)
        return sent


def peak_mib(process_id: int) -> float:
    status = Path(f"/proc/{process_id}/status").read_text()
    found = re.search(r"VmHWM:\s+(\d+) kB", status)
    assert found
    return int(found[1]) / 1024


# size


def test_no_route_takes_a_large_body_into_memory(tmp_path: Path) -> None:
    piece = b"x" * MIB
    chunk = b"%x\r\n%s\r\n" % (len(piece), piece)

    def flood(client: httpx.Client, route: Route) -> bytes:
        head = f"{HEAD.format(*route)}Content-Type: {content_type(route)}\r\n"
        with closing(socket.create_connection(address(client), timeout=60)) as raw:
            with contextlib.suppress(ConnectionError):
                raw.sendall(f"{head}Transfer-Encoding: chunked\r\n\r\n".encode())
                for _ in range(16):
                    raw.sendall(chunk)
                raw.sendall(b"0\r\n\r\n")
            return read_to_end(raw)

    with server(tmp_path / "data") as (client, process):
        for method, path in routes():
            client.request(method, path)  # what is loaded at the first request is no leak
        before = peak_mib(process.pid)
        for route in routes():
            answer = flood(client, route)
            assert b"connection: close" in answer.lower(), route
            assert b" 500 " not in answer[:20] and b"xxxx" not in answer, route
        assert peak_mib(process.pid) - before < 16


def test_a_login_is_small(client: httpx.Client) -> None:
    for key, status in (("x" * 100, 401), ("x" * (DEFAULT_BYTES + 1), 413)):
        body = json.dumps({"key": key}).encode()
        kind = {"Content-Type": "application/json"}
        for content in (body, iter([body])):
            answer = client.post("/api/session", content=content, headers=kind)
            assert answer.status_code == status and key not in answer.text


def test_who_is_refused_early_and_goes_on_sending_sees_why(client: httpx.Client) -> None:
    for path, status in (("/api/session", 413), ("/nowhere", 404), ("/api/uploads", 412)):
        answer = client.post(path, content=iter([b"x" * MIB] * 20))
        assert answer.status_code == status and answer.headers["connection"] == "close"


def test_a_stranger_s_edit_is_not_read(patient: httpx.Client) -> None:
    for path in ("/api/preview", "/api/estimate"):
        head = f"{HEAD.format('POST', path)}Content-Type: application/json\r\n"
        answer = told(patient, f"{head}Content-Length: 1000000\r\n\r\n")
        assert answer.startswith(b"HTTP/1.1 401 ")


# patience


def test_no_route_waits_for_a_silent_body(client: httpx.Client) -> None:
    def ask(route: Route) -> bytes:
        method, path = route
        its_own = path.replace("a.mp4", f"{method}.mp4")  # a clip that is being removed is locked
        head = f"{HEAD.format(method, its_own)}Content-Type: {content_type(route)}\r\n"
        return told(client, f"{head}Content-Length: 100\r\n\r\n")

    with ThreadPoolExecutor(len(routes())) as pool:
        answers = dict(zip(routes(), pool.map(ask, routes()), strict=True))
    assert all(b"connection: close" in answer.lower() for answer in answers.values())
    for route in (("POST", "/api/session"), ("POST", "/api/preview"), ("PUT", "/api/clips/a.mp4")):
        assert answers[route].startswith(b"HTTP/1.1 408 "), route


def test_a_body_that_comes_byte_by_byte_is_refused(client: httpx.Client) -> None:
    head = f"{HEAD.format('POST', '/api/session')}Content-Type: application/json\r\n"
    with closing(socket.create_connection(address(client), timeout=60)) as raw:
        raw.sendall(f"{head}Content-Length: 9000\r\n\r\n".encode())
        stop = threading.Event()

        def drip() -> None:
            with contextlib.suppress(OSError):
                while not stop.wait(IDLE_S / 4):
                    raw.sendall(b" ")

        dripping = threading.Thread(target=drip)
        dripping.start()
        answer = raw.recv(65536)
        stop.set()
        dripping.join()
    assert answer.startswith(b"HTTP/1.1 408 ") and b"slower than" in answer


# heads


@pytest.mark.parametrize(
    ("start", "more"),
    [
        ("GET /", b"a" * 65536),
        ("GET / HTTP/1.1\r\nHost: localhost\r\nX-Long: ", b"a" * 65536),
        ("GET / HTTP/1.1\r\nHost: localhost\r\n", b"X: y\r\n" * 1000),
        (HEAD.format("POST", "/api/session") + "Transfer-Encoding: chunked\r\n\r\n0\r\n",
         b"X: y\r\n" * 1000),
        (HEAD.format("POST", "/api/session") + "Transfer-Encoding: chunked\r\n\r\n0\r\nX: ",
         b"y" * 65536),
        (HEAD.format("POST", "/api/session") + "Transfer-Encoding: chunked\r\n\r\n5;x=",
         b"y" * 65536),
    ],
    ids=["url", "header", "headers", "trailers", "trailer", "chunk extension"],
)  # fmt: skip
def test_a_head_does_not_grow_for_ever(patient: httpx.Client, start: str, more: bytes) -> None:
    assert accepted_bytes(patient, start, more, 64 * MIB) < 16 * MIB
    assert patient.get("/api/health").status_code == 200


def test_usual_heads_are_taken(client: httpx.Client) -> None:
    many = {f"x-{number}": "y" for number in range(MAX_HEADERS - 20)}
    long = {"x-long": "y" * (MAX_HEAD_BYTES // 2)}
    for headers in (many, long):
        for _ in range(2):  # on one connection
            assert client.get("/api/health", headers=headers).status_code == 200


@pytest.mark.parametrize(
    "headers",
    [
        "Content-Length: -1\r\n",
        "Content-Length: 1e3\r\n",
        "Content-Length: 99999999999999999999999\r\n",
        "Content-Length: 5\r\nContent-Length: 6\r\n",
        "Content-Length: 5\r\nTransfer-Encoding: chunked\r\n",
        "Transfer-Encoding: chunked, gzip\r\n",
        "Upgrade: websocket\r\nConnection: Upgrade\r\nContent-Length: 5\r\n",
    ],
)
def test_ambiguous_bodies_are_refused(client: httpx.Client, headers: str) -> None:
    head = f"{HEAD.format('POST', '/api/session')}Content-Type: application/json\r\n"
    started_s = time.monotonic()
    assert told(client, f"{head}{headers}\r\nhello").startswith(b"HTTP/1.1 400 ")
    assert time.monotonic() - started_s < 30
