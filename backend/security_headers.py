"""Tells browsers on every response what they may do with it: by default, run nothing.

What a user sends may come back, as a file or in a message. No browser may take it for a page of
this server.
"""

from __future__ import annotations

from starlette.types import ASGIApp, Message, Receive, Scope, Send

NOTHING = "default-src 'none'; sandbox; frame-ancestors 'none'"
"""The Content-Security-Policy of all that is not meant to be a page."""

MEDIA = (
    "default-src 'none'; media-src 'self'; style-src 'unsafe-inline'; "
    "sandbox allow-same-origin; frame-ancestors 'none'"
)
"""The policy of a film, a sound or a picture, which a browser may open by itself.

Chromium wraps it in a document of its own. That document loads the film once more from its address
(`media-src`), which a sandbox with a foreign origin may not (`allow-same-origin`), and has styles.
Scripts stay forbidden, twice: by `default-src` and by a sandbox without `allow-scripts`.
"""

_STARTS = {"http.response.start", "websocket.http.response.start"}
"""The second one refuses a WebSocket."""


class SecurityHeaders:
    """Adds the headers that a response lacks. It must be the outermost middleware."""

    def __init__(self, app: ASGIApp, *, embedded_elsewhere: bool) -> None:
        """`embedded_elsewhere`: pages of other origins show this server's films and pictures."""
        self._app = app
        resource_policy = b"cross-origin" if embedded_elsewhere else b"same-origin"
        self._headers = [
            (b"content-security-policy", NOTHING.encode()),
            (b"x-content-type-options", b"nosniff"),
            (b"referrer-policy", b"no-referrer"),
            (b"cross-origin-resource-policy", resource_policy),
        ]

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """See ASGI."""

        async def send_message(message: Message) -> None:
            if message["type"] in _STARTS:
                own = list(message.get("headers", ()))
                names = {name.lower() for name, _ in own}
                added = [header for header in self._headers if header[0] not in names]
                message = {**message, "headers": [*own, *added]}
            await send(message)

        await self._app(scope, receive, send_message)
