"""The bucket that functions in containers work with, and which of its objects are a user's."""

from __future__ import annotations

import os
from dataclasses import replace

from engine.errors import StoreError
from engine.storage import S3Store, Store, checked_key, s3_settings, user_key

ATTEMPTS = 12
"""How often a request to the bucket is tried. With the pauses this outlasts a minute."""


def open_bucket() -> Store:
    """The bucket of the secret `r2-credentials`. Raises `StoreError` that names what is missing."""
    return S3Store(replace(s3_settings(os.environ), attempts=ATTEMPTS))


def check_owner(user_id: str, key: str) -> str:
    """Returns the key. Raises `StoreError` where it is not below the user's folder."""
    if not checked_key(key).startswith(user_key(user_id, "x").removesuffix("x")):
        raise StoreError(key, f"is not under {user_id}/, where this user's objects are")
    return key


def user_object_key(user_id: str, key: str) -> str:
    """The whole key of a user's object. `key` is whole, or relative to the user's folder."""
    whole = key.startswith(user_key(user_id, "x").removesuffix("x"))
    return checked_key(key) if whole else user_key(user_id, key)
