"""Finds out which user a request comes from.

It is told by an API key in a header, by the login in the page's cookie, or by a trusted proxy's
`X-User-ID`. Without keys and without a trusted proxy, every request is the user `local`'s. The
server then listens on loopback only, and refuses foreign host names (DNS rebinding).

A browser sends cookies, and what a proxy makes of them, whichever page asks it to. So where no
header of the client's own names the user, pages of other origins are refused (`origins.py`).
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Annotated
from urllib.parse import urlsplit

from fastapi import Depends, HTTPException
from sqlalchemy.exc import SQLAlchemyError
from starlette.concurrency import run_in_threadpool
from starlette.requests import HTTPConnection

from backend.api_keys import USER_ID_PATTERN, ApiKeys
from backend.database import Database
from backend.login_sessions import LoginSessions
from backend.origins import check_origin, is_https
from backend.settings import Settings

LOCAL_USER = "local"


@dataclass(frozen=True, slots=True)
class Visitor:
    """Who sent a request."""

    user_id: str
    login_expires_at: datetime | None = None
    """When the login in the cookie ends. None if the user is known by other means."""


class Access:
    """Turns an HTTP request or a WebSocket into a user id."""

    def __init__(self, settings: Settings, database: Database) -> None:
        self._settings = settings
        self.keys = ApiKeys(database)
        self.sessions = LoginSessions(database)

    def is_unauthenticated(self) -> bool:
        """True if nothing tells users apart: then only this machine may use the server.

        A server that has once had keys stays closed, also when all of them are revoked.
        """
        return not self._settings.trust_user_header and not self.keys.were_made()

    def visitor(self, connection: HTTPConnection) -> Visitor:
        """Who sent the request. Raises `HTTPException` 400, 401, 403 or 421."""
        host = _host_of(connection)
        if self._settings.trust_user_header:
            user_id = connection.headers.get("x-user-id", "")
            if not USER_ID_PATTERN.fullmatch(user_id):
                raise HTTPException(401, "X-User-ID is missing or is not a user id")
            check_origin(connection, self._settings)
            return Visitor(user_id)
        if key := _key_of(connection):
            if (user := self.keys.user_of(key)) is not None:
                return Visitor(user)
        elif (token := self.token_of(connection)) and (login := self.sessions.find(token)):
            check_origin(connection, self._settings)
            return Visitor(login.user_id, login.expires_at)
        if not self.is_unauthenticated():
            raise HTTPException(401, "a valid API key is required", {"WWW-Authenticate": "Bearer"})
        if host not in {each.strip("[]") for each in self._settings.allowed_hosts}:
            raise HTTPException(421, "without API keys this server answers to localhost only")
        check_origin(connection, self._settings)
        return Visitor(LOCAL_USER)

    def still_allows(self, connection: HTTPConnection, user_id: str) -> bool:
        """Whether the user may go on following what a request has opened.

        False once the key is revoked, or the login has ended. True while the database is silent.
        """
        try:
            return self.visitor(connection).user_id == user_id
        except HTTPException:
            return False
        except SQLAlchemyError:
            return True

    def token_of(self, connection: HTTPConnection) -> str | None:
        """The token in the page's cookie."""
        return connection.cookies.get(self.cookie_name(connection))

    def cookie_name(self, connection: HTTPConnection) -> str:
        """The cookie's name. With its prefix, only this host can set it, and only over TLS."""
        prefix = "__Host-" if self.has_secure_cookie(connection) else ""
        return f"{prefix}framestream_session"

    def has_secure_cookie(self, connection: HTTPConnection) -> bool:
        """Whether the cookie is sent over TLS only."""
        return is_https(connection) or self._settings.public_url.startswith("https:")


def _host_of(connection: HTTPConnection) -> str:
    """The host name in the request. Raises `HTTPException` 400."""
    try:
        return urlsplit(f"//{connection.headers.get('host', '')}").hostname or ""
    except ValueError:
        raise HTTPException(400, "the Host header is not a host name") from None


def _key_of(connection: HTTPConnection) -> str | None:
    """The key in `Authorization: Bearer`, or in `X-API-Key`."""
    scheme, _, key = connection.headers.get("authorization", "").partition(" ")
    if scheme.lower() == "bearer" and key:
        return key.strip()
    return connection.headers.get("x-api-key")


async def current_visitor(connection: HTTPConnection) -> Visitor:
    """FastAPI dependency: who sent a request, or opened a socket."""
    access: Access = connection.app.state.access
    return await run_in_threadpool(access.visitor, connection)


async def current_user(visitor: Annotated[Visitor, Depends(current_visitor)]) -> str:
    """FastAPI dependency: the user id of a request or socket."""
    return visitor.user_id


User = Annotated[str, Depends(current_user)]
