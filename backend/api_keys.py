"""API keys: made, listed, revoked and recognised. The database holds their hashes, and no key."""

from __future__ import annotations

import hashlib
import re
import secrets
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import delete, func, select
from sqlalchemy.orm import Session

from backend.database import Database
from backend.models import ApiKey, LoginSession, utc_now

USER_ID_PATTERN = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.@-]{0,63}")

ID_CHARS = 12
"""Length of a key's id. It is the start of the hash, which tells nothing of the key."""

_ID = re.compile(r"[0-9a-f]{4,64}")
_HINT = "framestream key --list shows the ids"


@dataclass(frozen=True, slots=True)
class KeyFacts:
    """What may be shown of a key."""

    id: str
    user_id: str
    created_at: datetime
    revoked_at: datetime | None
    open_sessions: int
    """Logins with the key that have neither ended nor expired."""


class ApiKeys:
    """The keys of one server."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def were_made(self) -> bool:
        """Whether there has ever been a key. Revoked keys count."""
        with self._database.read() as session:
            return session.scalar(select(ApiKey).limit(1)) is not None

    def make(self, user_id: str) -> str:
        """A new key for the user. It is stored as a hash, so it cannot be shown again.

        Raises `ValueError` if `user_id` is not a user id.
        """
        if not USER_ID_PATTERN.fullmatch(user_id):
            raise ValueError(
                f"{user_id!r} is not a user id: letters, digits and _ . @ -, at most 64 characters"
            )
        key = secrets.token_urlsafe(32)
        with self._database.begin() as session:
            session.add(ApiKey(key_hash=hash_of(key), user_id=user_id))
        return key

    def user_of(self, key: str) -> str | None:
        """The user that the key belongs to. None if it is no key, or was revoked."""
        with self._database.read() as session:
            row = session.get(ApiKey, hash_of(key))
            return None if row is None or row.revoked_at is not None else row.user_id

    def list(self) -> Sequence[KeyFacts]:
        """All keys, the oldest first."""
        with self._database.read() as session:
            rows = session.scalars(select(ApiKey).order_by(ApiKey.created_at, ApiKey.key_hash))
            return [_facts(session, row) for row in rows]

    def revoke(self, key_id: str) -> KeyFacts:
        """Revokes a key and deletes its sessions. Returns what it was before.

        `key_id` is the start of its hash. Raises `ValueError` unless it is that of exactly one key.
        """
        if not _ID.fullmatch(key_id):
            raise ValueError(f"{key_id!r} is not the id of a key: {_HINT}")
        with self._database.begin() as session:
            starts = ApiKey.key_hash.startswith(key_id, autoescape=True)
            rows = session.scalars(select(ApiKey).where(starts).with_for_update()).all()
            if len(rows) != 1:
                what = "is the start of several ids" if rows else "is the id of no key"
                raise ValueError(f"{key_id} {what}: {_HINT}")
            facts = _facts(session, rows[0])
            rows[0].revoked_at = rows[0].revoked_at or utc_now()
            session.execute(delete(LoginSession).where(LoginSession.key_hash == rows[0].key_hash))
            return facts


def hash_of(secret: str) -> str:
    """SHA-256 in hex. Keys and tokens are random, so they need no salt and no slow hash."""
    return hashlib.sha256(secret.encode()).hexdigest()


def _facts(session: Session, row: ApiKey) -> KeyFacts:
    sessions = select(func.count()).where(
        LoginSession.key_hash == row.key_hash, LoginSession.expires_at > utc_now()
    )
    return KeyFacts(
        row.key_hash[:ID_CHARS],
        row.user_id,
        row.created_at,
        row.revoked_at,
        session.scalar(sessions) or 0,
    )
