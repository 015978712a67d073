"""The app's storage functions, on a bucket and on a folder."""

from __future__ import annotations

import logging
import os
import urllib.request
from pathlib import Path

import pytest

from backend.storage import (
    delete_from_r2,
    download_from_r2,
    generate_presigned_url,
    upload_bytes_to_r2,
    upload_to_r2,
)
from tests.s3 import KEY_ID, SECRET, new_bucket

NAMES = ("R2_BUCKET_NAME", "R2_ENDPOINT_URL", "R2_ACCESS_KEY_ID", "R2_SECRET_ACCESS_KEY")


@pytest.fixture(params=["folder", "bucket"])
def kind(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """The environment variables that an operator would set."""
    monkeypatch.setenv("DATA_DIR", str(tmp_path / "data"))
    for name in (*NAMES, "R2_ACCOUNT_ID", "R2_REGION"):
        monkeypatch.delenv(name, raising=False)
    if request.param == "bucket":
        settings = new_bucket(request.getfixturevalue("s3_address"))
        values = (settings.bucket, settings.endpoint_url, KEY_ID, SECRET)
        for name, value in zip(NAMES, values, strict=True):
            monkeypatch.setenv(name, value)
    return str(request.param)


@pytest.mark.usefixtures("kind")
def test_an_uploaded_file_can_be_fetched_until_it_is_deleted(tmp_path: Path) -> None:
    data = os.urandom(1000)
    (tmp_path / "a.mp4").write_bytes(data)
    assert upload_to_r2("7", "working_videos/a.mp4", tmp_path / "a.mp4") is True
    assert upload_bytes_to_r2("7", "b.json", b"{}") is True
    assert download_from_r2("7", "working_videos/a.mp4", tmp_path / "new" / "b.mp4") is True
    assert (tmp_path / "new" / "b.mp4").read_bytes() == data
    assert download_from_r2("77", "working_videos/a.mp4", tmp_path / "c.mp4") is False
    assert delete_from_r2("7", "working_videos/a.mp4") is True
    assert delete_from_r2("7", "working_videos/a.mp4") is True
    assert download_from_r2("7", "working_videos/a.mp4", tmp_path / "c.mp4") is False
    assert not (tmp_path / "c.mp4").exists()
    assert download_from_r2("7", "b.json", str(tmp_path / "b.json")) is True


def test_a_url_is_signed(kind: str) -> None:
    upload_bytes_to_r2("7", "a.mp4", b"1234")
    address = generate_presigned_url("7", "a.mp4", expires_in=60)
    assert address is not None
    assert "7/a.mp4?" in address
    assert "signature=" in address.lower()
    if kind == "bucket":
        with urllib.request.urlopen(address) as answer:
            assert answer.read() == b"1234"


@pytest.mark.usefixtures("kind")
@pytest.mark.parametrize(("user", "key"), [("7", "../8/a"), ("7", "/etc/passwd"), ("", "a")])
def test_keys_cannot_leave_the_user_s_folder(
    tmp_path: Path, user: str, key: str, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "a").write_bytes(b"")
    with caplog.at_level(logging.ERROR):
        assert upload_to_r2(user, key, tmp_path / "a") is False
        assert upload_bytes_to_r2(user, key, b"") is False
        assert download_from_r2(user, key, tmp_path / "b") is False
        assert generate_presigned_url(user, key) is None
        assert delete_from_r2(user, key) is False
    assert len(caplog.records) == 5
    assert not (tmp_path / "b").exists()


@pytest.mark.usefixtures("kind")
def test_missing_settings_are_named_in_the_log(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setenv("R2_BUCKET_NAME", "clips")
    monkeypatch.delenv("R2_ACCESS_KEY_ID", raising=False)
    monkeypatch.setenv("R2_SECRET_ACCESS_KEY", SECRET)
    with caplog.at_level(logging.ERROR):
        assert upload_to_r2("7", "a", tmp_path / "a") is False
    assert "R2_ACCESS_KEY_ID" in caplog.text
    assert SECRET not in caplog.text
