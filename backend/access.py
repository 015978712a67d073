"""Finds out which user a request comes from: by API key, or by a trusted proxy's `X-User-ID`.

API keys are stored as hashes. Without keys and without a trusted proxy, every request is the user
`local`'s. The server then listens on loopback only, and refuses foreign host names (DNS rebinding)
and pages of other origins.
"""

from __future__ import annotations

import hashlib
import re
import secrets
from typing import Annotated
from urllib.parse import urlsplit

from fastapi import Depends, HTTPException
from sqlalchemy import select
from starlette.concurrency import run_in_threadpool
from starlette.requests import HTTPConnection

from backend.database import Database
from backend.models import ApiKey
from backend.settings import Settings

LOCAL_USER = "local"
COOKIE = "framestream_key"
USER_ID_PATTERN = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.@-]{0,63}")


class Access:
    """Turns an HTTP request or a WebSocket into a user id."""

    def __init__(self, settings: Settings, database: Database) -> None:
        self._settings = settings
        self._database = database

    def is_unauthenticated(self) -> bool:
        """True if nothing tells users apart: then only this machine may use the server."""
        if self._settings.trust_user_header:
            return False
        with self._database.read() as session:
            return session.scalar(select(ApiKey).limit(1)) is None

    def make_key(self, user_id: str) -> str:
        """A new key for the user. It is stored as a hash, so it cannot be shown again.

        Raises `ValueError` if `user_id` is not a user id.
        """
        if not USER_ID_PATTERN.fullmatch(user_id):
            raise ValueError(
                f"{user_id!r} is not a user id: letters, digits and _ . @ -, at most 64 characters"
            )
        key = secrets.token_urlsafe(32)
        with self._database.begin() as session:
            session.add(ApiKey(key_hash=_hash(key), user_id=user_id))
        return key

    def user_of(self, connection: HTTPConnection) -> str:
        """The user id. Raises `HTTPException` 400, 401, 403 or 421."""
        host = _host_of(connection)
        if self._settings.trust_user_header:
            user_id = connection.headers.get("x-user-id", "")
            if not USER_ID_PATTERN.fullmatch(user_id):
                raise HTTPException(401, "X-User-ID is missing or is not a user id")
            return user_id
        if self.is_unauthenticated():
            self._check_host_and_origin(connection, host)
            return LOCAL_USER
        if (found := self.user_of_key(_key_of(connection))) is None:
            raise HTTPException(401, "a valid API key is required", {"WWW-Authenticate": "Bearer"})
        return found

    def user_of_key(self, key: str | None) -> str | None:
        """The user that the key belongs to, or None."""
        if not key:
            return None
        with self._database.read() as session:
            row = session.get(ApiKey, _hash(key))
            return None if row is None else row.user_id

    def _check_host_and_origin(self, connection: HTTPConnection, host: str) -> None:
        if host not in {each.strip("[]") for each in self._settings.allowed_hosts}:
            raise HTTPException(421, "without API keys this server answers to localhost only")
        origin = connection.headers.get("origin")
        if origin is None or origin in self._settings.cors_origins:
            return
        if urlsplit(origin).netloc != connection.headers.get("host"):
            raise HTTPException(403, "pages of other origins cannot use a server without API keys")


def _hash(key: str) -> str:
    return hashlib.sha256(key.encode()).hexdigest()  # keys are random: no salt or slow hash needed


def _host_of(connection: HTTPConnection) -> str:
    """The host name in the request. Raises `HTTPException` 400."""
    try:
        return urlsplit(f"//{connection.headers.get('host', '')}").hostname or ""
    except ValueError:
        raise HTTPException(400, "the Host header is not a host name") from None


def _key_of(connection: HTTPConnection) -> str | None:
    """The key in `Authorization: Bearer`, in `X-API-Key`, or in the page's cookie."""
    scheme, _, key = connection.headers.get("authorization", "").partition(" ")
    if scheme.lower() == "bearer" and key:
        return key.strip()
    return connection.headers.get("x-api-key") or connection.cookies.get(COOKIE)


async def current_user(connection: HTTPConnection) -> str:
    """FastAPI dependency: the user id of a request or socket."""
    access: Access = connection.app.state.access
    return await run_in_threadpool(access.user_of, connection)


User = Annotated[str, Depends(current_user)]
