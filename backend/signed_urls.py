"""Signed URLs of a local store's files, which `routes/files.py` serves."""

from __future__ import annotations

import fcntl
import hashlib
import hmac
import os
import secrets
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Self
from urllib.parse import quote, urlencode

from engine.errors import EngineError
from engine.files import whole_file

SECRET_BYTES = 32


@dataclass(frozen=True, slots=True)
class UrlSigner:
    """Makes and checks URLs that expire. It is a value, and is sent to workers with the store."""

    secret: bytes = field(repr=False)
    public_url: str

    @classmethod
    def load_or_create(cls, data_dir: Path, public_url: str) -> Self:
        """With the secret in `data_dir`. Creates the secret, whole or not at all, if there is none.

        Raises `EngineError` for a file that holds no secret: whoever knows its content could sign.
        """
        path = data_dir / "signing.key"
        if not path.exists():
            _create_secret(path)
        secret = path.read_bytes()
        if len(secret) != SECRET_BYTES:
            raise EngineError(
                f"{path}: holds {len(secret)} bytes and not {SECRET_BYTES}, so it is no secret; "
                "delete it, and a new one is made: addresses that were signed before end to work"
            )
        return cls(secret, public_url)

    def sign(self, key: str, expires_s: int, file_name: str | None) -> str:
        """The URL of `key`, valid for `expires_s` seconds. Browsers save it as `file_name`."""
        until = int(time.time()) + expires_s
        asked = {"expires": str(until), "name": file_name or ""}
        signature = self._signature(key, until, file_name or "")
        query = urlencode({**asked, "signature": signature})
        return f"{self.public_url}/api/files/{quote(key)}?{query}"

    def is_valid(self, key: str, expires: int, file_name: str, signature: str) -> bool:
        """True if the URL was signed with this secret and has not expired."""
        right = self._signature(key, expires, file_name)
        return hmac.compare_digest(right.encode(), signature.encode()) and time.time() < expires

    def _signature(self, key: str, until: int, file_name: str) -> str:
        message = "\n".join((str(until), file_name, key)).encode()
        return hmac.new(self.secret, message, hashlib.sha256).hexdigest()


def _create_secret(path: Path) -> None:
    """Writes a new secret, unless another process has. Raises `OutputError`."""
    folder = os.open(path.parent, os.O_RDONLY)
    try:
        fcntl.flock(folder, fcntl.LOCK_EX)
        if not path.exists():
            with whole_file(path) as unfinished:
                unfinished.chmod(0o600)
                unfinished.write_bytes(secrets.token_bytes(SECRET_BYTES))
    finally:
        os.close(folder)
