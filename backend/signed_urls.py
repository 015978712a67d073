"""Signed URLs of a local store's files, which `routes/files.py` serves."""

from __future__ import annotations

import hashlib
import hmac
import os
import secrets
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Self
from urllib.parse import quote, urlencode


@dataclass(frozen=True, slots=True)
class UrlSigner:
    """Makes and checks URLs that expire. It is a value, and is sent to workers with the store."""

    secret: bytes = field(repr=False)
    public_url: str

    @classmethod
    def load_or_create(cls, data_dir: Path, public_url: str) -> Self:
        """With the secret in `data_dir`. Creates the secret if there is none."""
        path = data_dir / "signing.key"
        try:
            descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        except FileExistsError:
            return cls(path.read_bytes(), public_url)
        with os.fdopen(descriptor, "wb") as file:
            file.write(secrets.token_bytes(32))
        return cls(path.read_bytes(), public_url)

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
