"""A store in a bucket of Cloudflare R2, MinIO or Amazon S3. The only file that names boto3.

Files are moved in equal parts, several at a time, so memory holds a few parts whatever the length.
A download is pinned to one version by its ETag, and goes on from where a connection breaks.
"""

from __future__ import annotations

import logging
import math
import os
import random
import re
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from contextlib import closing, contextmanager
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from engine.errors import ObjectChangedError, ObjectMissingError, StoreError
from engine.files import whole_file
from engine.location import ObjectLocation, SourceLocation
from engine.storage.keys import checked_key, folder_prefix
from engine.storage.media_types import content_disposition, media_type
from engine.storage.objects import ObjectInfo, OnBytes, opened_for_upload

if TYPE_CHECKING:
    from botocore.exceptions import ClientError
    from mypy_boto3_s3.client import S3Client
    from mypy_boto3_s3.type_defs import CompletedPartTypeDef

PART_BYTES = 8 << 20
"""Size of the parts of a file; larger only for a file that would have over `MAX_PARTS` of them."""
MAX_PARTS = 10_000
"""S3's limit."""
PARTS_AT_ONCE = 4
BLOCK_BYTES = 1 << 18
PAGE_OBJECTS = 1000
"""Objects listed or deleted by one request: S3's limit."""
MAX_URL_S = 7 * 24 * 3600
"""S3's limit on the life of a signed address."""
CONNECT_TIMEOUT_S, READ_TIMEOUT_S = 10, 30

_SECRETS = re.compile(
    r"((?:X-Amz-(?:Signature|Credential|Security-Token)|AWSAccessKeyId|Signature|Credential)"
    r"(?:=|%3D|\"?: ?\"?))[^&\s,\"'<>]+",
    re.IGNORECASE,
)
_REASONS = {  # by S3's error codes
    "NoSuchBucket": "there is no such bucket",
    "InvalidAccessKeyId": "the access key is unknown (R2_ACCESS_KEY_ID)",
    "SignatureDoesNotMatch": "the secret key is wrong (R2_SECRET_ACCESS_KEY)",
    "AccessDenied": "access is denied; the key must allow to read, write, list and delete",
    "403": "access is denied; the key must allow to read, write, list and delete",
    "AuthorizationHeaderMalformed": "the region is wrong (R2_REGION)",
    "PermanentRedirect": "the bucket is in another region (R2_ENDPOINT_URL, R2_REGION)",
    "301": "the bucket is in another region (R2_ENDPOINT_URL, R2_REGION)",
    "400": "the request is refused; the region may be wrong (R2_REGION)",
    "RequestTimeTooSkewed": "this machine's clock is wrong",
}
_MISSING = {"NoSuchKey", "404", "NotFound"}
_CHANGED = {"PreconditionFailed", "412", "ConditionalRequestConflict"}


@dataclass(frozen=True, slots=True)
class S3Settings:
    """A bucket's address and the key to it. Its `repr` has no secrets."""

    endpoint_url: str
    bucket: str
    access_key_id: str = field(repr=False)
    secret_access_key: str = field(repr=False)
    region: str = "auto"
    attempts: int = 6
    """How often a request is tried; 6 attempts last a quarter of a minute, half a one at most."""


@dataclass(frozen=True, slots=True)
class S3Store:
    """Objects in a bucket. It connects when first needed, and equal stores share connections."""

    settings: S3Settings

    def put_file(self, key: str, path: Path, *, on_bytes: OnBytes | None = None) -> None:
        """See `Store`."""
        checked_key(key)
        with opened_for_upload(key, path) as file:
            size = os.fstat(file.fileno()).st_size
            if size <= PART_BYTES:
                self.put_bytes(key, file.read())
                if on_bytes is not None:
                    on_bytes(size)
            else:
                self._put_parts(key, file.fileno(), size, on_bytes)

    def put_bytes(
        self, key: str, data: bytes, *, only_new: bool = False, if_match: str | None = None
    ) -> str:
        """See `Store`."""
        from botocore.exceptions import ClientError

        condition: dict[str, Any] = {"IfNoneMatch": "*"} if only_new else {}
        if if_match is not None:
            condition["IfMatch"] = if_match
        with self._store_errors(key):
            try:
                answer = self._client.put_object(
                    **self._target(key), **_served_as(key), Body=data, **condition
                )
            except ClientError as error:
                if _error_code(error) not in _CHANGED:
                    raise
                if _was_retried(error) and (etag := self._etag_of(key, data)):
                    return etag  # the first answer was lost, and the bytes there are ours
                reason = "already exists" if only_new else "is not the version to replace"
                raise ObjectChangedError(self._name(key), reason) from None
            return answer["ETag"]

    def get_file(
        self, key: str, path: Path, *, etag: str | None = None, on_bytes: OnBytes | None = None
    ) -> None:
        """See `Store`."""
        info = self._stat_existing(key, etag)
        with whole_file(path) as partial, partial.open("wb") as file:
            file.truncate(info.size_bytes)

            def fetch(start: int, stop: int) -> int:
                at = start
                for block in self._blocks(key, start, stop, info.etag):
                    at += os.pwrite(file.fileno(), block, at)
                return stop - start

            _transfer_parts(fetch, info.size_bytes, PART_BYTES, on_bytes)

    def get_bytes(self, key: str, *, etag: str | None = None) -> bytes:
        """See `Store`."""
        info = self._stat_existing(key, etag)
        return self.read(key, 0, info.size_bytes, etag=info.etag)

    def read(self, key: str, start: int, length: int, *, etag: str) -> bytes:
        """See `Store`."""
        return b"".join(self._blocks(key, start, start + length, etag))

    def stat(self, key: str) -> ObjectInfo | None:
        """See `Store`."""
        target = self._target(key)
        try:
            with self._store_errors(key):
                answer = self._client.head_object(**target)
        except ObjectMissingError:
            return None
        return ObjectInfo(key, answer["ContentLength"], answer["ETag"], answer["LastModified"])

    def list(self, prefix: str = "") -> Iterator[ObjectInfo]:
        """See `Store`."""
        for page in self._pages(folder_prefix(prefix) if prefix else ""):
            yield from page

    def delete(self, key: str) -> None:
        """See `Store`."""
        target = self._target(key)
        with self._store_errors(key):
            self._client.delete_object(**target)

    def delete_prefix(self, prefix: str) -> None:
        """See `Store`."""
        below = folder_prefix(prefix)
        for page in self._pages(below):
            self._delete_all(below, [info.key for info in page])
        self._abort_uploads(below)

    def discard_uploads(self, key: str) -> None:
        """See `Store`."""
        self._abort_uploads(checked_key(key), only=key)

    def url(self, key: str, expires_s: int, *, file_name: str | None = None) -> str:
        """See `Store`."""
        if not 0 < expires_s <= MAX_URL_S:
            raise StoreError(key, f"an address is valid for 1 to {MAX_URL_S} s, not {expires_s}")
        target = self._target(key)
        target["ResponseContentType"] = media_type(key)  # whatever the object was stored with
        target["ResponseContentDisposition"] = content_disposition(key, file_name)
        return self._client.generate_presigned_url("get_object", target, ExpiresIn=expires_s)

    def source(self, key: str) -> SourceLocation:
        """See `Store`."""
        info = self._stat_existing(key)
        return ObjectLocation(key, info.etag, info.size_bytes)

    @property
    def _client(self) -> S3Client:
        return _client_for(self.settings, os.getpid())

    def _target(self, key: str) -> dict[str, Any]:
        """The arguments of a request that name the object."""
        return {"Bucket": self.settings.bucket, "Key": checked_key(key)}

    def _stat_existing(self, key: str, etag: str | None = None) -> ObjectInfo:
        info = self.stat(key)
        if info is None:
            self._check_bucket(key)
            raise ObjectMissingError(self._name(key), "does not exist")
        if etag not in (None, info.etag):
            raise ObjectChangedError(self._name(key), "has changed")
        return info

    def _check_bucket(self, key: str) -> None:
        """Raises StoreError where the bucket is gone; a request for an object does not tell."""
        try:
            with self._store_errors(key):
                self._client.head_bucket(Bucket=self.settings.bucket)
        except ObjectMissingError as error:
            raise StoreError(self._name(key), _REASONS["NoSuchBucket"]) from error

    def _name(self, key: str) -> str:
        return f"{self.settings.bucket}/{key}"

    def _etag_of(self, key: str, data: bytes) -> str | None:
        """The ETag of the object under `key` if its content is `data`."""
        info = self.stat(key)
        if info is None or info.size_bytes != len(data):
            return None
        return info.etag if self.get_bytes(key, etag=info.etag) == data else None

    def _put_parts(self, key: str, file: int, size: int, on_bytes: OnBytes | None) -> None:
        """A multipart upload from an open file: finished, or aborted."""
        client, target = self._client, self._target(key)
        part_bytes = max(PART_BYTES, math.ceil(size / MAX_PARTS))
        parts: list[CompletedPartTypeDef] = []
        with self._store_errors(key):
            begun = client.create_multipart_upload(**target, **_served_as(key))
        upload = {**target, "UploadId": begun["UploadId"]}

        def send(start: int, stop: int) -> int:
            number = start // part_bytes + 1
            with self._store_errors(key):
                body = os.pread(file, stop - start, start)
                sent = client.upload_part(**upload, PartNumber=number, Body=body)
            parts.append({"PartNumber": number, "ETag": sent["ETag"]})
            return len(body)

        try:
            _transfer_parts(send, size, part_bytes, on_bytes)
            parts.sort(key=lambda part: part["PartNumber"])
            self._complete(key, upload, parts, size)
        except BaseException as error:
            try:
                with self._store_errors(key):
                    client.abort_multipart_upload(**upload)
            except StoreError as left:
                error.add_note(f"the unfinished upload of {key} could not be removed: {left}")
            raise

    def _complete(
        self, key: str, upload: dict[str, Any], parts: Sequence[CompletedPartTypeDef], size: int
    ) -> None:
        from botocore.exceptions import ClientError

        with self._store_errors(key):
            try:
                self._client.complete_multipart_upload(**upload, MultipartUpload={"Parts": parts})
            except ClientError as error:
                if _error_code(error) != "NoSuchUpload" or not _was_retried(error):
                    raise
                existing = self.stat(key)  # the answer to the first attempt may have been lost
                if existing is None or existing.size_bytes != size:
                    raise

    def _blocks(self, key: str, start: int, stop: int, etag: str) -> Iterator[bytes]:
        """Bytes `[start, stop)` of one version; asks again from where a connection breaks."""
        from botocore.exceptions import HTTPClientError, IncompleteReadError

        failures = 0
        while start < stop:
            with self._store_errors(key):
                answer = self._client.get_object(
                    **self._target(key), Range=f"bytes={start}-{stop - 1}", IfMatch=etag
                )
                if "ContentRange" not in answer:
                    raise StoreError(self._name(key), "the store does not serve ranges of bytes")
                stop = min(stop, int(answer["ContentRange"].rpartition("/")[2]))
                with closing(answer["Body"]) as body:
                    try:
                        for block in body.iter_chunks(BLOCK_BYTES):
                            yield block
                            start, failures = start + len(block), 0
                    except (HTTPClientError, IncompleteReadError):
                        failures += 1
                        if failures == self.settings.attempts:
                            raise
                        time.sleep(random.random() * min(2**failures, 20) / 2)

    def _pages(self, below: str) -> Iterator[Sequence[ObjectInfo]]:
        pages = self._client.get_paginator("list_objects_v2").paginate(
            Bucket=self.settings.bucket,
            Prefix=below,
            PaginationConfig={"PageSize": PAGE_OBJECTS},
        )
        with self._store_errors(below):
            for page in pages:
                found = page.get("Contents", ())
                yield [
                    ObjectInfo(each["Key"], each["Size"], each["ETag"], each["LastModified"])
                    for each in found
                ]

    def _delete_all(self, below: str, keys: Sequence[str]) -> None:
        if not keys:
            return
        with self._store_errors(below):
            answer = self._client.delete_objects(
                Bucket=self.settings.bucket,
                Delete={"Objects": [{"Key": key} for key in keys], "Quiet": True},
            )
        for failed in answer.get("Errors", ()):
            raise StoreError(self._name(below), f"is not deleted ({failed.get('Code')})")

    def _abort_uploads(self, below: str, only: str | None = None) -> None:
        """Aborts the uploads that processes left when they died: all, or those to one key."""
        bucket = self.settings.bucket
        with self._store_errors(below):
            uploads = self._client.get_paginator("list_multipart_uploads")
            for page in uploads.paginate(Bucket=bucket, Prefix=below):
                for each in page.get("Uploads", ()):
                    if only not in (None, each["Key"]):
                        continue
                    self._client.abort_multipart_upload(
                        Bucket=bucket, Key=each["Key"], UploadId=each["UploadId"]
                    )

    @contextmanager
    def _store_errors(self, key: str) -> Iterator[None]:
        """Turns boto3's errors into a `StoreError` that names the object and the reason.

        The original error is not chained: a server's text may contain keys and signatures.
        """
        from botocore.exceptions import BotoCoreError, ClientError

        name = self._name(key)
        try:
            yield
        except ClientError as error:
            code = _error_code(error)
            if code in _MISSING:
                raise ObjectMissingError(name, "does not exist") from None
            if code in _CHANGED:
                raise ObjectChangedError(name, "has changed") from None
            status = error.response["ResponseMetadata"].get("HTTPStatusCode", "no status")
            reason = _REASONS.get(code, "the store refuses")
            raise StoreError(name, f"{reason} ({code}, {status})") from None
        except BotoCoreError as error:
            host = urlsplit(self.settings.endpoint_url).hostname
            kind = type(error).__name__
            raise StoreError(name, f"the request to {host} fails ({kind})") from None


def redacted(text: str) -> str:
    """`text` without the signatures, credentials and tokens of signed addresses."""
    return _SECRETS.sub(r"\1REDACTED", text)


def _transfer_parts(
    move: Callable[[int, int], int], size: int, part_bytes: int, on_bytes: OnBytes | None
) -> None:
    """Moves bytes `[0, size)` part by part, several at a time; the first error stops the rest."""
    moved = 0
    with ThreadPoolExecutor(PARTS_AT_ONCE, "store") as pool:
        starts = range(0, size, part_bytes)
        parts = [pool.submit(move, start, min(start + part_bytes, size)) for start in starts]
        try:
            for part in as_completed(parts):
                moved += part.result()
                if on_bytes is not None:
                    on_bytes(moved)
        except BaseException:
            pool.shutdown(cancel_futures=True)
            raise


@lru_cache(maxsize=16)
def _client_for(settings: S3Settings, process: int) -> S3Client:  # noqa: ARG001 - in the cache key
    """A client with its connections. Threads may share it, but it must not survive a fork."""
    import boto3
    from botocore.config import Config

    log = logging.getLogger("botocore")
    if log.level == logging.NOTSET:
        log.setLevel(logging.INFO)  # its debug log contains signatures
    client = boto3.session.Session().client(
        "s3",
        endpoint_url=settings.endpoint_url,
        aws_access_key_id=settings.access_key_id,
        aws_secret_access_key=settings.secret_access_key,
        region_name=settings.region,
        config=Config(
            signature_version="s3v4",
            s3={"addressing_style": "path"},
            request_checksum_calculation="when_required",  # R2 lacks the newer checksums
            response_checksum_validation="when_required",
            # not "standard": its quota, shared by all of a process, ends retries during an outage
            retries={"mode": "legacy", "total_max_attempts": settings.attempts},
            connect_timeout=CONNECT_TIMEOUT_S,
            read_timeout=READ_TIMEOUT_S,
        ),
    )
    client.meta.events.register_last("before-parameter-build.s3", _disable_region_redirects)
    return client


def _disable_region_redirects(context: dict[str, Any], **_: object) -> None:
    """Keeps botocore from looking for the bucket in other regions.

    The address is the one in the settings. At a store that answers 301 and names no region,
    botocore's search would call itself without end.
    """
    context.setdefault("s3_redirect", {})["redirected"] = True


def _error_code(error: ClientError) -> str:
    """S3's error code."""
    code = error.response["Error"].get("Code", "unknown")
    return code if re.fullmatch(r"\w+", code) else "unknown"


def _was_retried(error: ClientError) -> bool:
    """Whether the request was sent before, so that the store may already have carried it out."""
    return bool(error.response["ResponseMetadata"].get("RetryAttempts"))


def _served_as(key: str) -> dict[str, Any]:
    """The arguments of an upload that say how the bucket serves the object."""
    return {"ContentType": media_type(key), "ContentDisposition": content_disposition(key)}
