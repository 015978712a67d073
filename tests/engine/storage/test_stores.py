"""What every store promises, on a folder and on a real S3 server alike."""

from __future__ import annotations

import os
import pickle
import sys
import unicodedata
import urllib.request
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path
from typing import TypeAlias

import pytest
from hypothesis import given
from hypothesis import strategies as st

import engine.storage.s3
from engine.errors import ObjectChangedError, ObjectMissingError, OutputError, StoreError
from engine.location import ObjectLocation
from engine.storage import (
    LocalStore,
    S3Store,
    Store,
    StoredObject,
    checked_key,
    folder_prefix,
    open_store,
    redacted,
    user_key,
)
from tests.s3 import KEY_ID, SECRET, new_bucket

PART_BYTES = 1 << 16
DATA = os.urandom(5 * PART_BYTES + 123)
"""Five whole parts and a smaller one."""

Made: TypeAlias = Callable[[], Store]


@pytest.fixture(params=["folder", "bucket"])
def store(
    request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Store]:
    """A new, empty store; parts of transfers are small."""
    monkeypatch.setattr(engine.storage.s3, "PART_BYTES", PART_BYTES)
    if request.param == "folder":
        yield LocalStore(tmp_path / "store", sign=signed)
        assert not [*(tmp_path / "store").glob(".incoming/[!l]*")]  # nothing unfinished is left
    else:
        yield S3Store(new_bucket(request.getfixturevalue("s3_address")))


def signed(key: str, expires_s: int, file_name: str | None) -> str:
    return f"/files/{key}?for={expires_s}&as={file_name}"


@pytest.fixture
def file(tmp_path: Path) -> Path:
    (tmp_path / "data").write_bytes(DATA)
    return tmp_path / "data"


@pytest.mark.parametrize("size", [0, 1, PART_BYTES, PART_BYTES + 1, len(DATA)])
def test_a_file_comes_back_byte_for_byte(store: Store, tmp_path: Path, size: int) -> None:
    there, back = tmp_path / "there", tmp_path / "back"
    there.write_bytes(DATA[:size])
    store.put_file("u/clip.mp4", there)
    store.get_file("u/clip.mp4", back)
    assert back.read_bytes() == DATA[:size] == store.get_bytes("u/clip.mp4")


def test_progress_is_told_in_bytes_up_to_the_last(store: Store, file: Path, tmp_path: Path) -> None:
    for move in (store.put_file, store.get_file):
        told: list[int] = []
        move("u/clip.mp4", file if move == store.put_file else tmp_path / "b", on_bytes=told.append)
        assert told == sorted(told)
        assert told[-1] == len(DATA)


class StopError(Exception):
    """What a caller raises who has had enough."""


def enough(done: int) -> None:
    if done > PART_BYTES:
        raise StopError


def test_a_transfer_that_is_stopped_leaves_what_was_there(
    store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("engine.storage.local.BLOCK_BYTES", PART_BYTES)
    big, back = tmp_path / "big", tmp_path / "back"
    big.write_bytes(DATA)
    store.put_bytes("u/clip.mp4", b"first")
    with pytest.raises(StopError):
        store.put_file("u/clip.mp4", big, on_bytes=enough)
    assert store.get_bytes("u/clip.mp4") == b"first"
    store.put_file("u/clip.mp4", big)
    back.write_bytes(b"mine")
    with pytest.raises(StopError):
        store.get_file("u/clip.mp4", back, on_bytes=enough)
    assert back.read_bytes() == b"mine"
    assert {path.name for path in tmp_path.iterdir()} <= {"big", "back", "store"}


def test_any_range_of_one_version_is_read(store: Store) -> None:
    etag = store.put_bytes("u/a", DATA[:1000])
    for start, length in [(0, 1), (0, 1000), (17, 500), (999, 1), (990, 100)]:
        assert store.read("u/a", start, length, etag=etag) == DATA[start:1000][:length]
    store.put_bytes("u/a", DATA[:1000])
    again = store.put_bytes("u/a", DATA[1:1000])
    with pytest.raises(ObjectChangedError):
        store.read("u/a", 0, 1, etag=etag)
    assert store.read("u/a", 0, 1, etag=again) == DATA[1:2]


def test_what_is_pinned_and_has_changed_is_refused(store: Store, tmp_path: Path) -> None:
    etag = store.put_bytes("u/a", b"one")
    assert store.get_bytes("u/a", etag=etag) == b"one"
    store.put_bytes("u/a", b"two")
    with pytest.raises(ObjectChangedError, match=r"u/a: has changed"):
        store.get_bytes("u/a", etag=etag)
    with pytest.raises(ObjectChangedError):
        store.get_file("u/a", tmp_path / "a", etag=etag)
    assert not (tmp_path / "a").exists()


def test_what_is_missing_is_named(store: Store, tmp_path: Path) -> None:
    store.put_bytes("u/folder/a", b"")
    assert store.stat("u/nothing") is None
    assert store.stat("u/folder") is None
    asked: list[Callable[[], object]] = [
        partial(store.get_bytes, "u/nothing"),
        partial(store.get_file, "u/nothing", tmp_path / "a"),
        partial(store.source, "u/nothing"),
        partial(store.read, "u/nothing", 0, 1, etag='"0"'),
    ]
    for ask in asked:
        with pytest.raises(ObjectMissingError, match="u/nothing: does not exist"):
            ask()
    with pytest.raises(StoreError, match=r"u/a: .*gone.mp4 cannot be read: no such file"):
        store.put_file("u/a", tmp_path / "gone.mp4")
    with pytest.raises(OutputError, match="cannot be written"):
        store.get_file("u/folder/a", tmp_path / "no" / "folder" / "a")


def test_stat_tells_what_lies_there(store: Store) -> None:
    etag = store.put_bytes("u/a", b"12345")
    info = store.stat("u/a")
    assert info and (info.key, info.size_bytes, info.etag) == ("u/a", 5, etag)
    assert abs(info.modified - datetime.now(UTC)) < timedelta(minutes=1)


def test_only_new_and_if_match(store: Store) -> None:
    first = store.put_bytes("u/lease", b"1", only_new=True)
    with pytest.raises(ObjectChangedError, match="u/lease: already exists"):
        store.put_bytes("u/lease", b"2", only_new=True)
    second = store.put_bytes("u/lease", b"2", if_match=first)
    with pytest.raises(ObjectChangedError, match="u/lease: is not the version to replace"):
        store.put_bytes("u/lease", b"3", if_match=first)
    assert (store.get_bytes("u/lease"), second != first) == (b"2", True)
    with pytest.raises(StoreError):
        store.put_bytes("u/nothing", b"", if_match=first)


def test_of_many_who_are_first_one_is(tmp_path: Path) -> None:
    def claim(name: int) -> bool:
        try:
            LocalStore(tmp_path).put_bytes("claim", str(name).encode(), only_new=True)
        except ObjectChangedError:
            return False
        return True

    with ThreadPoolExecutor(8) as pool:
        won = list(pool.map(claim, range(32)))
    assert won.count(True) == 1
    assert LocalStore(tmp_path).get_bytes("claim") == str(won.index(True)).encode()


def test_listed_and_deleted_is_what_lies_in_a_folder(store: Store) -> None:
    keys = ["7/a", "7/temp/b", "7/temp/c/d", "77/temp/e", "7/é/f"]
    for key in keys:
        store.put_bytes(key, key.encode())
    assert [info.key for info in store.list()] == sorted(keys, key=str.encode)
    assert [info.key for info in store.list("7/temp")] == ["7/temp/b", "7/temp/c/d"]
    assert [info.size_bytes for info in store.list("77/")] == [9]
    store.delete("7/temp/b")
    store.delete("7/temp/b")
    assert [info.key for info in store.list("7/temp")] == ["7/temp/c/d"]
    store.delete_prefix("7")
    store.delete_prefix("7")
    assert [info.key for info in store.list()] == ["77/temp/e"]
    assert [*store.list("nobody")] == []
    for prefix in ("", "/", "..", "7/.."):
        with pytest.raises(StoreError):
            store.delete_prefix(prefix)
    store.delete("77/temp/e")
    assert [*store.list()] == []


def test_more_objects_than_one_answer_holds(
    s3_address: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(engine.storage.s3, "PAGE_OBJECTS", 3)
    store = S3Store(new_bucket(s3_address))
    keys = [f"u/{n}" for n in range(8)]
    for key in keys:
        store.put_bytes(key, b"")
    assert [info.key for info in store.list("u")] == keys
    store.delete_prefix("u")
    assert [*store.list()] == []


def test_a_store_is_a_value_without_its_secrets(store: Store) -> None:
    store.put_bytes("u/a", b"1")
    again = pickle.loads(pickle.dumps(store))
    assert again == store
    assert again.get_bytes("u/a") == b"1"
    source = again.source("u/a")
    assert pickle.loads(pickle.dumps(source)) == source
    for text in (repr(store), str(store), repr(source), str(source)):
        assert KEY_ID not in text
        assert SECRET not in text


def test_a_source_is_a_file_or_an_object_that_is_pinned(store: Store) -> None:
    store.put_bytes("u/clip.mp4", DATA)
    source = store.source("u/clip.mp4")
    assert (source.name, source.stem) == ("clip.mp4", "clip")
    if isinstance(source, Path):
        assert source.read_bytes() == DATA
    else:
        there = StoredObject(store, source)
        assert there.read(5, 10) == DATA[5:15]
        assert (there.read(len(DATA) - 2, 10), there.read(len(DATA), 1)) == (DATA[-2:], b"")
        store.put_bytes("u/clip.mp4", b"new")
        with pytest.raises(ObjectChangedError):
            there.read(0, 1)


def test_an_address_of_an_object_can_be_read_by_anyone(s3_address: str) -> None:
    store = S3Store(new_bucket(s3_address))
    store.put_bytes("u/ü b.mp4", DATA)
    address = store.url("u/ü b.mp4", 60, file_name='ü "b".mp4')
    with urllib.request.urlopen(address) as answer:
        assert answer.read() == DATA
        assert answer.headers["Content-Type"] == "video/mp4"
        disposition = answer.headers["Content-Disposition"]
    assert disposition == "attachment; filename*=UTF-8''%C3%BC%20%22b%22.mp4"
    assert SECRET not in address
    for seconds in (0, 7 * 24 * 3600 + 1):
        with pytest.raises(StoreError):
            store.url("u/a", seconds)


def test_an_address_of_a_file_is_whoever_serves_its(tmp_path: Path) -> None:
    assert LocalStore(tmp_path, signed).url("u/a", 60, file_name="b") == "/files/u/a?for=60&as=b"
    with pytest.raises(StoreError, match="without server"):
        LocalStore(tmp_path).url("u/a", 60)


def test_signatures_are_taken_out_of_text(s3_address: str) -> None:
    settings = new_bucket(s3_address)
    address = S3Store(settings).url("u/a", 60)
    signature = address.rpartition("Signature=")[2]
    for text in (address, f"GET '{address}' failed", f"{address}\n{address}", address.upper()):
        clean = redacted(text)
        assert signature not in clean and signature.upper() not in clean
        assert KEY_ID not in clean
    header = f"AWS4-HMAC-SHA256 Credential={KEY_ID}/2026/auto/s3, Signature=0123abc"
    assert redacted(header) == "AWS4-HMAC-SHA256 Credential=REDACTED, Signature=REDACTED"
    assert redacted("no secret = none") == "no secret = none"


ENVIRONMENT = {
    "R2_BUCKET_NAME": "clips",
    "R2_ENDPOINT_URL": "https://example.org/",
    "R2_ACCESS_KEY_ID": KEY_ID,
    "R2_SECRET_ACCESS_KEY": SECRET,
}


def test_the_environment_says_which_store(tmp_path: Path) -> None:
    assert open_store(tmp_path, environment={}) == LocalStore(tmp_path)
    assert open_store(tmp_path, environment={"R2_BUCKET_NAME": ""}) == LocalStore(tmp_path)
    store = open_store(tmp_path, environment=ENVIRONMENT)
    assert isinstance(store, S3Store)
    assert (store.settings.endpoint_url, store.settings.region) == ("https://example.org", "auto")
    account = {**ENVIRONMENT, "R2_ENDPOINT_URL": "", "R2_ACCOUNT_ID": "abc", "R2_REGION": "weur"}
    store = open_store(tmp_path, environment=account)
    assert isinstance(store, S3Store)
    assert store.settings.endpoint_url == "https://abc.r2.cloudflarestorage.com"
    assert store.settings.region == "weur"


@pytest.mark.parametrize("name", sorted(ENVIRONMENT.keys() - {"R2_BUCKET_NAME"}))
def test_a_setting_that_is_missing_is_named(tmp_path: Path, name: str) -> None:
    with pytest.raises(StoreError, match=f"{name} not set") as caught:
        open_store(tmp_path, environment={**ENVIRONMENT, name: ""})
    assert SECRET not in str(caught.value)


@pytest.mark.parametrize("address", ["minio:9000", "https://", "ftp://example.org"])
def test_what_is_no_address_is_told(tmp_path: Path, address: str) -> None:
    with pytest.raises(StoreError, match="R2_ENDPOINT_URL"):
        open_store(tmp_path, environment={**ENVIRONMENT, "R2_ENDPOINT_URL": address})


def test_a_bucket_without_boto3_says_what_to_install(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "boto3", None)
    assert open_store(tmp_path, environment={}) == LocalStore(tmp_path)
    with pytest.raises(StoreError, match="pip install"):
        open_store(tmp_path, environment=ENVIRONMENT)


# Keys

ODD = (
    "./\\ aA\0\n\x7f~%:é"
    "\u0301\u2024\u2025\u2026\uff0e\uff0f\uff3c\u2215\u29f8\ud800\udc80\u202e\u200b\u00ad\ufeff"
)
"""Dots, slashes and backslashes, what folds to them, what cannot be seen, and halves of pairs."""


@given(st.one_of(st.text(ODD, max_size=12), st.text(st.characters(), max_size=40)))
def test_no_key_leads_out(text: str) -> None:
    root = Path("/srv/store")
    for key in (text, f"7/{text}"):
        try:
            checked_key(key)
        except StoreError as error:
            assert "\n" not in str(error) and str(error).isascii()
            continue
        forms = [
            key,
            *(unicodedata.normalize(form, key) for form in ("NFC", "NFD", "NFKC", "NFKD")),
        ]
        for form in forms:
            path = Path(os.path.normpath(root / form))
            assert path.is_relative_to(root) and path != root
            assert not {"..", ".", "", ".incoming"} & set(form.split("/"))
            assert path == root / form
        assert key.encode().decode() == unicodedata.normalize("NFC", key) == key
        assert not any(unicodedata.category(letter) in ("Cc", "Cf", "Cs") for letter in key)


@given(st.text(ODD, max_size=8), st.text(ODD, max_size=8), st.text(ODD, max_size=8))
def test_no_name_leads_out_of_its_users_folder(user_id: str, one: str, other: str) -> None:
    try:
        key = user_key(user_id, one, other)
    except StoreError:
        return
    assert os.path.normpath(key) == key
    assert key.startswith(f"{user_id}/") and "/" not in user_id and user_id.isascii()


@given(st.text(st.characters(), min_size=1, max_size=20))
def test_a_key_that_is_taken_is_a_file_and_an_object(
    tmp_path_factory: pytest.TempPathFactory, text: str
) -> None:
    store = LocalStore(tmp_path_factory.getbasetemp() / "keys")
    try:
        store.put_bytes(text, text.encode(errors="surrogatepass"))
    except StoreError:
        return
    assert [info.key for info in store.list()] == [text]
    assert store.get_bytes(text) == text.encode()
    store.delete(text)


@pytest.mark.parametrize(
    "key",
    [
        "", "/", "/a", "a/", "a//b", ".", "..", "a/..", "../a", "a/../b", "a/./b", ".hidden",
        "a\\b", "..\\a", "C:\\a", "\0", "a\0b", "a\nb", "a\x7f", " a", "a ", "\u00a0a",
        "\u2024\u2024/a", "\u2025", "\uff0e\uff0e/a", "a\uff0fb", "a\uff3cb", "\ud800", "a\udc80",
        "\u202egpj.exe", "a\u200bb", "\ufeffa", "e\u0301", "a" * 201, "a/" * 512 + "a",
    ],
)  # fmt: skip
def test_keys_that_are_refused(key: str) -> None:
    with pytest.raises(StoreError, match="key"):
        checked_key(key)


@pytest.mark.parametrize("key", ["a", "7/b c.mp4", "7/é/ß.mp4", "7/日本.mp4", "7/C:/a", "a..b"])
def test_keys_that_are_taken(key: str) -> None:
    assert checked_key(key) == key


@pytest.mark.parametrize("user_id", ["", ".", "..", "a/b", "a b", "é", "-a", "a" * 129, "a\n"])
def test_users_that_are_none(user_id: str) -> None:
    with pytest.raises(StoreError, match="user"):
        user_key(user_id, "a")


def test_a_users_key_and_folder() -> None:
    assert user_key("user-7@example.org", "temp/x", "a.mp4") == "user-7@example.org/temp/x/a.mp4"
    assert folder_prefix("7/temp") == folder_prefix("7/temp/") == "7/temp/"
    with pytest.raises(StoreError, match="must have a name below the user's own"):
        user_key("7")
    with pytest.raises(StoreError):
        user_key("7", "../8/a")


def test_what_a_folder_cannot_hold_is_told(tmp_path: Path) -> None:
    store = LocalStore(tmp_path)
    store.put_bytes("u/a", b"")
    with pytest.raises(StoreError, match="u/a/b: "):
        store.put_bytes("u/a/b", b"")
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(StoreError):
        LocalStore(tmp_path / "file").put_bytes("a", b"")


def test_a_stored_object_reads_through_any_store(tmp_path: Path) -> None:
    store = LocalStore(tmp_path)
    location = ObjectLocation("u/a", store.put_bytes("u/a", DATA), len(DATA))
    source = StoredObject(store, location)
    assert source.read(3, 4) == DATA[3:7]
