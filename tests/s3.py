"""A real S3 server on loopback, and something between it and its clients that goes wrong on order.

with s3_server() as server, server.bucket() as settings:
    store = S3Store(settings)
"""

from __future__ import annotations

import logging
import socket
import struct
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.client import HTTPConnection
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.request import Request, urlopen

import pytest
from moto.backends import list_of_moto_modules
from moto.server import ThreadedMotoServer

from engine.storage import S3Settings
from tests.waiting import join

BUCKET = "clips"
KEY_ID, SECRET = "AKIAIOSFODNN7EXAMPLE", "wJalrXUtnFEMI-K7MDENG-bPxRfiCYEXAMPLEKEY"


@contextmanager
def s3_server() -> Iterator[str]:
    """The address of a server with no bucket in it, that takes parts of uploads of any size."""
    logging.getLogger("werkzeug").setLevel(logging.ERROR)
    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    try:
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr("moto.s3.models.S3_UPLOAD_PART_MIN_SIZE", 1)
            services = [*list_of_moto_modules()]  # moto looks for their folders at every request
            patch.setattr("moto.backends.list_of_moto_modules", lambda: services)
            host, port = server.get_host_and_port()
            yield f"http://{host}:{port}"
    finally:
        server.stop()


def new_bucket(address: str, *, attempts: int = 3) -> S3Settings:
    """Settings of the server's only bucket, which is empty."""
    for method, path in (("POST", "moto-api/reset"), ("PUT", BUCKET)):
        with urlopen(Request(f"{address}/{path}", method=method)):
            pass
    return S3Settings(address, BUCKET, KEY_ID, SECRET, attempts=attempts)


@dataclass(frozen=True, slots=True)
class Asked:
    """What came in, and how many came before it."""

    number: int
    method: str
    path: str
    headers: dict[str, str]


@dataclass(frozen=True, slots=True)
class Refuse:
    """Answer without asking the server."""

    status: int
    code: str


@dataclass(frozen=True, slots=True)
class Reset:
    """Break the connection before the server is asked."""


@dataclass(frozen=True, slots=True)
class Cut:
    """End the connection after so many bytes of the server's answer."""

    after_bytes: int


@dataclass(frozen=True, slots=True)
class Stall:
    """Say nothing for a while: instead of an answer, or after so many bytes of the server's."""

    seconds: float
    after_bytes: int | None = None


@dataclass(frozen=True, slots=True)
class Lose:
    """Ask the server, and break the connection instead of giving its answer."""


Fault = Refuse | Reset | Cut | Stall | Lose


@dataclass(slots=True)
class FaultyProxy:
    """Passes requests on to a server, but for those that `fault` has something else in mind for.

    `requests` are those that came so far; `body_bytes` were sent to clients.
    """

    server: str
    fault: Callable[[Asked], Fault | None] = lambda _: None
    requests: list[Asked] = field(default_factory=list)
    body_bytes: int = 0
    lock: threading.Lock = field(default_factory=threading.Lock)

    def forget(self) -> None:
        """Do nothing wrong, and count anew."""
        self.fault = lambda _: None
        self.requests.clear()
        self.body_bytes = 0

    def requests_of(self, method: str) -> list[Asked]:
        """Those of one kind, in order."""
        return [asked for asked in self.requests if asked.method == method]

    @contextmanager
    def listening(self) -> Iterator[str]:
        """The proxy's own address."""
        proxy = self

        class Handler(_Handler):
            owner = proxy

        server = _Server(("127.0.0.1", 0), Handler)
        server.daemon_threads = True
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_port}"
        finally:
            server.shutdown()
            join(thread)
            server.server_close()


class _Server(ThreadingHTTPServer):
    def handle_error(self, request: object, client_address: object) -> None:
        """A client that went away, as they do when something goes wrong."""


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    owner: FaultyProxy

    def do_GET(self) -> None:
        proxy = self.owner
        headers = dict(self.headers.items())
        with proxy.lock:
            request = Asked(len(proxy.requests), self.command, self.path, headers)
            proxy.requests.append(request)
        fault = proxy.fault(request)
        body = self.rfile.read(int(headers.get("Content-Length", 0)))
        if isinstance(fault, Refuse):
            self._answer(fault.status, {}, _error(fault.code))
        elif isinstance(fault, Reset):
            self._break()
        else:
            self._pass_on(body, headers, fault)

    do_PUT = do_POST = do_HEAD = do_DELETE = do_GET  # noqa: N815 - the names http.server calls

    def _pass_on(self, body: bytes, headers: dict[str, str], fault: Fault | None) -> None:
        connection = HTTPConnection(self.owner.server.removeprefix("http://"), timeout=30)
        try:
            connection.request(self.command, self.path, body, headers)
            answer = connection.getresponse()
            content = answer.read()
            if isinstance(fault, Lose):
                self._break()
            elif isinstance(fault, Stall) and fault.after_bytes is None:
                threading.Event().wait(fault.seconds)
                self._break()
            else:
                self._answer(answer.status, dict(answer.getheaders()), content, fault)
        finally:
            connection.close()

    def _answer(
        self, status: int, headers: dict[str, str], content: bytes, fault: Fault | None = None
    ) -> None:
        self.send_response_only(status)
        kept = {name: value for name, value in headers.items() if name not in _HOP_BY_HOP}
        length = headers.get("Content-Length", "0") if self.command == "HEAD" else len(content)
        for name, value in (kept | {"Content-Length": str(length)}).items():
            self.send_header(name, value)
        self.end_headers()
        sent = content if self.command != "HEAD" else b""
        limit = fault.after_bytes if isinstance(fault, Cut | Stall) else None
        self.wfile.write(sent[:limit])
        with self.owner.lock:
            self.owner.body_bytes += len(sent[:limit])
        if limit is not None:
            self.wfile.flush()
            if isinstance(fault, Stall):
                threading.Event().wait(fault.seconds)
            self.close_connection = True

    def _break(self) -> None:
        """Close with a reset, as a machine does that goes away."""
        self.close_connection = True
        linger = struct.pack("ii", 1, 0)
        self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
        self.connection.close()

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - http.server's name
        """Nothing is logged."""


_HOP_BY_HOP = {"Connection", "Transfer-Encoding", "Content-Length", "Server", "Date"}


def _error(code: str) -> bytes:
    return (
        f'<?xml version="1.0" encoding="UTF-8"?>\n<Error><Code>{code}</Code>'
        f"<Message>{code} for {KEY_ID}</Message></Error>"
    ).encode()
