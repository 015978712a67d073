"""Chunks on their way from the orchestrator to renderers: one object, pinned by its SHA-256.

It is a pickle, so it is opened only when its bytes are those whose hash came with the call, and
written by the same engine. A store in it is left out: a renderer reads from its own, and so no
secret lies in the bucket.
"""

from __future__ import annotations

import hashlib
import io
import pickle
from dataclasses import dataclass
from typing import Any

from engine.errors import EngineError
from engine.media.encoders import Encoder
from engine.storage import LocalStore, S3Store, Store
from engine.timeline.chunks import Chunk
from engine.version import VERSION

_MARK = f"framestream {VERSION}\n".encode()
_STORE = "the store"


@dataclass(frozen=True, slots=True)
class Bundle:
    """What renderers need to know of an export."""

    chunks: tuple[Chunk, ...]
    encoder: Encoder
    upscaler: str
    """By name; each renderer loads its own."""
    strict: bool


def put_bundle(store: Store, prefix: str, bundle: Bundle) -> tuple[str, str]:
    """Stores a bundle below a prefix; gives its key and its SHA-256."""
    file = io.BytesIO()
    file.write(_MARK)
    _Pickler(file, protocol=5).dump(bundle)
    data = file.getvalue()
    sha256 = hashlib.sha256(data).hexdigest()
    key = f"{prefix}/bundle-{sha256[:16]}"
    store.put_bytes(key, data)
    return key, sha256


def get_bundle(store: Store, key: str, sha256: str) -> Bundle:
    """The bundle under `key`. Raises `EngineError` where it is another than was meant."""
    data = store.get_bytes(key)
    if hashlib.sha256(data).hexdigest() != sha256:
        raise EngineError(f"{key}: is not what was meant: its SHA-256 is another")
    if not data.startswith(_MARK):
        found = data.partition(b"\n")[0][:40].decode(errors="replace")
        raise EngineError(f"{key}: is of {found}, and this is framestream {VERSION}")
    bundle: Bundle = _Unpickler(io.BytesIO(data[len(_MARK) :]), store).load()
    return bundle


class _Pickler(pickle.Pickler):
    def persistent_id(self, value: Any) -> str | None:
        return _STORE if isinstance(value, S3Store | LocalStore) else None


class _Unpickler(pickle.Unpickler):
    def __init__(self, file: io.BytesIO, store: Store) -> None:
        super().__init__(file)
        self._store = store

    def persistent_load(self, name: Any) -> Store:
        assert name == _STORE
        return self._store
