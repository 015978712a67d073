"""What a browser is told of stored objects: by boto3, by plain HTTP and by what browsers run."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import boto3
import httpx
import pytest

import engine.storage.s3
from engine.errors import StoreError
from engine.storage import LocalStore, S3Settings, S3Store, Store
from engine.storage.media_types import SHOWN, content_disposition, media_type
from tests.s3 import BUCKET, new_bucket

SAVED = ("application/octet-stream", "attachment")
SCRIPT = b"<script>alert(1)</script>"


def admin(settings: S3Settings) -> Any:
    """A client that shares nothing with the store."""
    return boto3.client(
        "s3",
        endpoint_url=settings.endpoint_url,
        aws_access_key_id=settings.access_key_id,
        aws_secret_access_key=settings.secret_access_key,
        region_name="us-east-1",
    )


def told(headers: httpx.Headers) -> tuple[str, str]:
    return headers["Content-Type"], headers["Content-Disposition"]


@pytest.mark.parametrize(
    ("key", "expected"),
    [
        ("u/goal.mp4", ("video/mp4", "inline")),
        ("u/GOAL.MOV", ("video/quicktime", "inline")),
        ("u/a.b.webm", ("video/webm", "inline")),
        ("u/voice.m4a", ("audio/mp4", "inline")),
        ("u/frame.png", ("image/png", "inline")),
        *((f"u/evil.{suffix}", SAVED) for suffix in ("html", "HTM", "svg", "xhtml", "xml", "js")),
        *((f"u/evil.{suffix}", SAVED) for suffix in ("mp4.html", "pdf", "css", "json", "mp4.", "")),
        ("u/mp4", SAVED),
        ("u.mp4/evil", SAVED),
    ],
)
def test_only_films_sound_and_pictures_are_shown(key: str, expected: tuple[str, str]) -> None:
    assert (media_type(key), content_disposition(key)) == expected


def test_no_type_that_is_shown_can_hold_a_script() -> None:
    kinds = {each.split("/")[0] for each in SHOWN.values()}
    assert kinds == {"video", "audio", "image"}
    assert not [each for each in SHOWN.values() if "xml" in each or "svg" in each]


def test_a_name_to_save_cannot_break_out_of_the_header() -> None:
    said = content_disposition("u/a.mp4", 'ü "b"; filename=c.html.mp4')
    assert said == "attachment; filename*=UTF-8''%C3%BC%20%22b%22%3B%20filename%3Dc.html.mp4"
    assert said.isascii()


@pytest.mark.parametrize(
    "name",
    ["a.html", "a", "a.mp4.exe", "b/a.mp4", "a\r\nX: y.mp4", "a\u202e.mp4", ".mp4", "\ud800.mp4"],
)
def test_a_name_must_be_plain_and_end_like_the_key(
    tmp_path: Path, s3_address: str, name: str
) -> None:
    stores: list[Store] = [
        LocalStore(tmp_path, lambda *_: "signed"),
        S3Store(S3Settings(s3_address, BUCKET, "id", "secret")),
    ]
    for store in stores:
        assert store.url("u/a.MP4", 60, file_name="b.mp4")
        with pytest.raises(StoreError):
            store.url("u/a.mp4", 60, file_name=name)


def test_a_bucket_tells_what_was_uploaded(
    s3_address: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(engine.storage.s3, "PART_BYTES", 1000)
    settings = new_bucket(s3_address)
    store = S3Store(settings)
    (tmp_path / "long").write_bytes(SCRIPT * 100)  # in parts
    (tmp_path / "short").write_bytes(SCRIPT)
    for name in ("long", "short"):
        store.put_file(f"u/{name}.mp4", tmp_path / name)
        store.put_file(f"u/{name}.html", tmp_path / name)
    store.put_bytes("u/bytes.mp4", SCRIPT)
    store.put_bytes("u/bytes.svg", SCRIPT, only_new=True)
    for info in store.list("u"):
        head = admin(settings).head_object(Bucket=BUCKET, Key=info.key)
        expected = ("video/mp4", "inline") if info.key.endswith(".mp4") else SAVED
        assert (head["ContentType"], head["ContentDisposition"]) == expected, info.key
        assert told(httpx.get(store.url(info.key, 60)).headers) == expected, info.key


def test_a_signed_address_tells_it_also_of_what_others_stored(s3_address: str) -> None:
    settings = new_bucket(s3_address)
    page = {"ContentType": "text/html", "ContentDisposition": "inline", "Body": SCRIPT}
    for key in ("u/old.html", "u/old.mp4"):
        admin(settings).put_object(Bucket=BUCKET, Key=key, **page)
    store = S3Store(settings)
    assert told(httpx.get(store.url("u/old.html", 60)).headers) == SAVED
    assert told(httpx.get(store.url("u/old.mp4", 60)).headers) == ("video/mp4", "inline")
    saved = httpx.get(store.url("u/old.html", 60, file_name="x.html"))
    assert told(saved.headers) == (SAVED[0], "attachment; filename*=UTF-8''x.html")
    assert saved.content == SCRIPT
