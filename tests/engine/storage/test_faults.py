"""What goes wrong between a client and its store ends well, or in one clear error."""

from __future__ import annotations

import logging
import os
import traceback
import urllib.request
from collections.abc import Callable, Iterator
from dataclasses import replace
from itertools import count
from pathlib import Path

import pytest

import engine.storage.s3
from engine.errors import ObjectChangedError, ObjectMissingError, StoreError
from engine.storage import S3Settings, S3Store
from tests.s3 import (
    KEY_ID,
    SECRET,
    Asked,
    Cut,
    Fault,
    FaultyProxy,
    Lose,
    Refuse,
    Reset,
    Stall,
    new_bucket,
)

PART_BYTES = 1 << 16
DATA = os.urandom(4 * PART_BYTES + 5)
READ_TIMEOUT_S = 0.3


@pytest.fixture(scope="module", autouse=True)
def small_parts() -> Iterator[None]:
    """Transfers are in small parts, silence is short."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(engine.storage.s3, "PART_BYTES", PART_BYTES)
        patch.setattr(engine.storage.s3, "READ_TIMEOUT_S", READ_TIMEOUT_S)
        yield


@pytest.fixture
def store(store_behind_proxy: Callable[[int], S3Store]) -> S3Store:
    return store_behind_proxy(4)


def behind(proxy: FaultyProxy, settings: S3Settings) -> S3Store:
    """The same bucket without the proxy."""
    return S3Store(replace(settings, endpoint_url=proxy.server))


def once(*wrong: tuple[Callable[[Asked], bool], Fault]) -> Callable[[Asked], Fault | None]:
    """Each fault befalls the first request that it fits, and no other."""
    left = list(wrong)

    def fault(asked: Asked) -> Fault | None:
        for each in left:
            if each[0](asked):
                left.remove(each)
                return each[1]
        return None

    return fault


def every(kind: Fault, *methods: str) -> Callable[[Asked], Fault | None]:
    return lambda asked: kind if asked.method in (methods or {asked.method}) else None


def is_get(asked: Asked) -> bool:
    return asked.method == "GET"


def is_put(asked: Asked) -> bool:
    return asked.method in ("PUT", "POST")


def assert_clear(error: BaseException) -> None:
    """One line that says which object, and nowhere a secret."""
    told = "".join(traceback.format_exception(error))
    assert "\n" not in str(error)
    assert "clips/u" in str(error)
    for secret in (SECRET, KEY_ID, "Signature=", "X-Amz"):
        assert secret not in told


def unfinished_uploads(store: S3Store) -> int:
    uploads = store._client.list_multipart_uploads(Bucket=store.settings.bucket)
    return len(uploads.get("Uploads", ()))


PASSING: dict[str, Fault] = {
    "500": Refuse(500, "InternalError"),
    "503": Refuse(503, "SlowDown"),
    "reset": Reset(),
    "lost answer": Lose(),
    "silence": Stall(3 * READ_TIMEOUT_S),
}


@pytest.mark.parametrize("name", PASSING)
def test_an_upload_outlasts_a_fault_in_each_of_its_requests(
    store: S3Store, proxy: FaultyProxy, tmp_path: Path, name: str
) -> None:
    (tmp_path / "data").write_bytes(DATA)
    steps = count()
    seen: set[str] = set()

    def fault(asked: Asked) -> Fault | None:
        if asked.path in seen:  # asked again
            return None
        seen.add(asked.path)
        return PASSING[name] if next(steps) % 2 == 0 else None

    proxy.fault = fault
    store.put_file("u/clip.mp4", tmp_path / "data")
    assert behind(proxy, store.settings).get_bytes("u/clip.mp4") == DATA
    assert unfinished_uploads(store) <= (name in ("lost answer", "silence"))


@pytest.mark.parametrize(
    "fault",
    [*PASSING.values(), Cut(1000), Cut(0), Stall(3 * READ_TIMEOUT_S, 1000)],
    ids=str,
)
def test_a_download_goes_on_where_it_broke(
    store: S3Store, proxy: FaultyProxy, tmp_path: Path, fault: Fault
) -> None:
    store.put_bytes("u/clip.mp4", DATA)
    proxy.fault = once((is_get, fault), (is_get, fault), (is_get, fault))
    store.get_file("u/clip.mp4", tmp_path / "back")
    assert (tmp_path / "back").read_bytes() == DATA


def test_a_part_that_breaks_is_not_moved_twice(
    store: S3Store, proxy: FaultyProxy, tmp_path: Path
) -> None:
    store.put_bytes("u/a", DATA[:PART_BYTES])
    proxy.fault = once((is_get, Cut(PART_BYTES - 10)))
    store.get_file("u/a", tmp_path / "back")
    assert proxy.body_bytes == PART_BYTES


@pytest.mark.parametrize("fault", [*PASSING.values(), Cut(0)], ids=str)
def test_a_store_that_stays_away_is_one_error_and_leaves_nothing(
    store: S3Store, proxy: FaultyProxy, tmp_path: Path, fault: Fault
) -> None:
    store = S3Store(replace(store.settings, attempts=2))
    real = behind(proxy, store.settings)
    real.put_bytes("u/clip.mp4", DATA)
    (tmp_path / "data").write_bytes(DATA[::-1])
    proxy.fault = lambda asked: fault if asked.method != "HEAD" else None
    with pytest.raises(StoreError) as caught:
        store.get_file("u/clip.mp4", tmp_path / "back")
    assert_clear(caught.value)
    if not isinstance(fault, Cut):  # the answer to an upload is shorter
        with pytest.raises(StoreError) as caught:
            store.put_bytes("u/new", b"")
        assert_clear(caught.value)
    assert {path.name for path in tmp_path.iterdir()} == {"data"}


def test_an_upload_that_fails_is_aborted(
    store: S3Store, proxy: FaultyProxy, tmp_path: Path
) -> None:
    (tmp_path / "data").write_bytes(DATA)
    proxy.fault = lambda asked: (
        Refuse(500, "InternalError") if "partNumber=3" in asked.path else None
    )
    with pytest.raises(StoreError) as caught:
        store.put_file("u/clip.mp4", tmp_path / "data")
    assert_clear(caught.value)
    assert unfinished_uploads(store) == 0
    assert store.stat("u/clip.mp4") is None


@pytest.mark.parametrize("by_key", [False, True], ids=["prefix", "key"])
def test_an_upload_that_cannot_even_be_aborted_says_so(
    store: S3Store, proxy: FaultyProxy, tmp_path: Path, by_key: bool
) -> None:
    (tmp_path / "data").write_bytes(DATA)
    proxy.fault = lambda asked: Reset() if "uploadId" in asked.path else None
    with pytest.raises(StoreError) as caught:
        store.put_file("u/clip.mp4", tmp_path / "data")
    assert_clear(caught.value)
    assert any("could not be removed" in note for note in caught.value.__notes__)
    proxy.fault = lambda _: None
    assert unfinished_uploads(store) == 1
    if by_key:
        store.discard_uploads("u/clip")
        assert unfinished_uploads(store) == 1
        store.discard_uploads("u/clip.mp4")
    else:
        store.delete_prefix("u")  # as a sweep does later
    assert unfinished_uploads(store) == 0


def test_an_upload_whose_last_answer_is_lost_is_there(
    store: S3Store, proxy: FaultyProxy, tmp_path: Path
) -> None:
    (tmp_path / "data").write_bytes(DATA)

    def last(asked: Asked) -> bool:
        return asked.method == "POST" and "uploadId" in asked.path

    proxy.fault = once((last, Lose()), (last, Refuse(404, "NoSuchUpload")))
    store.put_file("u/clip.mp4", tmp_path / "data")
    assert store.get_bytes("u/clip.mp4") == DATA
    proxy.fault = once((last, Refuse(404, "NoSuchUpload")))
    with pytest.raises(StoreError, match="NoSuchUpload"):
        store.put_file("u/other.mp4", tmp_path / "data")


def test_a_claim_whose_answer_is_lost_is_still_ours(store: S3Store, proxy: FaultyProxy) -> None:
    proxy.fault = once((is_put, Lose()))
    etag = store.put_bytes("u/lease", b"worker 1", only_new=True)
    proxy.fault = once((is_put, Lose()))
    etag = store.put_bytes("u/lease", b"worker 1, again", if_match=etag)
    info = store.stat("u/lease")
    assert info and info.etag == etag
    proxy.fault = once((is_put, Reset()))
    with pytest.raises(ObjectChangedError):
        store.put_bytes("u/lease", b"worker 2", only_new=True)


@pytest.mark.parametrize("at", range(1, 5))
def test_an_object_that_changes_meanwhile_is_never_mixed(
    store: S3Store, proxy: FaultyProxy, tmp_path: Path, at: int
) -> None:
    real = behind(proxy, store.settings)
    real.put_bytes("u/clip.mp4", DATA)
    gets = count(1)

    def change(asked: Asked) -> Fault | None:
        if asked.method == "GET" and next(gets) == at:
            real.put_bytes("u/clip.mp4", DATA[::-1])
            return Reset()
        return None

    proxy.fault = change
    with pytest.raises(ObjectChangedError, match=r"u/clip\.mp4: has changed") as caught:
        store.get_file("u/clip.mp4", tmp_path / "back")
    assert_clear(caught.value)
    assert not [*tmp_path.iterdir()]


REFUSALS = {
    ("InvalidAccessKeyId", 403): "R2_ACCESS_KEY_ID",
    ("SignatureDoesNotMatch", 403): "R2_SECRET_ACCESS_KEY",
    ("AccessDenied", 403): "access is denied",
    ("AuthorizationHeaderMalformed", 400): "R2_REGION",
    ("PermanentRedirect", 301): "another region",
    ("NoSuchBucket", 404): "no such bucket",
    ("RequestTimeTooSkewed", 403): "clock",
    ("Teapot", 418): "Teapot, 418",
}


@pytest.mark.parametrize(("code", "status"), REFUSALS)
def test_a_refusal_is_explained_at_once(
    store: S3Store, proxy: FaultyProxy, tmp_path: Path, code: str, status: int
) -> None:
    store.put_bytes("u/a", DATA)
    etag = store.source("u/a").etag  # type: ignore[union-attr]
    (tmp_path / "data").write_bytes(DATA)
    proxy.fault = every(Refuse(status, code))
    before = len(proxy.requests)
    for ask in (
        lambda: store.put_bytes("u/a", b""),
        lambda: store.read("u/a", 0, 9, etag=etag),
        lambda: list(store.list("u")),
        lambda: store.delete_prefix("u"),
        lambda: store.put_file("u/a", tmp_path / "data"),
    ):
        with pytest.raises(StoreError, match=REFUSALS[code, status]) as caught:
            ask()
        assert_clear(caught.value)
    assert len(proxy.requests) - before == 5  # nothing is tried again
    for ask in (lambda: store.get_bytes("u/a"), lambda: store.get_file("u/a", tmp_path / "b")):
        with pytest.raises(StoreError) as caught:
            ask()
        assert_clear(caught.value)
        assert not isinstance(caught.value, ObjectMissingError)


def test_wrong_credentials_at_a_server_that_checks_them(s3_address: str) -> None:
    settings = new_bucket(s3_address)
    check_from(s3_address, "0")
    try:
        with pytest.raises(StoreError, match="R2_ACCESS_KEY_ID") as caught:
            S3Store(settings).put_bytes("u/a", b"")
        assert_clear(caught.value)
        with pytest.raises(StoreError, match="access is denied"):
            S3Store(settings).stat("u/a")
    finally:
        check_from(s3_address, "inf")


def check_from(s3_address: str, request: str) -> None:
    """Make the server check who asks, from so many requests on."""
    plain = {"Content-Type": "text/plain"}
    address = f"{s3_address}/moto-api/reset-auth"
    with urllib.request.urlopen(urllib.request.Request(address, request.encode(), plain)):
        pass


def test_nobody_at_the_address(s3_address: str) -> None:
    settings = replace(new_bucket(s3_address, attempts=1), endpoint_url="http://127.0.0.1:1")
    with pytest.raises(StoreError, match=r"the request to 127\.0\.0\.1 fails") as caught:
        S3Store(settings).put_bytes("u/a", b"")
    assert_clear(caught.value)


def test_a_bucket_that_goes_away(s3_address: str, tmp_path: Path) -> None:
    settings = replace(new_bucket(s3_address), bucket="gone-bucket")
    for ask in (
        lambda: S3Store(settings).get_bytes("u/a"),
        lambda: S3Store(settings).source("u/a"),
        lambda: S3Store(settings).get_file("u/a", tmp_path / "a"),
        lambda: S3Store(settings).put_bytes("u/a", b""),
        lambda: list(S3Store(settings).list("u")),
    ):
        with pytest.raises(StoreError, match=r"gone-bucket/u.*: there is no such bucket"):
            ask()


def test_no_log_holds_a_secret_or_a_signature(
    store: S3Store, proxy: FaultyProxy, caplog: pytest.LogCaptureFixture
) -> None:
    engine.storage.s3._client_for.cache_clear()
    proxy.fault = once((is_put, Reset()), (is_get, Refuse(500, "InternalError")))
    with caplog.at_level(logging.DEBUG):
        store.put_bytes("u/a", b"1")
        store.get_bytes("u/a")
        store.url("u/a", 60)
        [*store.list()]
    assert caplog.records
    for record in caplog.records:
        text = record.getMessage()
        for secret in (SECRET, "Signature=", "signature:", "AWS4-HMAC"):
            assert secret not in text, record.name
