"""What the page shows before an export: clip previews, exact frames, estimates."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import unquote

import httpx
import numpy as np
import pytest

from engine.media.image import png
from engine.pipeline.exporter import probe_sources
from engine.pipeline.still import render_still
from engine.timeline.edit import Edit
from engine.timeline.plan import build_plan
from engine.upscale.stage import PlainResampler
from tests.backend.conftest import Serve, wait_for
from tests.backend.test_kill import server
from tests.media import needs_ffmpeg
from tests.waiting import wait_until
from tests.witness import run

pytestmark = needs_ffmpeg

EDIT: dict[str, Any] = {
    "clips": [
        {"key": "goal.mp4", "title": "Goal", "cropKeyframes": []},
        {"key": "save.mp4", "segmentsData": {"segments": [{"start": 0, "end": 0.3, "speed": 0.5}]}},
    ],
    "transition": {"type": "dissolve", "duration": 0.2},
    "targetWidth": 64,
    "targetHeight": 64,
}


@pytest.fixture(scope="module")
def stocked(client: httpx.Client, clips: list[Path]) -> Iterator[httpx.Client]:
    """A server with the two clips in its store."""
    for clip in clips:
        answer = client.put(f"/api/clips/{clip.name}", content=clip.read_bytes())
        assert answer.status_code == 201, answer.text
    yield client


def test_a_clip_preview(stocked: httpx.Client, tmp_path: Path) -> None:
    told = stocked.get("/api/clips/goal.mp4/glance").json()
    assert (told["file"]["frames"], told["file"]["width"], told["file"]["height"]) == (24, 96, 96)
    strip = told["strip"]
    picture = stocked.get("/api/clips/goal.mp4/filmstrip")
    assert picture.headers["content-type"] == "image/jpeg"
    (tmp_path / "strip.jpg").write_bytes(picture.content)
    raw = run("ffmpeg", "-v", "error", "-i", tmp_path / "strip.jpg", "-f", "rawvideo",
              "-pix_fmt", "gray", "-")  # fmt: skip
    width = strip["count"] * strip["width"]
    assert np.frombuffer(raw, np.uint8).reshape(strip["height"], width).std() > 20
    peaks = told["peaks"]
    assert len(peaks) == 480 and 0.4 < max(peaks[:20]) <= 0.6  # a burst at every whole second
    assert max(peaks[100:400]) < 0.1
    assert stocked.get("/api/clips/save.mp4/glance").json()["peaks"] is None
    assert stocked.get("/api/clips/goal.mp4/glance").json() == told  # cached
    for what in ("glance", "filmstrip"):
        assert stocked.get(f"/api/clips/none.mp4/{what}").status_code == 404


def test_a_preview_is_the_frame_of_the_export(stocked: httpx.Client, clips: list[Path]) -> None:
    document = json.loads(json.dumps(EDIT))
    for clip in document["clips"]:
        clip["fileName"] = str(clips[0].parent / clip.pop("key"))
    edit = Edit.parse(document)
    plan = build_plan(edit, probe_sources(edit))
    frame = plan.clips[1].frames.start + 2  # in the dissolve
    wanted = {"edit": EDIT, "frame": frame, "through": "plain"}
    answer = stocked.post("/api/preview", json=wanted)
    assert answer.status_code == 200, answer.text
    assert answer.content == png(render_still(plan, frame, PlainResampler("test")))
    told = json.loads(unquote(answer.headers["x-preview"]))
    assert (told["frame"], told["frames"], told["upscaler"]) == (frame, plan.frame_count, "none")


def test_the_report_confirms_the_estimate(stocked: httpx.Client) -> None:
    before = stocked.post("/api/estimate", json={"edit": EDIT}).json()
    started = stocked.post(
        "/api/export/multi-clip",
        files={"multi_clip_data_json": (None, json.dumps(EDIT)), "export_id": (None, "told")},
        headers={"Prefer": "respond-async"},
    )
    assert started.status_code == 202, started.text
    wait_for(stocked, "told", "done")
    report = stocked.get("/api/exports/told/report").json()
    told = before["estimate"]
    assert (told["frames"], told["sourceFrames"]) == (report["frames"], report["source_frames"])
    assert told["chunkFrames"] == [
        chunk["stop_frame"] - chunk["start_frame"] for chunk in report["chunks"]
    ]
    assert [each["title"] for each in before["plan"]["chapters"]] == ["Goal", "save"]
    after = stocked.post("/api/estimate", json={"edit": EDIT}).json()["estimate"]
    assert after["here"]["seconds"] is not None
    proof = stocked.get("/api/exports/told/proof").json()
    assert (proof["frames"], proof["samples"]) == (told["frames"], told["frames"] * 1600)
    assert (proof["size"], proof["colour"]) == ("64x64", ["ITU709", "BT709", "BT709", "MPEG"])
    assert stocked.get("/api/exports/none/proof").status_code == 404


@pytest.mark.parametrize("route", ["preview", "estimate"])
def test_previews_of_invalid_edits_are_refused(stocked: httpx.Client, route: str) -> None:
    def status(edit: object, **more: Any) -> int:
        return stocked.post(f"/api/{route}", json={"edit": edit, **more}).status_code

    assert status({}) == status({"clips": []}) == status([]) == 422
    assert stocked.post(f"/api/{route}", json={"edit": {}}).json()["detail"].startswith("edit: ")
    assert status({"clips": [{"fileName": "/etc/passwd"}]}) == 400
    assert status({"clips": [{"key": "../other/clips/goal.mp4"}]}) == 422
    assert status({"clips": [{"key": "none.mp4"}]}) == 422
    assert status(EDIT | {"targetFps": "many"}) == 422

    def lengthless() -> Iterator[bytes]:
        yield json.dumps({"edit": EDIT}).encode()

    kind = {"content-type": "application/json"}
    assert stocked.post(f"/api/{route}", content=lengthless(), headers=kind).status_code == 200
    large = b'{"edit": {"clips": "' + b"x" * (5 << 20) + b'"}}'
    assert stocked.post(f"/api/{route}", content=large, headers=kind).status_code == 413


def test_a_missing_network_is_an_error(tmp_path: Path, clips: list[Path]) -> None:
    """Its user is told so, and the log what to do. Only the log names folders and options."""
    log: list[str] = []
    place = str(tmp_path / "no folder")
    with server(tmp_path / "data", log=log, FRAMESTREAM_WEIGHTS_DIR=place) as (client, _):
        client.put("/api/clips/goal.mp4", content=clips[0].read_bytes())
        edit = EDIT | {"clips": EDIT["clips"][:1]}
        answer = client.post("/api/preview", json={"edit": edit, "through": "network"})
        assert answer.status_code == 503
        detail = answer.json()["detail"]
        assert "upscaler" in detail and "/" not in detail and "FRAMESTREAM" not in detail
        wait_until(lambda: any(f"FRAMESTREAM_WEIGHTS_DIR is {place}" in line for line in log))


def test_the_page_loads_only_its_own_files(client: httpx.Client) -> None:
    answer = client.get("/")
    assert answer.headers["content-type"] == "text/html; charset=utf-8"
    policy = answer.headers["content-security-policy"]
    assert policy.startswith("default-src 'none'; script-src 'self'; style-src 'self';")
    assert "unsafe" not in policy and "http" not in policy
    for name in ("..%2f..%2fapp.py", "none.js", "index", "%2e%2e"):
        assert client.get(f"/page/{name}").status_code == 404


def test_users_see_no_clips_or_films_of_others(serve: Serve, clips: list[Path]) -> None:
    client = serve(trust_user_header=True)
    anna, ben = {"X-User-ID": "anna"}, {"X-User-ID": "ben"}
    answer = client.put("/api/clips/goal.mp4", content=clips[0].read_bytes(), headers=anna)
    assert answer.status_code == 201
    edit = EDIT | {"clips": EDIT["clips"][:1]}
    form = {"multi_clip_data_json": json.dumps(edit), "export_id": "hers"}
    files = {name: (None, text) for name, text in form.items()}
    assert client.post("/api/export/multi-clip", files=files, headers=anna).status_code == 200
    for path in ("clips/goal.mp4/glance", "clips/goal.mp4/filmstrip", "exports/hers/proof"):
        assert client.get(f"/api/{path}", headers=anna).status_code == 200, path
        assert client.get(f"/api/{path}", headers=ben).status_code == 404, path
        assert client.get(f"/api/{path}").status_code == 401, path
    for route in ("preview", "estimate"):
        asked = {"edit": edit}
        assert client.post(f"/api/{route}", json=asked, headers=anna).status_code == 200, route
        assert client.post(f"/api/{route}", json=asked, headers=ben).status_code == 422, route
