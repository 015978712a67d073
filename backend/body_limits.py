"""Limits the body of every request: how long it may be, and how slowly it may come.

A body is checked while it is read, whoever reads it. By default it may be as long as a login. A
route that takes more must say so (`allow_body`), so a new route cannot forget its limit. What no
route reads is not read to its end.
"""

from __future__ import annotations

import asyncio
import contextlib
import time

from fastapi import HTTPException, Request
from starlette.datastructures import Headers
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from backend.settings import Settings

DEFAULT_BYTES = 16 << 10
"""The longest body of a route that does not say otherwise."""

LINGER_S = 3.0
"""How long a sender that was refused may go on sending before its connection is closed."""

LINGER_PAUSE_S = 0.5
"""A sender that pauses for so long has nothing on its way."""

_SCOPE_KEY = "framestream.body"


class RequestRefused(HTTPException):
    """The request is refused, and its body is not read to the end."""


class BodyLimits:
    """Middleware that applies the limits. It must be outside of all that may answer a request."""

    def __init__(self, app: ASGIApp, settings: Settings) -> None:
        self._app = app
        self._settings = settings

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """See ASGI."""
        if scope["type"] != "http":
            return await self._app(scope, receive, send)
        body = _Body(scope, receive, send, self._settings)
        scope[_SCOPE_KEY] = body
        return await self._app(scope, body.receive, body.send)


def allow_body(request: Request, limit_bytes: int) -> None:
    """Allows the request's body to be so long. Raises `RequestRefused` 413 if it is even longer."""
    body: _Body = request.scope[_SCOPE_KEY]
    body.limit_bytes = limit_bytes
    body.check_declared()


class _Body:
    """One request's body, on its way to the app. A breach of its limits is raised at the reader."""

    def __init__(self, scope: Scope, receive: Receive, send: Send, settings: Settings) -> None:
        self._receive = receive
        self._send = send
        self._settings = settings
        self._method = scope["method"]
        headers = Headers(scope=scope)
        self._declared_bytes = int(headers.get("content-length", 0))  # the parser has checked it
        self._unread = self._declared_bytes > 0 or "transfer-encoding" in headers
        self._received_bytes = 0
        self._started_s: float | None = None
        self._answered = False
        self.limit_bytes = DEFAULT_BYTES

    def check_declared(self) -> None:
        """Checks the length that the request says it has. Raises `RequestRefused` 413."""
        if self._declared_bytes > self.limit_bytes:
            raise RequestRefused(
                413, f"the body is {self._declared_bytes} bytes, at most {self.limit_bytes} are"
            )

    async def receive(self) -> Message:
        """The next piece. Raises `RequestRefused` 408 or 413 where it breaks a limit.

        Once the response has begun, nobody can be told: then the sender counts as disconnected. So
        it does where no body is expected, since only a response that is under way reads on there.
        """
        if not self._unread:
            return await self._receive()  # waits for the sender to disconnect
        try:
            return await self._next()
        except RequestRefused:
            if self._answered or self._method in ("GET", "HEAD"):
                return {"type": "http.disconnect"}
            raise

    async def send(self, message: Message) -> None:
        """Sends a part of the response. The last one closes a connection that has unread bytes.

        Otherwise the server would read on, up to the length that the request says it has.
        """
        if message["type"] == "http.response.start":
            self._answered = True
            if self._unread:
                headers = [*message.get("headers", ()), (b"connection", b"close")]
                message = {**message, "headers": headers}
        elif self._unread and not message.get("more_body", False):
            await self._send({**message, "more_body": True})
            await self._linger()
            message = {"type": "http.response.body"}
        await self._send(message)

    async def _next(self) -> Message:
        self.check_declared()
        if self._started_s is None:
            self._started_s = time.monotonic()
        idle_s = self._settings.upload_idle_s
        try:
            async with asyncio.timeout(idle_s):
                message = await self._receive()
        except TimeoutError:
            raise RequestRefused(408, f"no data came for {idle_s:g} s") from None
        if message["type"] == "http.request":
            self._received_bytes += len(message.get("body", b""))
            self._unread = message.get("more_body", False)
            self._check_received(time.monotonic() - self._started_s)
        return message

    def _check_received(self, took_s: float) -> None:
        if self._received_bytes > self.limit_bytes:
            raise RequestRefused(413, f"the body is more than {self.limit_bytes} bytes")
        least = self._settings.upload_min_bytes_per_s
        is_slow = self._received_bytes < least * took_s and took_s > self._settings.upload_idle_s
        if self._unread and is_slow:
            raise RequestRefused(408, f"the upload is slower than {least:g} bytes/s")

    async def _linger(self) -> None:
        """Drops what still comes, for a moment.

        A connection that is closed while bytes come is reset, and the sender may lose the response.
        """
        with contextlib.suppress(TimeoutError, asyncio.CancelledError):  # the request ends here
            async with asyncio.timeout(LINGER_S):
                while self._unread:
                    async with asyncio.timeout(LINGER_PAUSE_S):
                        message = await self._receive()
                    self._unread = message.get("more_body", False)
