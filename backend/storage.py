"""Storage functions that the app imports by name: thin calls of `engine.storage`.

`key` is relative to the user's folder. As the app expects, a failure is a return value (`False`, or
`None` for a URL) and a line in the log, not an exception. New code should use `engine.storage`,
which raises errors with the reason. Without R2_BUCKET_NAME the files lie in the server's data
folder, and the URLs are signed by this server.
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
    """Stores a file. False if it failed."""
    return _tried(lambda store: store.put_file(user_key(user_id, key), Path(path))) is not None


def upload_bytes_to_r2(user_id: str, key: str, data: bytes) -> bool:
    """Stores bytes. False if it failed."""
    return _tried(lambda store: store.put_bytes(user_key(user_id, key), data)) is not None


def download_from_r2(user_id: str, key: str, path: Path | str) -> bool:
    """Fetches a file and creates its folder. The file is written whole or not at all.

    False if it failed.
    """

    def fetch(store: Store) -> None:
        Path(path).parent.mkdir(parents=True, exist_ok=True)
        store.get_file(user_key(user_id, key), Path(path))

    return _tried(fetch) is not None


def generate_presigned_url(user_id: str, key: str, expires_in: int = 3600) -> str | None:
    """A URL valid for `expires_in` seconds, None if it failed. The object need not exist."""
    tried = _tried(lambda store: store.url(user_key(user_id, key), expires_in))
    return tried and tried[0]


def delete_from_r2(user_id: str, key: str) -> bool:
    """Deletes an object. False if it failed; a missing object counts as deleted."""
    return _tried(lambda store: store.delete(user_key(user_id, key))) is not None


def _tried(act: Callable[[Store], T]) -> tuple[T] | None:
    """The result in a tuple, None if it failed."""
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
