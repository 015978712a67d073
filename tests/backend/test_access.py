"""Access: no route shows a user anything that belongs to another user."""

from __future__ import annotations

import json
import re
import time
from pathlib import Path

import httpx
import pytest
from typer.testing import CliRunner
from websockets.exceptions import InvalidStatus
from websockets.sync.client import ClientConnection, connect

from engine.cli.main import app
from tests.backend.conftest import Serve, edit_of, files_of, post

ANNA, BEN = {"X-User-ID": "anna"}, {"X-User-ID": "ben"}


def socket_of(client: httpx.Client, export_id: str, headers: dict[str, str]) -> ClientConnection:
    address = str(client.base_url).replace("http", "ws", 1)
    return connect(f"{address}/ws/export/{export_id}", additional_headers=headers)


def test_no_route_leads_to_another_user_s_export(serve: Serve, clips: list[Path]) -> None:
    client = serve(trust_user_header=True)
    done = post(client, clips[1:], headers=ANNA, export_id="reel", project_id="1").json()
    client.put("/api/clips/a.mp4", content=clips[1].read_bytes(), headers=ANNA)
    before = client.get("/api/exports/reel", headers=ANNA).json()

    for method, path in [
        ("GET", "/api/exports/reel"),
        ("DELETE", "/api/exports/reel"),
        ("POST", "/api/exports/reel/retry"),
        ("GET", "/api/exports/reel/report"),
        ("GET", "/api/exports/reel/download"),
        ("GET", "/api/export/progress/reel"),
        ("GET", "/api/clips/a.mp4"),
        ("GET", "/api/clips/a.mp4/file"),
    ]:
        answer = client.request(method, path, headers=BEN)
        assert answer.status_code == 404, path
        unknown = client.request(method, re.sub(r"reel|a\.mp4", "none", path), headers=BEN)
        assert answer.json() == unknown.json(), "the same as for an export that does not exist"
    sse = client.get("/api/export/progress/reel", headers=BEN | {"Accept": "text/event-stream"})
    assert sse.status_code == 404
    assert client.get("/api/exports", headers=BEN).json() == {"exports": []}
    assert client.get("/api/clips", headers=BEN).json() == {"clips": []}
    assert client.delete("/api/clips/a.mp4", headers=BEN).status_code == 204
    assert client.get("/api/clips/a.mp4", headers=ANNA).status_code == 200
    with socket_of(client, "reel", BEN) as socket, pytest.raises(TimeoutError):
        socket.recv(timeout=0.5)
    with socket_of(client, "reel", ANNA) as socket:
        assert '"complete"' in str(socket.recv(timeout=60))

    stolen = {"multi_clip_data_json": edit_of(1).replace("fileName", "key").replace("clip 0", "a")}
    assert (
        client.post("/api/export/multi-clip", files=_form(stolen), headers=BEN).status_code == 422
    )
    up = {"multi_clip_data_json": '{"clips": [{"key": "../../anna/clips/a.mp4"}]}'}
    assert client.post("/api/export/multi-clip", files=_form(up), headers=BEN).status_code == 422

    own = post(client, clips[1:], headers=BEN, export_id="reel", project_id="1").json()
    assert own["filename"] != done["filename"], "the same id of another user is another export"
    after = client.get("/api/exports/reel", headers=ANNA).json()
    for document in (before, after):
        del document["result"]["presigned_url"]  # it changes every second
    assert after == before

    url = done["presigned_url"]
    assert client.get(url).status_code == 200, "a signed URL needs no key"
    assert client.get(url.replace("/anna/", "/ben/")).status_code == 403
    until = int(re.search(r"expires=(\d+)", url)[1])  # type: ignore[index]
    assert client.get(url.replace(str(until), str(until + 1))).status_code == 403
    assert client.get(url.replace(str(until), str(int(time.time()) - 9))).status_code == 403


def _form(fields: dict[str, str]) -> dict[str, tuple[None, str]]:
    return {name: (None, value) for name, value in fields.items()}


def test_requests_without_a_user_are_refused(serve: Serve) -> None:
    client = serve(trust_user_header=True)
    for headers in ({}, {"X-User-ID": "../x"}, {"X-User-ID": ""}):
        for path in ("/api/exports", "/metrics"):
            assert client.get(path, headers=headers).status_code == 401
        with pytest.raises(InvalidStatus), socket_of(client, "any", headers):
            pass
    assert client.get("/api/health").status_code == 200
    assert client.get("/metrics", headers=ANNA).status_code == 200


def test_a_key_is_shown_once_and_opens_the_server(serve: Serve, tmp_path: Path) -> None:
    folder = tmp_path / "data"
    made = CliRunner().invoke(app, ["key", "anna", "--data-dir", str(folder)])
    key = made.stdout.strip()
    assert made.exit_code == 0 and len(key) > 40
    refused = CliRunner().invoke(app, ["key", "../anna", "--data-dir", str(folder)])
    assert refused.exit_code == 2
    client = serve()
    assert client.get("/api/session").status_code == 401
    assert client.get("/api/session", headers={"X-API-Key": key[:-1]}).status_code == 401
    for headers in ({"Authorization": f"Bearer {key}"}, {"X-API-Key": key}):
        assert client.get("/api/session", headers=headers).json()["user_id"] == "anna"
    for wrong in ("wrong", "\ud800", "Ä" * 200):
        assert client.post("/api/session", content=json.dumps({"key": wrong})).status_code in (
            401,
            422,
        )
    assert client.get("/metrics").status_code == 401
    scraped = client.get("/metrics", headers={"Authorization": f"Bearer {key}"})
    assert "framestream_jobs_queued" in scraped.text
    for path in ("/api/health", "/api/ready", "/docs", "/openapi.json", "/"):
        answer = client.get(path)
        assert answer.status_code == 200 and str(folder) not in answer.text, path


def test_without_keys_only_this_machine_may_ask(serve: Serve, clips: list[Path]) -> None:
    client = serve(cors_origins=["https://app.example"])
    who = client.get("/api/session", headers={"X-User-ID": "anna"}).json()
    assert who == {"user_id": "local", "expires_at": None}
    for path in ("/api/session", "/metrics"):
        assert client.get(path).status_code == 200
        assert client.get(path, headers={"Host": "evil.example"}).status_code == 421
    assert client.get("/api/session", headers={"Host": "[::1"}).status_code == 400
    foreign = {"Origin": "https://evil.example"}
    answer = client.post("/api/export/multi-clip", files=files_of(clips), headers=foreign)
    assert answer.status_code == 403
    with pytest.raises(InvalidStatus), socket_of(client, "any", foreign):
        pass
    allowed = client.get("/api/session", headers={"Origin": "https://app.example"})
    assert allowed.headers["access-control-allow-origin"] == "https://app.example"
    assert client.get("/api/session", headers={"Origin": str(client.base_url)}).status_code == 200
