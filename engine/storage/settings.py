"""Chooses the store by the environment's variables."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from importlib.util import find_spec
from pathlib import Path
from urllib.parse import urlsplit

from engine.errors import StoreError
from engine.storage.local import LocalStore
from engine.storage.objects import Store
from engine.storage.s3 import S3Settings, S3Store

_ACCOUNT_URL = "https://{}.r2.cloudflarestorage.com"


def open_store(
    folder: Path,
    *,
    environment: Mapping[str, str] | None = None,
    sign: Callable[[str, int, str | None], str] | None = None,
) -> Store:
    """The bucket that R2_BUCKET_NAME names, else `LocalStore(folder, sign)`.

    Raises StoreError where a bucket is named and one of its other settings, or boto3, is missing.
    """
    given = os.environ if environment is None else environment
    if not given.get("R2_BUCKET_NAME"):
        return LocalStore(folder, sign)
    if find_spec("boto3") is None:
        raise StoreError("R2_BUCKET_NAME", "a bucket needs boto3: pip install 'framestream[s3]'")
    return S3Store(s3_settings(given))


def s3_settings(environment: Mapping[str, str]) -> S3Settings:
    """A bucket's settings from R2_BUCKET_NAME, R2_ACCESS_KEY_ID, R2_SECRET_ACCESS_KEY, and
    R2_ENDPOINT_URL or R2_ACCOUNT_ID. R2_REGION is `auto` by default.

    Raises StoreError that names the missing variables, or an address that is not a web address.
    """
    account = environment.get("R2_ACCOUNT_ID", "")
    given = {
        "R2_ENDPOINT_URL": _ACCOUNT_URL.format(account) if account else "",
        "R2_REGION": "auto",
    } | {name: value for name, value in environment.items() if name.startswith("R2_") and value}
    required = ("R2_BUCKET_NAME", "R2_ENDPOINT_URL", "R2_ACCESS_KEY_ID", "R2_SECRET_ACCESS_KEY")
    missing = [name for name in required if not given.get(name)]
    if missing:
        raise StoreError("settings of the store", f"{', '.join(missing)} not set")
    address = urlsplit(given["R2_ENDPOINT_URL"])
    if address.scheme not in ("https", "http") or not address.hostname:
        raise StoreError(
            "R2_ENDPOINT_URL", "must be an address that begins with https:// or http://"
        )
    return S3Settings(
        endpoint_url=given["R2_ENDPOINT_URL"].rstrip("/"),
        bucket=given["R2_BUCKET_NAME"],
        access_key_id=given["R2_ACCESS_KEY_ID"],
        secret_access_key=given["R2_SECRET_ACCESS_KEY"],
        region=given["R2_REGION"],
    )
