"""What errors say: where and why, in a few words, and nothing of what was sent or of the server."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import httpx
import pytest
import websockets.sync.client

from backend.export_form import MAX_NESTING
from backend.public_errors import public_text, without_paths
from engine.errors import EditError, EngineError, JoinError, SourceError, StoreError, UpscalerError
from tests.backend.conftest import SIZE, edit_of
from tests.backend.test_body_limits import address

LONG = "x" * 1_000_000
MOST = 3000
"""The longest answer to an invalid request, in bytes."""


@pytest.fixture(scope="module")
def stocked(client: httpx.Client, clips: list[Path]) -> Iterator[httpx.Client]:
    answer = client.put("/api/clips/goal.mp4", content=clips[0].read_bytes())
    assert answer.status_code == 201, answer.text
    yield client


def edit_with(**more: Any) -> dict[str, Any]:
    return {"clips": [{"key": "goal.mp4", "cropKeyframes": []}], **SIZE, **more}


def clip_with(**more: Any) -> dict[str, Any]:
    return {"clips": [{"key": "goal.mp4", **more}], **SIZE}


def nested(depth: int, *, objects: bool = False) -> str:
    opening, closing_ = ('{"a":', "}") if objects else ("[", "]")
    return opening * depth + "0" + closing_ * depth


@pytest.mark.parametrize(
    "edit",
    [
        edit_with(targetFps=LONG),
        edit_with(fit=LONG, globalAspectRatio=LONG),
        clip_with(segmentsData={"segments": [{"start": 0, "end": 1, "speed": LONG}]}),
        clip_with(cropKeyframes=[{LONG: 1}] * 2),
        clip_with(cropKeyframes=LONG, segments={LONG: {LONG: LONG}}),
        clip_with(cropKeyframes=[7] * 50_000),
        clip_with(clipIndex=LONG),
        clip_with(key=LONG),
        clip_with(key={LONG: LONG}),
        edit_with(clips=[{"fileName": LONG}]),
        edit_with(clips=LONG),
        {LONG: LONG},
    ],
    ids=range(12),
)
def test_no_error_repeats_a_long_value(stocked: httpx.Client, edit: dict[str, Any]) -> None:
    answer = stocked.post("/api/estimate", json={"edit": edit})
    assert answer.status_code in (400, 422)
    assert len(answer.content) < MOST and "x" * 100 not in answer.text


def test_invalid_values_say_where_and_why(client: httpx.Client) -> None:
    answer = client.post("/api/session", json={"key": ["s3cret"]})
    assert answer.status_code == 422 and "s3cret" not in answer.text
    (found,) = answer.json()["detail"]
    assert found == {
        "loc": ["body", "key"],
        "msg": "Input should be a valid string",
        "type": "string_type",
    }
    broken = client.post(
        "/api/session", content=b'{"key": s3cret', headers={"Content-Type": "application/json"}
    )
    assert broken.status_code == 422 and "s3cret" not in broken.text
    long = client.get("/api/exports", params={"limit": LONG[:5000], "before": LONG[:5000]})
    assert long.status_code == 422 and len(long.content) < MOST


# what cannot be written as JSON again


UNWRITABLE = {
    "300 lists": nested(300),
    "300 objects": nested(300, objects=True),
    "100,000 lists": nested(100_000),
    "an infinite number": "1e999",
    "half a character": r'"\ud800"',
    "a key of half a character": r'{"\ud800": 0}',
}


@pytest.mark.parametrize("value", UNWRITABLE.values(), ids=UNWRITABLE)
def test_json_that_cannot_be_written_again_is_refused(stocked: httpx.Client, value: str) -> None:
    edit = json.dumps(edit_with(unknown="?")).replace('"?"', value)
    field = "multi_clip_data_json"
    form = {field: (None, edit), "export_id": (None, "deep")}
    answer = stocked.post("/api/export/multi-clip", files=form)
    assert answer.status_code == 422 and field in answer.json()["detail"]
    for field in ("keyframes_json", "segment_data_json"):
        form = {"key": (None, "goal.mp4"), field: (None, f'{{"unknown": {value}}}')}
        answer = stocked.post("/api/export/upscale", files=form)
        assert answer.status_code == 422 and field in answer.json()["detail"]
    for path in ("/api/preview", "/api/estimate"):
        kind = {"Content-Type": "application/json"}
        answer = stocked.post(path, content=f'{{"edit": {edit}}}', headers=kind)
        assert answer.status_code in (400, 422), answer.text
        if value != UNWRITABLE["100,000 lists"]:
            assert answer.json()["detail"][0]["loc"] == ["body", "edit"]
    assert stocked.get("/api/exports").json() == {"exports": []}


def test_what_is_not_too_deep_is_taken(stocked: httpx.Client) -> None:
    unknown = json.loads(nested(MAX_NESTING - 2))
    assert stocked.post("/api/estimate", json={"edit": edit_with(u=unknown)}).status_code == 200


# who watches an upload


def upload(client: httpx.Client, clip: Path, export_id: str) -> httpx.Response:
    """An upload of more than a block, whose form says first what it is."""
    files: dict[str, Any] = {"export_id": (None, export_id)}
    files |= {"multi_clip_data_json": (None, edit_of(1))}
    padded = clip.read_bytes() + b"\0\0\x0f\xffskip" + bytes(600_000)
    files |= {"video_0": ("a.mp4", padded, "video/mp4")}
    return client.post("/api/export/multi-clip", files=files, headers={"Prefer": "respond-async"})


def last_state(client: httpx.Client, export_id: str, cause: Callable[[], object]) -> dict[str, Any]:
    """The last state that a watcher is told who was there before the cause."""
    host, port = address(client)
    url = f"ws://{host}:{port}/ws/export/{export_id}"
    with websockets.sync.client.connect(url, open_timeout=60) as socket:
        acting = threading.Thread(target=cause)
        acting.start()
        states = [json.loads(message) for message in socket]
        acting.join()
    final: dict[str, Any] = states[-1]
    return final


def test_watchers_are_told_of_any_failure(
    client: httpx.Client, clips: list[Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    async def fail(*_: object) -> None:
        raise RuntimeError("a fault of the server")

    with monkeypatch.context() as patch:
        patch.setattr("backend.submission._record_job", fail)
        state = last_state(client, "faulty", lambda: upload(client, clips[0], "faulty"))
    assert state["status"] == "error" and "send it again" in state["error"]
    assert "fault of the server" not in state["error"]


def test_watchers_are_told_when_the_sender_disconnects(client: httpx.Client) -> None:
    def break_off() -> None:
        import socket

        start = (
            "POST /api/export/multi-clip HTTP/1.1\r\nHost: localhost\r\nContent-Length: 9000000\r\n"
            "Content-Type: multipart/form-data; boundary=B\r\n\r\n"
            '--B\r\nContent-Disposition: form-data; name="export_id"\r\n\r\ngone\r\n'
            '--B\r\nContent-Disposition: form-data; name="video_0"; filename="a.mp4"\r\n\r\n'
        )
        with closing(socket.create_connection(address(client), timeout=60)) as raw:
            raw.sendall(start.encode() + bytes(600_000))

    state = last_state(client, "gone", break_off)
    assert (state["status"], state["error"]) == ("error", "the sender disconnected")


# paths


@pytest.mark.parametrize(
    ("text", "public"),
    [
        ("/srv/job/video_0/goal.mp4: is empty", "video_0/goal.mp4: is empty"),
        ("clips[0]: /root/.cache/fs/weights/x.pth: bad", "clips[0]: x.pth: bad"),
        ("cannot load '/usr/lib/a.so' (/opt/b c/d.so)", "cannot load 'a.so' (b c/d.so)"),
        ("see https://example.org/a/b.pth", "see https://example.org/a/b.pth"),
        ("30000/1001 and/or 16/9, video/mp4", "30000/1001 and/or 16/9, video/mp4"),
    ],
)
def test_texts_name_files_and_no_folders(text: str, public: str) -> None:
    assert without_paths({"a": [text, 1]}, [Path("/srv/job")]) == {"a": [public, 1]}


def test_the_home_folder_is_never_named() -> None:
    home = Path.home()
    for text in (f"{home}/.config/x", f"in {home}", f"{home}/a b/c"):
        assert str(home) not in without_paths(text)


def test_users_are_told_what_they_can_mend() -> None:
    place = Path("/srv/job")
    assert public_text(EditError("clips[0].fit", "is odd"), [place]) == "clips[0].fit: is odd"
    assert public_text(SourceError(place / "a.mp4", "is empty"), [place]) == "a.mp4: is empty"
    for error in (
        UpscalerError("put it into /root/SECRET, or give --SECRET"),
        StoreError("SECRET", "refuses the key SECRET"),
        JoinError("/srv/SECRET/out.mp4: has SECRET frames"),
        EngineError("/SECRET: another export is working here"),
    ):
        assert "SECRET" not in public_text(error) and "operator" in public_text(error)
