"""Logins of the page. A cookie holds a random token, the database its hash and the key's hash.

A login ends by itself after `LIFETIME`, when it is logged out, and when its key is revoked.
"""

from __future__ import annotations

import secrets
from dataclasses import dataclass
from datetime import datetime, timedelta

from sqlalchemy import delete, select

from backend.api_keys import hash_of
from backend.database import Database
from backend.models import ApiKey, LoginSession, utc_now

LIFETIME = timedelta(days=30)
"""From the login on, however often it is used."""


@dataclass(frozen=True, slots=True)
class Login:
    """Who is logged in, and until when."""

    user_id: str
    expires_at: datetime


class LoginSessions:
    """The logins of one server."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def start(self, key: str) -> str | None:
        """Logs in with an API key. Returns the new token, None if the key is not valid.

        Logins that have expired are deleted.
        """
        now = utc_now()
        with self._database.begin() as session:
            row = session.get(ApiKey, hash_of(key), with_for_update=True)
            if row is None or row.revoked_at is not None:
                return None
            session.execute(delete(LoginSession).where(LoginSession.expires_at <= now))
            token = secrets.token_urlsafe(32)
            session.add(
                LoginSession(
                    token_hash=hash_of(token),
                    key_hash=row.key_hash,
                    created_at=now,
                    expires_at=now + LIFETIME,
                )
            )
        return token

    def find(self, token: str) -> Login | None:
        """The login of a token. None if there is none, or if it has ended."""
        found = (
            select(ApiKey.user_id, LoginSession.expires_at)
            .join(ApiKey, ApiKey.key_hash == LoginSession.key_hash)
            .where(
                LoginSession.token_hash == hash_of(token),
                LoginSession.expires_at > utc_now(),
                ApiKey.revoked_at.is_(None),
            )
        )
        with self._database.read() as session:
            row = session.execute(found).one_or_none()
            return None if row is None else Login(row.user_id, row.expires_at)

    def end(self, token: str) -> None:
        """Logs out. Nothing happens if the token's login has ended already."""
        with self._database.begin() as session:
            session.execute(delete(LoginSession).where(LoginSession.token_hash == hash_of(token)))
