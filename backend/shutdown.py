"""Ends the requests that are still running when the server stops."""

from __future__ import annotations

import asyncio

from starlette.responses import JSONResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

RETRY_AFTER_S = 30


class ShutdownResponses:
    """Middleware that answers 503 where the server cancels a request, or ends the response.

    It must be outside of all that reads bodies.
    """

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """See ASGI."""
        if scope["type"] != "http":
            return await self._app(scope, receive, send)
        started = has_length = False

        async def send_message(message: Message) -> None:
            nonlocal started, has_length
            if message["type"] == "http.response.start":
                started = True
                has_length = any(name == b"content-length" for name, _ in message["headers"])
            await send(message)

        try:
            await self._app(scope, receive, send_message)
        except asyncio.CancelledError:
            if not started:
                stopping = JSONResponse(
                    {"detail": "the server is stopping; try again"},
                    503,
                    {"Retry-After": str(RETRY_AFTER_S), "Connection": "close"},
                )
                await stopping(scope, receive, send)
            elif not has_length:  # else the client sees that bytes are missing
                await send({"type": "http.response.body"})
