"""Resumable uploads by tus 1.0.0: requests written from the protocol's text, and tus-js-client."""

from __future__ import annotations

import json
import os
import shutil
import socket
import subprocess
import time
from base64 import b64encode
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from email.utils import parsedate_to_datetime
from pathlib import Path
from typing import Any

import httpx
import pytest

from backend.settings import Settings
from tests.backend.conftest import serving
from tests.waiting import wait_until

VERSION = {"Tus-Resumable": "1.0.0"}
STREAM = VERSION | {"Content-Type": "application/offset+octet-stream"}
LIMIT = 3_000_000


@pytest.fixture(scope="module")
def client(tmp_path_factory: pytest.TempPathFactory) -> Iterator[httpx.Client]:
    folder = tmp_path_factory.mktemp("server") / "data"
    origins = ["http://app.example"]
    settings = Settings(data_dir=folder, max_request_bytes=LIMIT, cors_origins=origins)
    with serving(settings) as client:
        yield client


def metadata(**named: str) -> dict[str, str]:
    pairs = [f"{name} {b64encode(value.encode()).decode()}" for name, value in named.items()]
    return {"Upload-Metadata": ",".join(pairs)}


def created(client: httpx.Client, key: str, length: int) -> str:
    headers = VERSION | metadata(filename=key) | {"Upload-Length": str(length)}
    answer = client.post("/api/uploads", headers=headers)
    assert answer.status_code == 201, answer.text
    assert answer.headers["Tus-Resumable"] == "1.0.0"
    assert not answer.content
    return answer.headers["Location"]


def patch(client: httpx.Client, url: str, offset: int, data: bytes, **more: str) -> httpx.Response:
    headers = STREAM | {"Upload-Offset": str(offset)} | more
    return client.patch(url, content=data, headers=headers)


def offset_of(client: httpx.Client, url: str) -> int:
    answer = client.head(url, headers=VERSION)
    assert answer.status_code in (200, 204)
    assert answer.headers["Cache-Control"] == "no-store"
    return int(answer.headers["Upload-Offset"])


def kept_files(client: httpx.Client) -> list[Path]:
    return [p for p in (Path(client.headers["X-Data-Dir"]) / "uploads").rglob("*") if p.is_file()]


@contextmanager
def sending(
    client: httpx.Client, url: str, length: int, data: bytes, arrived: Callable[[], int]
) -> Iterator[None]:
    """A PATCH of `length` bytes of which `data` have arrived. Its connection breaks in the end."""
    before = arrived()
    headers = STREAM | {"Host": "localhost", "Upload-Offset": "0", "Content-Length": str(length)}
    fields = "".join(f"{name}: {value}\r\n" for name, value in headers.items())
    address = (client.base_url.host, client.base_url.port or 0)
    with closing(socket.create_connection(address, timeout=30)) as raw:
        raw.sendall(f"PATCH {url} HTTP/1.1\r\n{fields}\r\n".encode() + data)
        wait_until(lambda: arrived() - before == len(data))
        yield


def test_what_the_server_supports(client: httpx.Client) -> None:
    answer = client.options("/api/uploads")  # the one request without Tus-Resumable
    assert answer.status_code == 204
    assert answer.headers["Tus-Version"] == "1.0.0"
    extensions = set(answer.headers["Tus-Extension"].split(","))
    assert extensions == {"creation", "termination", "expiration"}
    assert answer.headers["Tus-Max-Size"] == str(LIMIT)


@pytest.mark.parametrize("given", [{}, {"Tus-Resumable": "0.2.2"}])
def test_another_version_of_the_protocol_is_refused(
    client: httpx.Client, given: dict[str, str]
) -> None:
    url = created(client, "version.mp4", 9)
    for method, path in (("POST", "/api/uploads"), ("HEAD", url), ("PATCH", url), ("DELETE", url)):
        answer = client.request(method, path, headers=given)
        assert answer.status_code == 412
        assert answer.headers["Tus-Version"] == answer.headers["Tus-Resumable"] == "1.0.0"
    assert client.delete(url, headers=VERSION).status_code == 204


def test_a_clip_in_three_pieces(client: httpx.Client, clips: list[Path]) -> None:
    data = clips[0].read_bytes()
    url = created(client, "pieces.mp4", len(data))
    assert offset_of(client, url) == 0
    for start, stop in ((0, 1000), (1000, 3000)):
        answer = patch(client, url, start, data[start:stop])
        assert (answer.status_code, answer.headers["Upload-Offset"]) == (204, str(stop))
        expires = parsedate_to_datetime(answer.headers["Upload-Expires"]).timestamp()
        assert time.time() < expires < time.time() + 2 * 86_400
        assert offset_of(client, url) == stop
    assert client.get("/api/clips/pieces.mp4").status_code == 404
    last = patch(client, url, 3000, data[3000:])
    assert (last.status_code, last.headers["Upload-Offset"]) == (204, str(len(data)))
    assert client.get("/api/clips/pieces.mp4").json()["file"]["codec"] == "h264"
    played = client.get("/api/clips/pieces.mp4/file", follow_redirects=True)
    assert played.content == data
    assert offset_of(client, url) == len(data)  # whoever lost the last answer learns of it
    assert kept_files(client) == []


def test_what_came_before_a_broken_connection_is_kept(
    client: httpx.Client, clips: list[Path], arrived: Callable[[], int]
) -> None:
    data = clips[1].read_bytes()
    url = created(client, "broken.mp4", len(data))
    with sending(client, url, len(data), data[:2000], arrived):
        pass
    wait_until(lambda: offset_of(client, url) > 0)
    received = offset_of(client, url)
    assert received == 2000
    assert patch(client, url, received, data[received:]).status_code == 204
    assert client.delete("/api/clips/broken.mp4").status_code == 204


def test_an_offset_must_be_what_was_received(client: httpx.Client) -> None:
    url = created(client, "offsets.mp4", 100)
    assert patch(client, url, 0, b"x" * 40).status_code == 204
    for offset in (0, 39, 41):
        assert patch(client, url, offset, b"y").status_code == 409
    assert offset_of(client, url) == 40
    assert patch(client, url, 40, b"y" * 61).status_code == 413
    assert patch(client, url, 40, b"", **{"Upload-Offset": "-1"}).status_code == 400
    headers = STREAM | {"Upload-Offset": "40", "Content-Type": "video/mp4"}
    assert client.patch(url, content=b"y", headers=headers).status_code == 415
    assert offset_of(client, url) == 40
    assert client.delete(url, headers=VERSION).status_code == 204


def test_an_upload_can_be_terminated(client: httpx.Client) -> None:
    url = created(client, "ended.mp4", 100)
    patch(client, url, 0, b"x" * 40)
    answer = client.delete(url, headers=VERSION)
    assert (answer.status_code, answer.headers["Tus-Resumable"]) == (204, "1.0.0")
    for method in ("HEAD", "DELETE", "PATCH"):
        headers = STREAM | {"Upload-Offset": "40"}
        assert client.request(method, url, headers=headers).status_code == 404
    assert kept_files(client) == []


def test_what_is_being_sent_is_not_taken_away(
    client: httpx.Client, arrived: Callable[[], int]
) -> None:
    url = created(client, "busy.mp4", 1000)
    with sending(client, url, 1000, b"x" * 10, arrived):
        assert client.delete(url, headers=VERSION).status_code == 423
        assert client.delete("/api/clips/busy.mp4").status_code == 423
        assert patch(client, url, 0, b"y").status_code == 409
    wait_until(lambda: offset_of(client, url) > 0)
    assert offset_of(client, url) == 10
    assert client.delete(url, headers=VERSION).status_code == 204
    assert kept_files(client) == []


def test_deleting_a_clip_forgets_its_announced_upload(client: httpx.Client) -> None:
    for sent in (b"", b"x" * 40):
        url = created(client, "forgotten.mp4", 100)
        assert patch(client, url, 0, sent).status_code == 204
        assert client.delete("/api/clips/forgotten.mp4").status_code == 204
        assert client.head(url, headers=VERSION).status_code == 404
        assert kept_files(client) == []


def test_a_clip_that_comes_by_put_ends_its_announced_upload(
    client: httpx.Client, clips: list[Path]
) -> None:
    url = created(client, "by put.mp4", 100)
    data = clips[1].read_bytes()
    assert client.put("/api/clips/by put.mp4", content=data).status_code == 201
    assert client.delete("/api/clips/by put.mp4").status_code == 204
    assert client.head(url, headers=VERSION).status_code == 404
    assert kept_files(client) == []


def test_methods_may_be_overridden(client: httpx.Client) -> None:
    url = created(client, "override.mp4", 100)
    headers = STREAM | {"Upload-Offset": "0", "X-HTTP-Method-Override": "PATCH"}
    assert client.post(url, content=b"x" * 7, headers=headers).status_code == 204
    assert offset_of(client, url) == 7
    ended = client.post(url, headers=VERSION | {"X-HTTP-Method-Override": "DELETE"})
    assert ended.status_code == 204
    assert client.head(url, headers=VERSION).status_code == 404


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({"Upload-Length": str(LIMIT + 1)}, 413),
        ({"Upload-Length": "0"}, 422),
        ({"Upload-Length": "many"}, 400),
        ({}, 400),
        ({"Upload-Length": "9", "Upload-Defer-Length": "1"}, 400),
        ({"Upload-Length": "9", "Upload-Metadata": "filename %%%"}, 400),
        ({"Upload-Length": "9", "Upload-Metadata": ""}, 400),
        ({"Upload-Length": "9", **metadata(key="../../anna/clips/a.mp4")}, 422),
        ({"Upload-Length": "9", **metadata(key=".hidden")}, 422),
        ({"Upload-Length": "9", **metadata(filename="x" * 300)}, 422),
    ],
)
def test_uploads_that_are_not_created(
    client: httpx.Client, headers: dict[str, str], status: int
) -> None:
    named = VERSION | metadata(filename="refused.mp4") | headers
    answer = client.post("/api/uploads", headers=named)
    assert answer.status_code == status and answer.json()["detail"]
    assert kept_files(client) == []


def test_metadata_need_not_say_more_than_a_name(client: httpx.Client) -> None:
    headers = {"Upload-Length": "9", "Upload-Metadata": "is_confidential,filename YS5tcDQ="}
    answer = client.post("/api/uploads", headers=VERSION | headers)
    assert answer.status_code == 201 and answer.headers["Location"] == "/api/uploads/a.mp4"
    assert client.delete("/api/uploads/a.mp4", headers=VERSION).status_code == 204


def test_a_file_that_is_no_video_leaves_nothing(client: httpx.Client) -> None:
    url = created(client, "words.mp4", 500)
    assert patch(client, url, 0, b"w" * 400).status_code == 204
    answer = patch(client, url, 400, b"w" * 100)
    assert answer.status_code == 422
    assert "words.mp4" in answer.json()["detail"]
    assert client.head(url, headers=VERSION).status_code == 404
    assert kept_files(client) == []


def test_a_stored_clip_is_not_replaced(client: httpx.Client, clips: list[Path]) -> None:
    data = clips[1].read_bytes()
    assert client.put("/api/clips/there.mp4", content=data).status_code == 201
    headers = VERSION | metadata(filename="there.mp4") | {"Upload-Length": str(len(data))}
    answer = client.post("/api/uploads", headers=headers)
    assert answer.status_code == 409 and "exists already" in answer.json()["detail"]
    assert client.delete("/api/uploads/there.mp4", headers=VERSION).status_code == 404
    assert client.get("/api/clips/there.mp4").status_code == 200


def test_after_a_crash_the_last_byte_is_asked_for_again(
    client: httpx.Client, clips: list[Path]
) -> None:
    """All bytes are there, and the server was killed before it made a clip of them."""
    data = clips[1].read_bytes()
    url = created(client, "crash.mp4", len(data))
    patch(client, url, 0, data[:-10])
    (kept,) = [path for path in kept_files(client) if path.stat().st_size > 100]
    with kept.open("ab") as file:
        file.write(data[-10:])
    assert offset_of(client, url) == len(data) - 1
    assert patch(client, url, len(data) - 1, data[-1:]).status_code == 204
    played = client.get("/api/clips/crash.mp4/file", follow_redirects=True)
    assert played.content == data


def test_pages_of_allowed_origins_may_read_the_headers(client: httpx.Client) -> None:
    asked = {"Origin": "http://app.example", "Access-Control-Request-Method": "PATCH"}
    asked["Access-Control-Request-Headers"] = "tus-resumable,upload-offset,content-type"
    preflight = client.options("/api/uploads/a.mp4", headers=asked)
    assert preflight.status_code == 200
    assert "PATCH" in preflight.headers["Access-Control-Allow-Methods"]
    headers = VERSION | metadata(filename="cors.mp4") | {"Upload-Length": "9"}
    answer = client.post("/api/uploads", headers=headers | {"Origin": "http://app.example"})
    exposed = answer.headers["Access-Control-Expose-Headers"]
    assert {"Location", "Upload-Offset", "Tus-Resumable"} <= set(exposed.split(", "))
    foreign = client.post("/api/uploads", headers=headers | {"Origin": "http://evil.example"})
    assert foreign.status_code == 403
    assert client.delete("/api/uploads/cors.mp4", headers=VERSION).status_code == 204


# tus-js-client, the protocol's own

SCRIPT = """
import { readFileSync } from "node:fs";
import { createRequire } from "node:module";
const tus = createRequire(process.argv[2] + "/")("tus-js-client");
const [endpoint, file, key, mode, url] = process.argv.slice(3);
const data = readFileSync(file);
const said = {};
const upload = new tus.Upload(data, {
  endpoint,
  uploadUrl: url || undefined,
  chunkSize: 500,
  retryDelays: [0, 100],
  metadata: { filename: key, filetype: "video/mp4" },
  onError: (error) => { said.error = error.originalResponse?.getStatus() ?? String(error); end(); },
  onProgress: (sent) => { said.first ??= sent; },
  onChunkComplete: (_size, accepted) => {
    if (mode === "abort" && accepted >= 1500) {
      upload.abort().then(() => { said.url = upload.url; said.accepted = accepted; end(); });
    }
    if (mode === "terminate" && accepted >= 1500) {
      upload.abort(true).then(() => { said.url = upload.url; end(); });
    }
  },
  onSuccess: () => { said.url = upload.url; said.success = true; end(); },
});
function end() { console.log(JSON.stringify(said)); process.exit(0); }
upload.start();
"""


@pytest.fixture(scope="session")
def tus_js(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the script and tus-js-client, or a skip that says how to have it."""
    installed = os.environ.get("FRAMESTREAM_TUS_JS")
    if installed is None or shutil.which("node") is None:
        pytest.skip("needs node, and FRAMESTREAM_TUS_JS: a folder with npm's tus-js-client@4.3")
    folder = tmp_path_factory.mktemp("tus")
    (folder / "node_modules").symlink_to(Path(installed).resolve() / "node_modules")
    (folder / "upload.mjs").write_text(SCRIPT)
    return folder


def run_tus_js(
    folder: Path, client: httpx.Client, file: Path, key: str, mode: str, url: str = ""
) -> dict[str, Any]:
    endpoint = f"{client.base_url}/api/uploads"
    script = ["node", str(folder / "upload.mjs"), str(folder)]
    done = subprocess.run(
        [*script, endpoint, str(file), key, mode, url],
        capture_output=True, text=True, timeout=60, check=True, env=dict(os.environ),
    )  # fmt: skip
    said: dict[str, Any] = json.loads(done.stdout)
    return said


def test_tus_js_client_uploads_and_resumes(
    client: httpx.Client, clips: list[Path], tus_js: Path
) -> None:
    data = clips[0].read_bytes()
    assert len(data) > 3000
    broken = run_tus_js(tus_js, client, clips[0], "by tus.mp4", "abort")
    assert broken["url"].endswith("/api/uploads/by%20tus.mp4")
    assert 1500 <= offset_of(client, broken["url"]) < len(data)
    resumed = run_tus_js(tus_js, client, clips[0], "by tus.mp4", "", broken["url"])
    assert resumed["success"] and resumed["first"] >= 1500
    played = client.get("/api/clips/by tus.mp4/file", follow_redirects=True)
    assert played.content == data


def test_tus_js_client_terminates(client: httpx.Client, clips: list[Path], tus_js: Path) -> None:
    ended = run_tus_js(tus_js, client, clips[0], "terminated.mp4", "terminate")
    assert client.head(ended["url"], headers=VERSION).status_code == 404
    assert kept_files(client) == []


def test_tus_js_client_is_told_of_what_is_too_large(
    client: httpx.Client, tmp_path: Path, tus_js: Path
) -> None:
    (tmp_path / "large.mp4").write_bytes(bytes(LIMIT + 1))
    told = run_tus_js(tus_js, client, tmp_path / "large.mp4", "large.mp4", "")
    assert told == {"error": 413}
