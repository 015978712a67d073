"""The names by which the app's own code stores things: thin calls of `engine.storage`.

As that code expects, `key` is relative to the user's folder, and failure is an answer (`False`, or
`None` for an address) and a line in the log, not an exception. New code uses `engine.storage` and
hears why. Without R2_BUCKET_NAME it is the server's own folder and its own signed addresses.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

from backend.settings import Settings
from backend.signed_urls import UrlSigner
from engine.errors import EngineError
from engine.storage import Store, open_store, user_key

T = TypeVar("T")

_log = logging.getLogger(__name__)


def upload_to_r2(user_id: str, key: str, path: Path | str) -> bool:
    """Stores a file."""
    return _tried(lambda store: store.put_file(user_key(user_id, key), Path(path))) is not None


def upload_bytes_to_r2(user_id: str, key: str, data: bytes) -> bool:
    """Stores bytes."""
    return _tried(lambda store: store.put_bytes(user_key(user_id, key), data)) is not None


def download_from_r2(user_id: str, key: str, path: Path | str) -> bool:
    """Fetches a file; its folder is made, and it is there whole or not at all."""

    def fetch(store: Store) -> None:
        Path(path).parent.mkdir(parents=True, exist_ok=True)
        store.get_file(user_key(user_id, key), Path(path))

    return _tried(fetch) is not None


def generate_presigned_url(user_id: str, key: str, expires_in: int = 3600) -> str | None:
    """An address that holds for `expires_in` seconds. Whether anything lies there is not asked."""
    tried = _tried(lambda store: store.url(user_key(user_id, key), expires_in))
    return tried and tried[0]


def delete_from_r2(user_id: str, key: str) -> bool:
    """Deletes; what was not there counts as deleted."""
    return _tried(lambda store: store.delete(user_key(user_id, key))) is not None


def _tried(act: Callable[[Store], T]) -> tuple[T] | None:
    """What came of it, None where it failed."""
    settings = Settings()

    def sign(key: str, expires_s: int, file_name: str | None) -> str:
        settings.data_dir.mkdir(parents=True, exist_ok=True)
        url_signer = UrlSigner.load_or_create(settings.data_dir, settings.public_url)
        return url_signer.sign(key, expires_s, file_name)

    try:
        return (act(open_store(settings.data_dir / "store", sign=sign)),)
    except (EngineError, OSError) as error:
        _log.error("%s", error)
        return None
