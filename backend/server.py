"""Runs uvicorn, and limits the heads of requests. `body_limits.py` limits their bodies."""

from __future__ import annotations

import asyncio
import socket
from typing import Any

import structlog
import uvicorn
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from backend.app import create_app
from backend.installation import opened
from backend.settings import Settings
from backend.signed_urls import UrlSigner

log = structlog.get_logger()

BACKLOG = 2048
MAX_HEAD_BYTES = 64 << 10
MAX_HEADERS = 128

GRACE_S = 5
"""How long running requests may take when the server is stopped."""


def run(settings: Settings, host: str, port: int) -> None:
    """Serves until a signal arrives. Logs the URL it listens on.

    Raises `EngineError` if the database or the data folder cannot be used (`installation.opened`)
    or the signing key is damaged, `OSError` if it cannot listen.
    """
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with socket.socket(family) as listening:
        with opened(settings):  # what is refused at the start is refused in one line here
            pass
        UrlSigner.load_or_create(settings.data_dir, settings.public_url)  # refused in one line here
        listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listening.bind((host, port))
        listening.listen(BACKLOG)
        name, taken = listening.getsockname()[:2]
        log.info("listening", url=f"http://{f'[{name}]' if ':' in name else name}:{taken}/")
        create_server(settings).run(sockets=[listening])


def create_server(settings: Settings) -> uvicorn.Server:
    """The server. It does not listen yet."""
    return uvicorn.Server(
        uvicorn.Config(
            create_app(settings),
            http=http_protocol(settings.upload_idle_s),
            timeout_graceful_shutdown=GRACE_S,
            log_config=None,
            access_log=False,
            server_header=False,
            ws_max_size=4096,  # clients send nothing of use
        )
    )


def http_protocol(head_s: float) -> type[HttpToolsProtocol]:
    """A protocol class that closes a connection whose request head takes too much time or room.

    `head_s` is the longest time for a head. Trailers count as heads.
    """

    class LimitedHeadProtocol(HttpToolsProtocol):
        _deadline: asyncio.TimerHandle | None = None
        _head_bytes = 0
        """Bytes since the last piece of a body, the end of a head, or the end of a request."""

        def connection_made(self, transport: Any) -> None:
            super().connection_made(transport)
            self._deadline = self.loop.call_later(head_s, transport.abort)

        def data_received(self, data: bytes) -> None:
            self._head_bytes += len(data)
            super().data_received(data)
            if self._head_bytes > MAX_HEAD_BYTES and not self.transport.is_closing():
                self.send_400_response("The head of the request is too long.")

        def on_message_begin(self) -> None:
            super().on_message_begin()
            if self._deadline is None:  # a later request on the same connection
                self._deadline = self.loop.call_later(head_s, self.transport.abort)

        def on_header(self, name: bytes, value: bytes) -> None:
            if len(self.headers) >= MAX_HEADERS:
                raise ValueError("too many headers")  # an invalid request: it is answered 400
            super().on_header(name, value)

        def on_headers_complete(self) -> None:
            self._cancel_deadline()
            self._head_bytes = 0
            names = {name for name, _ in self.headers}
            if self._should_upgrade() and names & {b"content-length", b"transfer-encoding"}:
                raise ValueError("a handshake with a body")  # which nothing would limit
            super().on_headers_complete()

        def on_body(self, body: bytes) -> None:
            self._head_bytes = 0
            super().on_body(body)

        def on_message_complete(self) -> None:
            self._head_bytes = 0
            super().on_message_complete()

        def connection_lost(self, exc: Exception | None) -> None:
            self._cancel_deadline()
            super().connection_lost(exc)

        def _cancel_deadline(self) -> None:
            if self._deadline is not None:
                self._deadline.cancel()
                self._deadline = None

    return LimitedHeadProtocol
