"""A source is probed once: later workers use what the first one found."""

from __future__ import annotations

import json
import os
import re
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any
from urllib.parse import unquote

import httpx
import pytest

from backend.file_cache import FileCache
from backend.settings import Settings
from backend.source_cache import SourceCache
from engine.errors import SourceError
from engine.files import whole_file
from engine.records import record_bytes
from engine.source import SourceInfo
from engine.storage import LocalStore
from tests.backend.conftest import SIZE, Serve, post, serving
from tests.clips import read_number
from tests.disks import fill, small_disk
from tests.media import needs_ffmpeg
from tests.s3 import KEY_ID, SECRET, FaultyProxy, new_bucket
from tests.witness import luma_frames

EDIT: dict[str, Any] = {"clips": [{"key": "save.mp4"}], **SIZE}


@pytest.fixture
def files(tmp_path: Path) -> FileCache:
    return FileCache(tmp_path / "sources")


@pytest.fixture
def store(tmp_path: Path) -> LocalStore:
    return LocalStore(tmp_path / "store")


def documents(folder: Path) -> list[Path]:
    """The cached documents of sources."""
    return sorted(folder.glob("*.document"))


def halve(document: Path) -> None:
    """Makes the cached source half as long. A worker that reports this length did not probe."""
    source = cached_source(document)
    count = len(source.frame_pts) // 2
    end_pts = int(source.frame_pts[count])
    half = replace(
        source,
        frame_pts=source.frame_pts[:count],
        keyframe_pts=source.keyframe_pts[source.keyframe_pts < end_pts],
        end_pts=end_pts,
    )
    document.write_bytes(record_bytes(half.to_document()))


def cached_source(document: Path) -> SourceInfo:
    content = json.loads(document.read_text())
    del content["checksum"]
    return SourceInfo.from_document(content, Path())


def put(client: httpx.Client, clip: Path, key: str = "save.mp4") -> None:
    answer = client.put(f"/api/clips/{key}", content=clip.read_bytes())
    assert answer.status_code == 201, answer.text


@needs_ffmpeg
def test_a_stored_clip_is_probed_at_its_upload_and_never_again(
    serve: Serve, clips: list[Path], tmp_path: Path
) -> None:
    client = serve()
    put(client, clips[1])
    [document] = documents(tmp_path / "data" / "sources")
    halve(document)
    assert client.get("/api/clips/save.mp4").json()["file"]["frames"] == 9
    assert client.get("/api/clips/save.mp4/glance").json()["file"]["frames"] == 9
    estimate = client.post("/api/estimate", json={"edit": EDIT}).json()["estimate"]
    assert estimate["frames"] == 9
    preview = client.post("/api/preview", json={"edit": EDIT, "through": "plain"})
    assert json.loads(unquote(preview.headers["x-preview"]))["frames"] == 9
    form = {"multi_clip_data_json": (None, json.dumps(EDIT)), "export_id": (None, "half")}
    told = client.post("/api/export/multi-clip", files=form).json()
    film = tmp_path / "film.mp4"
    film.write_bytes(client.get(told["presigned_url"]).content)
    assert [read_number(luma) for luma in luma_frames(film)] == list(range(9))
    sent = post(client, clips[1:], export_id="sent").json()
    assert sent["frames"] == 9, "the same bytes sent as a file are the same source"
    assert documents(tmp_path / "data" / "sources") == [document]


def test_another_clip_under_the_same_key_is_another_source(serve: Serve, clips: list[Path]) -> None:
    client = serve()
    for clip, frames in ((clips[0], 24), (clips[1], 18), (clips[0], 24)):
        put(client, clip)
        assert client.get("/api/clips/save.mp4").json()["file"]["frames"] == frames
        estimate = client.post("/api/estimate", json={"edit": EDIT}).json()["estimate"]
        assert estimate["frames"] == frames
        client.delete("/api/clips/save.mp4")


def test_nothing_of_a_known_object_is_read_for_an_estimate_and_little_for_an_export(
    s3_address: str, clips: list[Path], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    proxy = FaultyProxy(s3_address)
    bucket = new_bucket(s3_address).bucket
    with proxy.listening() as address:
        for name, value in {
            "R2_BUCKET_NAME": bucket,
            "R2_ENDPOINT_URL": address,
            "R2_ACCESS_KEY_ID": KEY_ID,
            "R2_SECRET_ACCESS_KEY": SECRET,
        }.items():
            monkeypatch.setenv(name, value)
        with serving(Settings(data_dir=tmp_path / "data")) as client:
            put(client, clips[1])
            estimates = []
            gets = []
            for _ in range(3):
                proxy.forget()
                answer = client.post("/api/estimate", json={"edit": EDIT})
                estimates.append(answer.json()["estimate"]["frames"])
                gets.append(len(proxy.requests_of("GET")))
            proxy.forget()
            form = {"multi_clip_data_json": (None, json.dumps(EDIT)), "export_id": (None, "known")}
            assert client.post("/api/export/multi-clip", files=form).status_code == 200
            read = [each.path for each in proxy.requests_of("GET") if "save.mp4" in each.path]
            report = client.get("/api/exports/known/report").json()
    assert estimates == [18, 18, 18]
    assert gets == [1, 0, 0], "once to find the fingerprint of the object, which is small"
    size = clips[1].stat().st_size
    assert (len(read), report["source_bytes_read"]) == (2, 1 + size), "a byte tells of its version"


def test_a_source_is_known_under_any_name(
    files: FileCache, store: LocalStore, clips: list[Path], tmp_path: Path
) -> None:
    cache = SourceCache(files, "anna")
    probed = cache.source_info(clips[0], store)
    [document] = documents(files.folder)
    halve(document)
    copy = tmp_path / "copy.mp4"
    copy.write_bytes(clips[0].read_bytes())
    found = cache.source_info(copy, store)
    assert (len(probed.frame_pts), len(found.frame_pts)) == (24, 12)
    assert (found.location, found.fingerprint) == (copy, probed.fingerprint)
    copy.write_bytes(clips[1].read_bytes())
    assert len(cache.source_info(copy, store).frame_pts) == 18, "a changed file is probed"


def test_users_share_no_source(files: FileCache, store: LocalStore, clips: list[Path]) -> None:
    SourceCache(files, "anna").source_info(clips[0], store)
    halve(documents(files.folder)[0])
    assert len(SourceCache(files, "ben").source_info(clips[0], store).frame_pts) == 24
    assert len(SourceCache(files, "anna").source_info(clips[0], store).frame_pts) == 12


def changed(record: bytes) -> bytes:
    """The same record with another digit in it, in the right form still."""
    place = re.search(rb"[1-8](?=[0-9a-f]*\")", record)
    assert place is not None
    return record[: place.start()] + b"9" + record[place.end() :]


POISON: dict[str, Callable[[bytes], bytes]] = {
    "empty": lambda _: b"",
    "no text": lambda _: b"\xff",
    "no record": lambda _: b"[]",
    "without checksum": lambda record: record.replace(b"checksum", b"checksun"),
    "another version's": lambda _: record_bytes({"version": 999, "fingerprint": "1f"}),
    "nested deeply": lambda _: b'{"a":' * 100_000 + b"1" + b"}" * 100_000,
    "changed": changed,
    "endless": lambda _: bytes(70 << 20),
}


@pytest.mark.parametrize("poison", POISON)
def test_a_damaged_record_is_replaced(
    files: FileCache, store: LocalStore, clips: list[Path], poison: str
) -> None:
    cache = SourceCache(files, "anna")
    cache.source_info(clips[0], store)
    [document] = documents(files.folder)
    [version] = files.folder.glob("*.version")
    good = {path: path.read_bytes() for path in (document, version)}
    for path, content in good.items():
        path.write_bytes(POISON[poison](content))
        assert len(cache.source_info(clips[0], store).frame_pts) == 24
        assert {path: path.read_bytes() for path in good} == good
    fingerprint = json.loads(good[version])["fingerprint"]
    assert fingerprint == cached_source(document).fingerprint


def test_files_that_are_no_sources_are_not_cached(
    files: FileCache, store: LocalStore, tmp_path: Path
) -> None:
    cache = SourceCache(files, "anna")
    (tmp_path / "empty.mp4").touch()
    for name in ("empty.mp4", "missing.mp4"):
        with pytest.raises(SourceError, match=name):
            cache.source_info(tmp_path / name, store)
    assert not files.folder.exists()


def test_a_cache_that_cannot_be_written_is_left_out(
    store: LocalStore, clips: list[Path], tmp_path: Path
) -> None:
    (tmp_path / "file").touch()
    cache = SourceCache(FileCache(tmp_path / "file" / "sources"), "anna")
    assert len(cache.source_info(clips[0], store).frame_pts) == 24


@needs_ffmpeg
def test_a_server_works_without_its_caches(
    serve: Serve, clips: list[Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (data := tmp_path / "data").mkdir()
    for name in ("sources", "glances", "speeds"):
        (data / name).touch()
    monkeypatch.setenv("FRAMESTREAM_HISTORY", str(data / "speeds" / "below"))
    client = serve()
    put(client, clips[1])
    assert client.get("/api/clips/save.mp4/glance").json()["file"]["frames"] == 18
    form = {"multi_clip_data_json": (None, json.dumps(EDIT)), "export_id": (None, "odd")}
    told = client.post("/api/export/multi-clip", files=form).json()
    film = tmp_path / "film.mp4"
    film.write_bytes(client.get(told["presigned_url"]).content)
    assert [read_number(luma) for luma in luma_frames(film)] == list(range(18))
    assert [(data / name).read_bytes() for name in ("sources", "glances", "speeds")] == [b""] * 3


def test_a_full_disk_leaves_files_out(tmp_path: Path) -> None:
    with small_disk(tmp_path / "disk", 1 << 16) as disk:
        cache = FileCache(disk / "cache")
        cache.write("old", b"old")
        ballast = fill(disk)
        for name in ("old", "new"):
            cache.write(name, bytes(10_000))
        assert (cache.read("old"), cache.read("new")) == (b"old", None)
        cache.sweep()
        assert sorted(path.name for path in disk.rglob("*")) == [ballast.name, "cache", "old"]


def test_unused_files_are_removed(files: FileCache) -> None:
    for name in ("used", "unused", ".unused.0123abcd.partial"):
        files.write(name, b"1")
        old = time.time() - files.lifetime_s - 60
        os.utime(files.folder / name, (old, old))
    assert files.read("used") == b"1"
    files.sweep()
    assert [path.name for path in files.folder.iterdir()] == ["used"]
    assert files.read("unused") is None


def test_what_a_killed_writer_has_left_is_removed(files: FileCache) -> None:
    files.write("kept", b"1")
    left = files.folder / ".other.0123abcd.partial"
    left.touch()
    with whole_file(files.folder / "new") as unfinished:
        files.sweep()
        assert unfinished.exists(), "its writer lives"
    assert {path.name for path in files.folder.iterdir()} == {"kept", "new"}


def test_readers_never_see_half_a_file(files: FileCache) -> None:
    contents = [bytes([number]) * 50_000 for number in range(8)]

    def read() -> Iterator[bytes | None]:
        for _ in range(200):
            yield files.read("one")

    with ThreadPoolExecutor(10) as pool:
        writing = [pool.submit(files.write, "one", content) for content in contents * 10]
        seen = set(pool.submit(lambda: list(read())).result())
        for each in writing:
            each.result()
    assert seen <= {None, *contents}
    assert [path.name for path in files.folder.iterdir()] == ["one"]
