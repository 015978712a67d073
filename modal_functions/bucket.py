"""What a function in a container works with: the bucket, and whose objects it may touch."""

from __future__ import annotations

import os
from dataclasses import replace

from engine.errors import StoreError
from engine.storage import S3Store, Store, checked_key, s3_settings, user_key

ATTEMPTS = 12
"""How often a request to the bucket is made; with their pauses, these outlast a minute."""


def open_bucket() -> Store:
    """The bucket of the secret `r2-credentials`. Raises StoreError that says what it lacks."""
    return S3Store(replace(s3_settings(os.environ), attempts=ATTEMPTS))


def check_owner(user_id: str, key: str) -> str:
    """The key, if it is one of the user's. Raises StoreError."""
    if not checked_key(key).startswith(user_key(user_id, "x").removesuffix("x")):
        raise StoreError(key, f"is not under {user_id}/, where this user's objects are")
    return key


def user_object_key(user_id: str, key: str) -> str:
    """The key of a user's object, which may be given below the user's own folder or whole."""
    whole = key.startswith(user_key(user_id, "x").removesuffix("x"))
    return checked_key(key) if whole else user_key(user_id, key)


def temp_prefix(user_id: str, job_id: str) -> str:
    """Where an export keeps what nobody needs afterwards."""
    return user_key(user_id, "temp", f"modal_{job_id}")


def manifest_key(output_key: str) -> str:
    """What was made, as JSON beside the video; its presence is the stored result."""
    return f"{output_key}.manifest.json"
