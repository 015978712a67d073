"""Invalid, broken, too large and too slow uploads are refused, and leave no files."""

from __future__ import annotations

import json
import socket
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import httpx
import pytest

from backend.settings import Settings
from backend.uploads import safe_name
from tests.backend.conftest import edit_of, post, serving

MULTI_CLIP = "/api/export/multi-clip"
HEAD = "POST /api/export/multi-clip HTTP/1.1\r\nHost: localhost\r\n"
FORM = "Content-Type: multipart/form-data; boundary=B\r\n"


@pytest.fixture(scope="module")
def client(tmp_path_factory: pytest.TempPathFactory) -> Iterator[httpx.Client]:
    """A server with small limits."""
    settings = Settings(
        data_dir=tmp_path_factory.mktemp("server") / "data",
        max_request_bytes=200_000,
        max_clips=2,
        max_field_bytes=2000,
        upload_idle_s=0.5,
        upload_min_bytes_per_s=1000,
    )
    with serving(settings) as client:
        yield client


@pytest.fixture(autouse=True)
def nothing_left(client: httpx.Client) -> Iterator[None]:
    folder = Path(client.headers["X-Data-Dir"])
    beside = sorted(folder.parent.iterdir())
    yield
    assert list((folder / "work").iterdir()) == []
    assert sorted(folder.parent.iterdir()) == beside
    assert client.get("/api/exports").json() == {"exports": []}


def said(client: httpx.Client, request: str | bytes, *more: bytes) -> bytes:
    """Everything that the server sends in response to these bytes, until it closes."""
    address = (client.base_url.host, client.base_url.port or 0)
    with closing(socket.create_connection(address, timeout=30)) as raw:
        raw.sendall(request if isinstance(request, bytes) else request.encode())
        for piece in more:
            raw.sendall(piece)
        answer = b""
        while block := raw.recv(65536):
            answer += block
        return answer


def part(name: str, content: str, file_name: str | None = None) -> str:
    named = "" if file_name is None else f'; filename="{file_name}"'
    return f'--B\r\nContent-Disposition: form-data; name="{name}"{named}\r\n\r\n{content}\r\n'


def sent(client: httpx.Client, body: str | bytes) -> httpx.Response:
    content_type = {"Content-Type": "multipart/form-data; boundary=B"}
    return client.post(MULTI_CLIP, content=body, headers=content_type)


def test_ten_declared_gigabytes_are_refused_before_they_are_sent(client: httpx.Client) -> None:
    answer = said(client, f"{HEAD}{FORM}Content-Length: 10000000000\r\n\r\n")
    assert answer.startswith(b"HTTP/1.1 413 ") and b"connection: close" in answer.lower()


def test_a_body_that_grows_beyond_the_limit_is_cut_off(client: httpx.Client) -> None:
    head = f"{HEAD}{FORM}Transfer-Encoding: chunked\r\n\r\n"
    start = part("video_0", "", "a.mp4")[:-2].encode()
    chunks = [
        b"%x\r\n%s\r\n" % (len(data), data) for data in (start, b"x" * 150_000, b"y" * 60_000)
    ]
    assert said(client, head, *chunks).startswith(b"HTTP/1.1 413 ")


def test_senders_that_pause_too_long_are_disconnected(client: httpx.Client) -> None:
    start = part("video_0", "", "a.mp4")[:-2]
    silent = said(client, f"{HEAD}{FORM}Content-Length: 5000\r\n\r\n{start}")
    assert silent.startswith(b"HTTP/1.1 408 ")
    assert said(client, "GET /api/health HTTP/1.1\r\nHost: lo") == b"", "also inside a head"


@pytest.mark.parametrize(
    ("body", "status", "detail"),
    [
        ("no multipart at all", 400, "broken"),
        (part("a", "1"), 400, "ends before its last boundary"),
        ("--B\r\nContent-Disposition: form-data\r\n\r\n1\r\n--B--\r\n", 400, "no usable name"),
        (part("../a", "1", "x.mp4") + "--B--\r\n", 400, "no usable name"),
        (part("a", "1") + part("a", "2") + "--B--\r\n", 400, "a: is there twice"),
        ("--B\r\n" + "X: y\r\n" * 99 + "\r\n--B--\r\n", 400, "broken"),
        (part("a", "x" * 2001) + "--B--\r\n", 413, "a: is more than 2000 bytes"),
        ("".join(part(f"f{n}", "") for n in range(65)) + "--B--\r\n", 413, "64 fields"),
        ("".join(part(f"v{n}", "", "v") for n in range(3)) + "--B--\r\n", 413, "2 files"),
        (part("a", "\ud800") + "--B--\r\n", 400, "a: is not UTF-8"),
        ("--B--\r\n", 422, "multi_clip_data_json: must be an object"),
    ],
)
def test_broken_bodies(client: httpx.Client, body: str, status: int, detail: str) -> None:
    answer = sent(client, body.encode(errors="surrogatepass"))
    assert (answer.status_code, detail in answer.json()["detail"]) == (status, True), answer.text


def test_other_content_types_are_refused(client: httpx.Client) -> None:
    assert client.post(MULTI_CLIP, json={}).status_code == 415
    headers = {"Content-Type": "multipart/form-data"}
    assert client.post(MULTI_CLIP, content=b"x", headers=headers).status_code == 415


@pytest.mark.parametrize("name", ["../../evil.mp4", "..\\..\\evil.mp4", "/etc/evil.mp4", ".."])
def test_unsafe_file_names_and_files_that_are_no_videos(client: httpx.Client, name: str) -> None:
    body = part("video_0", "#EXTM3U\nfile:///etc/passwd", name)
    body += part("multi_clip_data_json", edit_of(1)) + "--B--\r\n"
    answer = sent(client, body)
    detail = answer.json()["detail"]
    assert answer.status_code == 422
    assert detail.startswith("clips[0]: video_0/") and "is not a video file" in detail
    assert client.headers["X-Data-Dir"] not in detail


def test_an_empty_file(client: httpx.Client, tmp_path: Path) -> None:
    empty = tmp_path / "empty.mp4"
    empty.touch()
    answer = post(client, [empty])
    assert answer.status_code == 422
    assert answer.json()["detail"] == "clips[0]: video_0/empty.mp4: is empty"


def test_uploads_of_stored_clips_have_the_same_limits(client: httpx.Client) -> None:
    def put(name: str, content: bytes, **headers: str) -> httpx.Response:
        given = {key.replace("_", "-"): value for key, value in headers.items()}
        return client.put(f"/api/clips/{name}", content=content, headers=given)

    assert put("a.mp4", b"").status_code == 422
    assert put("a.mp4", b"no video").status_code == 422
    assert put("a.mp4", b"x", Content_Range="bytes 0-0/999999999").status_code == 413
    assert put("a.mp4", b"xyz", Content_Range="bytes 0-0/9").status_code == 400
    assert put("a.mp4", b"x", Content_Range="bytes 5-4/9").status_code == 400
    assert put(".hidden", b"x").status_code == 422
    assert put("%2e%2e%2fa", b"x").status_code in (404, 405, 422)
    assert client.get("/api/clips").json() == {"clips": []}
    assert list((Path(client.headers["X-Data-Dir"]) / "uploads").iterdir()) == []


@pytest.mark.parametrize(
    ("name", "kept"),
    [
        ("goal.mp4", "goal.mp4"),
        ("C:\\clips\\goal 1.mov", "goal 1.mov"),
        ("a/b/../c.mp4", "c.mp4"),
        ("..", "video"),
        ("", "video"),
        ("\0\n.mp4", "mp4"),
        ("日本.mp4", "日本.mp4"),
        ("x" * 300 + ".mp4", "x" * 100 + ".mp4"),
    ],
)
def test_sender_names_become_safe_file_names(name: str, kept: str) -> None:
    assert safe_name(name) == kept
    assert len(json.dumps(kept)) < 255
