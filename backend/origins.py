"""Tells whether a request comes from a page of another origin.

A browser adds a login to every request to this server, whichever page sends it. CORS only hides the
response, and not even that of a WebSocket. Browsers say in `Origin` or `Sec-Fetch-Site` where a
request comes from, and no page can change that. Other clients send neither.
"""

from __future__ import annotations

from urllib.parse import urlsplit

from fastapi import HTTPException
from starlette.requests import HTTPConnection

from backend.settings import Settings

SAFE_METHODS = {"GET", "HEAD", "OPTIONS"}
"""Methods that change nothing here."""

_DEFAULT_PORTS = {"http": 80, "https": 443}

Origin = tuple[str, str, int]
"""Scheme, host name and port."""


def check_origin(connection: HTTPConnection, settings: Settings) -> None:
    """Refuses requests of pages that are neither this server's own nor in `cors_origins`.

    Raises `HTTPException` 403.
    """
    named = connection.headers.get("origin")
    if named is not None:
        allowed = _own_origins(connection, settings) | set(map(_parsed, settings.cors_origins))
        origin = _parsed(named)
        foreign = origin is None or origin not in allowed
    else:
        changes = connection.scope.get("method") not in SAFE_METHODS  # a WebSocket has no method
        site = connection.headers.get("sec-fetch-site", "none")
        foreign = changes and site not in ("same-origin", "none")
    if foreign:
        raise HTTPException(
            403,
            "a page of another origin sent this request: CORS_ORIGINS must list that origin, "
            "or PUBLIC_URL must be this server's own",
        )


def is_https(connection: HTTPConnection) -> bool:
    """Whether the request came over TLS, as far as this server or a proxy it trusts knows."""
    return connection.scope["scheme"] in ("https", "wss")


def _own_origins(connection: HTTPConnection, settings: Settings) -> set[Origin | None]:
    """The origins of this server's page: what the client called it, and `public_url`.

    A proxy may have ended TLS without saying so, thus a request that seems to be plain may be not.
    """
    schemes = ("https",) if is_https(connection) else ("http", "https")
    host = connection.headers.get("host", "")
    return {_parsed(settings.public_url), *(_parsed(f"{scheme}://{host}") for scheme in schemes)}


def _parsed(url: str) -> Origin | None:
    """The origin of a URL. None if it has none, such as `null`, which sandboxed pages send."""
    try:
        parts = urlsplit(url)
        port = parts.port or _DEFAULT_PORTS.get(parts.scheme)
    except ValueError:
        return None
    return (parts.scheme, parts.hostname, port) if parts.hostname and port else None
