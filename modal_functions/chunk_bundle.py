"""A render job on its way from the orchestrator to renderers: one object, pinned by its SHA-256.

It is a pickle, and pickles can run code. It is opened only if its bytes have the hash that came
with the call, and the same version of the engine wrote them. A job says where its sources lie and
holds no store, so no secret gets into the bucket: a renderer reads from the bucket it knows.
"""

from __future__ import annotations

import hashlib
import pickle

from engine.errors import EngineError
from engine.pipeline.job import RenderJob
from engine.storage import Store
from engine.version import VERSION

_MARK = f"framestream {VERSION}\n".encode()


def put_bundle(store: Store, prefix: str, job: RenderJob) -> tuple[str, str]:
    """Stores a job below a prefix. Returns its key and its SHA-256."""
    data = _MARK + pickle.dumps(job, protocol=5)
    sha256 = hashlib.sha256(data).hexdigest()
    key = f"{prefix}/bundle-{sha256[:16]}"
    store.put_bytes(key, data)
    return key, sha256


def get_bundle(store: Store, key: str, sha256: str) -> RenderJob:
    """The job under `key`. Raises `EngineError` where it is not the one that was meant."""
    data = store.get_bytes(key)
    if hashlib.sha256(data).hexdigest() != sha256:
        raise EngineError(f"{key}: has another SHA-256 than the call gave")
    if not data.startswith(_MARK):
        found = data.partition(b"\n")[0][:40].decode(errors="replace")
        raise EngineError(f"{key}: was written by {found}, and this is framestream {VERSION}")
    job: RenderJob = pickle.loads(data[len(_MARK) :])
    return job
