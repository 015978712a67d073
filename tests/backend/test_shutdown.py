"""A server that stops in the middle of requests: what came is kept, and nobody gets a 500."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import signal
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing
from pathlib import Path
from typing import Any

import httpx
import pytest

from backend.inspection import Inspector
from backend.resumable_upload import upload_path
from backend.settings import Settings
from tests.backend.conftest import serving
from tests.backend.test_kill import server
from tests.waiting import wait_until

SENT = b"x" * 300_000
"""Less than a block, so nothing of it is written before the server stops."""


@pytest.fixture
def stopping(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> Iterator[tuple[httpx.Client, ExitStack]]:
    """A server that is stopped by closing the stack. It must log no traceback."""
    monkeypatch.setattr("backend.server.GRACE_S", 0.3)
    with ExitStack() as stack:
        yield stack.enter_context(serving(Settings(data_dir=tmp_path / "data"))), stack
    assert [each.getMessage() for each in caplog.records if each.exc_info] == []
    assert not [each for each in caplog.records if each.levelno >= logging.ERROR][1:]


def connected(client: httpx.Client) -> closing[socket.socket]:
    return closing(socket.create_connection((client.base_url.host, client.base_url.port or 0), 60))


def read_to_end(raw: socket.socket) -> bytes:
    answer = b""
    with contextlib.suppress(ConnectionResetError):
        while block := raw.recv(65536):
            answer += block
    return answer


def head(method: str, path: str, *headers: str) -> bytes:
    return "\r\n".join([f"{method} {path} HTTP/1.1", "Host: localhost", *headers, "", ""]).encode()


@pytest.mark.parametrize("protocol", ["put", "tus"])
def test_what_had_arrived_of_a_clip_is_kept(
    tmp_path: Path,
    stopping: tuple[httpx.Client, ExitStack],
    arrived: Callable[[], int],
    protocol: str,
) -> None:
    client, stack = stopping
    path = upload_path(tmp_path / "data" / "uploads", "local", "a.mp4")
    length = "Content-Length: 2000000"
    if protocol == "tus":
        version = {"Tus-Resumable": "1.0.0"}
        announced = {"Upload-Length": "2000000", "Upload-Metadata": "key YS5tcDQ="}
        assert client.post("/api/uploads", headers=version | announced).status_code == 201
        kind = "Content-Type: application/offset+octet-stream"
        request = head(
            "PATCH", "/api/uploads/a.mp4", length, kind, "Tus-Resumable: 1.0.0", "Upload-Offset: 0"
        )
    else:
        request = head("PUT", "/api/clips/a.mp4", length)
    with connected(client) as raw:
        raw.sendall(request + SENT)
        wait_until(lambda: arrived() == len(SENT))
        stack.close()
        answer = read_to_end(raw)
    assert answer.startswith(b"HTTP/1.1 503 ") and b"retry-after" in answer.lower()
    assert path.read_bytes() == SENT


def test_a_form_leaves_nothing(tmp_path: Path, stopping: tuple[httpx.Client, ExitStack]) -> None:
    client, stack = stopping
    work = tmp_path / "data" / "work"
    kind = "Content-Type: multipart/form-data; boundary=B"
    part = b'--B\r\nContent-Disposition: form-data; name="video_0"; filename="a.mp4"\r\n\r\n'
    request = head("POST", "/api/export/multi-clip", kind, "Content-Length: 9000000")
    with connected(client) as raw:
        raw.sendall(request + part + SENT + SENT)
        wait_until(lambda: [path for path in work.rglob("*.mp4") if path.stat().st_size])
        stack.close()
        answer = read_to_end(raw)
    assert answer.startswith(b"HTTP/1.1 503 ")
    assert list(work.iterdir()) == []


def test_who_watches_is_disconnected(stopping: tuple[httpx.Client, ExitStack]) -> None:
    client, stack = stopping
    kind = "Content-Type: multipart/form-data; boundary=B"
    name = b'--B\r\nContent-Disposition: form-data; name="export_id"\r\n\r\nreel\r\n'
    part = b'--B\r\nContent-Disposition: form-data; name="video_0"; filename="a.mp4"\r\n\r\n'
    request = head("POST", "/api/export/multi-clip", kind, "Content-Length: 9000000")
    with connected(client) as raw, connected(client) as watching:
        raw.sendall(request + name + part + SENT + SENT)
        progress = "/api/export/progress/reel"
        wait_until(lambda: client.get(progress).status_code == 200)
        watching.sendall(head("GET", progress, "Accept: text/event-stream"))
        assert b"HTTP/1.1 200 " in watching.recv(65536)
        stack.close()
        assert read_to_end(watching).endswith(b"0\r\n\r\n"), "the stream was ended properly"


def test_a_complete_clip_that_is_not_stored_yet_is_kept(
    tmp_path: Path,
    stopping: tuple[httpx.Client, ExitStack],
    monkeypatch: pytest.MonkeyPatch,
    clips: list[Path],
) -> None:
    client, stack = stopping
    content = clips[0].read_bytes()
    inspected = threading.Event()

    async def inspect_for_ever(*_: object) -> dict[str, Any]:
        inspected.set()
        await asyncio.Event().wait()
        return {}

    with monkeypatch.context() as patch, connected(client) as raw:
        patch.setattr(Inspector, "probe", inspect_for_ever)
        raw.sendall(head("PUT", "/api/clips/a.mp4", f"Content-Length: {len(content)}") + content)
        assert inspected.wait(60)
        stack.close()
        assert read_to_end(raw).startswith(b"HTTP/1.1 503 ")
    assert [path for path in (tmp_path / "data" / "uploads").iterdir() if path.is_dir()] == []

    with serving(Settings(data_dir=tmp_path / "data")) as client:
        last = len(content) - 1
        assert client.get("/api/clips/a.mp4/upload").json()["offset"] == last
        place = {"Content-Range": f"bytes {last}-{last}/{len(content)}"}
        answer = client.put("/api/clips/a.mp4", content=content[-1:], headers=place)
        assert (answer.status_code, answer.json()["size_bytes"]) == (201, len(content))


def test_a_complete_clip_survives_a_kill(tmp_path: Path, clips: list[Path]) -> None:
    """The server is killed after the last byte of a clip, and before the clip is stored."""
    content, version = clips[0].read_bytes(), {"Tus-Resumable": "1.0.0"}
    announced = {"Upload-Length": str(len(content)), "Upload-Metadata": "key YS5tcDQ="}
    kind = {"Content-Type": "application/offset+octet-stream"}
    program = ("-m", "tests.backend.killed_server", "a clip has come whole", "serve")
    with server(tmp_path / "data", program=program) as (client, process):
        assert client.post("/api/uploads", headers=version | announced).status_code == 201
        with contextlib.suppress(httpx.TransportError):
            start = version | kind | {"Upload-Offset": "0"}
            client.patch("/api/uploads/a.mp4", content=content, headers=start)
        assert process.wait(60) == -signal.SIGKILL
    with serving(Settings(data_dir=tmp_path / "data")) as client:
        offset = client.head("/api/uploads/a.mp4", headers=version).headers["Upload-Offset"]
        assert int(offset) == len(content) - 1
        end = version | kind | {"Upload-Offset": offset}
        sent = client.patch("/api/uploads/a.mp4", content=content[-1:], headers=end)
        assert sent.status_code == 204
        played = client.get("/api/clips/a.mp4/file", follow_redirects=True)
        assert played.content == content
    assert [*(tmp_path / "data" / "uploads").iterdir()] == []
