"""Each route end to end: real clips in, a real file out, checked with ffprobe and ffmpeg."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import httpx
import pytest
from websockets.sync.client import connect

from tests.backend.conftest import SIZE, edit_of, post, wait_for
from tests.clips import read_number
from tests.media import needs_ffmpeg
from tests.witness import ffprobe, luma_frames

pytestmark = needs_ffmpeg

ASYNC = {"Prefer": "respond-async"}


@pytest.fixture(scope="module", autouse=True)
def first(client: httpx.Client, clips: list[Path]) -> dict[str, Any]:
    """The server's first export, whichever test of this file comes first."""
    answer = post_first(client, clips)
    assert answer.status_code == 200, answer.text
    made: dict[str, Any] = answer.json()
    return made


def post_first(client: httpx.Client, clips: list[Path]) -> httpx.Response:
    return post(client, clips, export_id="first", project_id="7", project_name="Cup final",
                include_audio="true", export_mode="fast")  # fmt: skip


def numbers(client: httpx.Client, url: str, folder: Path) -> list[int]:
    """The numbers painted into the frames of the video at a signed URL."""
    return [read_number(luma) for luma in luma_frames(fetched(client, url, folder))]


def fetched(client: httpx.Client, url: str, folder: Path) -> Path:
    path = folder / "fetched.mp4"
    answer = client.get(url)
    assert answer.status_code == 200, answer.text
    path.write_bytes(answer.content)
    return path


def video(clip: Path) -> dict[str, tuple[str, bytes]]:
    return {"video": (clip.name, clip.read_bytes())}


def test_multi_clip_responds_as_the_app_expects(
    client: httpx.Client, first: dict[str, Any], tmp_path: Path
) -> None:
    told = first
    assert told == told | {
        "success": True,
        "status": "success",
        "export_id": "first",
        "project_id": 7,
        "working_video_id": 1,
        "clips_processed": 2,
        "modal_used": False,
        "video_duration": 1.4,
    }
    assert told["filename"] == told["working_filename"]
    assert told["filename"].startswith("working_7_")
    assert numbers(client, told["presigned_url"], tmp_path) == [*range(24), *range(18)]
    chapters = ffprobe(tmp_path / "fetched.mp4")["chapters"]
    assert [each["tags"]["title"] for each in chapters] == ["clip 0", "clip 1"]


def test_a_finished_export_can_be_fetched_again(client: httpx.Client, clips: list[Path]) -> None:
    again = post_first(client, clips)
    assert again.json()["working_video_id"] == 1, "the same job, not a second one"
    other = post(client, clips[:1], export_id="first")
    assert other.status_code == 409

    document = client.get("/api/exports/first").json()
    assert document["status"] == "done" and document["progress"] == 100
    assert document["result"]["clips_processed"] == 2
    listed = client.get("/api/exports", params={"status": "done"}).json()["exports"]
    assert "first" in [each["export_id"] for each in listed]
    report = client.get("/api/exports/first/report").json()
    assert report["frames"] == 42 and report["encoder"] == "libx264"
    assert "/" not in report["output"]
    download = client.get("/api/exports/first/download")
    assert download.status_code == 307
    part = client.get(download.headers["location"], headers={"Range": "bytes=0-99"})
    assert part.status_code == 206 and len(part.content) == 100
    assert client.delete("/api/exports/first").json()["status"] == "done"
    state = client.get("/api/export/progress/first").json()
    assert state == state | {
        "progress": 100.0,
        "message": "Done",
        "status": "complete",
        "projectId": 7,
        "projectName": "Cup final",
        "phase": "done",
        "job_status": "done",
        "frames_done": None,
        "frames_total": None,
        "fps": None,
        "eta_s": None,
        "type": "framing",
        "workingVideoId": 1,
        "workingFilename": document["result"]["filename"],
    }


def test_progress_comes_over_a_socket_opened_before_the_export(
    client: httpx.Client, clips: list[Path]
) -> None:
    address = str(client.base_url).replace("http", "ws", 1)
    with connect(f"{address}/ws/export/watched") as socket:
        answer = post(client, clips, headers=ASYNC, export_id="watched", project_id="8")
        assert answer.status_code == 202
        assert answer.headers["location"] == "/api/exports/watched"
        states = [json.loads(each) for each in socket]
    percents = [state["progress"] for state in states]
    assert percents == sorted(percents) and percents[-1] == 100
    assert [state["status"] for state in states[:-1]] == ["processing"] * (len(states) - 1)
    assert states[-1]["status"] == "complete"
    assert states[-1]["workingVideoId"] and states[-1]["projectId"] == 8
    with client.stream(
        "GET", "/api/export/progress/watched", headers={"Accept": "text/event-stream"}
    ) as events:
        late = [json.loads(line[5:]) for line in events.iter_lines() if line]
    assert late == states[-1:], "a late client gets the final state"


def test_one_clip_in_separate_fields(
    client: httpx.Client, clips: list[Path], tmp_path: Path
) -> None:
    keyframes = [{"time": 0, "x": 0, "y": 0, "width": 96, "height": 96}]
    segments = {"trimRange": {"start": 0.2, "end": 0.6}, "boundaries": [], "segmentSpeeds": {}}
    answer = client.post(
        "/api/export/upscale",
        data={
            "keyframes_json": json.dumps(keyframes),
            "segment_data_json": json.dumps(segments),
            "target_width": "64",
            "target_height": "64",
            "export_mode": "quality",
        },
        files=video(clips[0]),
    )
    assert answer.status_code == 200, answer.text
    assert numbers(client, answer.json()["presigned_url"], tmp_path) == list(range(6, 18))
    assert answer.json()["working_video_id"] is None


def test_chapters_of_a_file(client: httpx.Client, tmp_path: Path) -> None:
    done = client.get("/api/exports/first").json()["result"]
    path = fetched(client, done["presigned_url"], tmp_path)
    answer = client.post("/api/export/chapters", files=video(path)).json()
    assert answer["chapters"] == [
        {"title": "clip 0", "start_time": 0.0, "end_time": 0.8},
        {"title": "clip 1", "start_time": 0.8, "end_time": 1.4},
    ]
    assert answer["duration"] == pytest.approx(1.4, abs=0.001)


def test_a_stored_clip_is_cut_and_exported_without_an_upload(
    client: httpx.Client, clips: list[Path], tmp_path: Path
) -> None:
    content = clips[0].read_bytes()
    half = len(content) // 2

    def put(start: int, stop: int) -> httpx.Response:
        span = {"Content-Range": f"bytes {start}-{stop - 1}/{len(content)}"}
        return client.put("/api/clips/goal.mp4", content=content[start:stop], headers=span)

    first = put(0, half)
    assert first.status_code == 202 and first.json()["offset"] == half
    assert put(half + 1, len(content)).status_code == 409
    state = client.get("/api/clips/goal.mp4/upload").json()
    assert state == {"key": "goal.mp4", "offset": half, "complete": False}
    whole = put(half, len(content))
    assert whole.status_code == 201, whole.text
    assert whole.json()["file"]["frames"] == 24
    assert put(0, len(content)).status_code == 200, "it is stored already"
    listed = client.get("/api/clips").json()["clips"]
    assert [each["key"] for each in listed] == ["goal.mp4"]
    assert client.get("/api/clips/goal.mp4").json()["file"]["codec"] == "h264"
    played = client.get("/api/clips/goal.mp4/file", follow_redirects=True)
    assert played.content == content

    form = {"key": "goal.mp4", "start": "0.3", "end": "0.7"}
    answer = client.post("/api/clips/extract", files={n: (None, v) for n, v in form.items()})
    assert answer.status_code == 200, answer.text
    told = answer.json()
    assert numbers(client, told["presigned_url"], tmp_path) == list(range(9, 21))
    assert (told["frames_copied"], told["frames_encoded"]) == (0, 12) and told["why"]

    clip: dict[str, Any] = {"fileName": "The goal.mp4", "key": told["key"]}
    data = {"multi_clip_data_json": (None, json.dumps({"clips": [clip], **SIZE}))}
    made = client.post("/api/export/multi-clip", files=data).json()
    assert numbers(client, made["presigned_url"], tmp_path) == list(range(9, 21))
    chapters = ffprobe(tmp_path / "fetched.mp4")["chapters"]
    assert [each["tags"]["title"] for each in chapters] == ["The goal"]

    assert client.delete("/api/clips/goal.mp4").status_code == 204
    assert client.get("/api/clips/goal.mp4").status_code == 404


def test_a_new_version_of_a_project_does_not_replace_the_file_of_the_one_before(
    client: httpx.Client, clips: list[Path], tmp_path: Path
) -> None:
    before = client.get("/api/exports/first").json()["result"]
    after = post(client, clips[1:], export_id="second", project_id="7").json()
    assert after["working_video_id"] != before["working_video_id"]
    assert after["filename"] != before["filename"]
    assert len(numbers(client, before["presigned_url"], tmp_path)) == 42


@pytest.mark.parametrize(
    ("edit", "status", "detail"),
    [
        ("{", 422, "multi_clip_data_json: is not JSON"),
        ("[]", 422, "multi_clip_data_json: must be an object"),
        ('{"clips": [1]}', 422, "multi_clip_data_json: must be an object"),
        ('{"clips": [{"x": NaN}]}', 422, "NaN is not a JSON number"),
        (edit_of(1), 400, "video_1: belongs to no clip"),
        (edit_of(3), 400, "video_2: clips[2] needs either this file or a key"),
        (edit_of(2, targetFps=0), 422, "targetFps: must be above 0"),
        (edit_of(2, transition={"type": "wipe"}), 422, "transition.type: must be"),
    ],
)
def test_invalid_edits_are_refused_before_there_is_a_job(
    client: httpx.Client, clips: list[Path], edit: str, status: int, detail: str
) -> None:
    answer = post(client, clips, multi_clip_data_json=edit, export_id="wrong")
    assert answer.status_code == status and detail in answer.json()["detail"]
    assert client.get("/api/exports/wrong").status_code == 404


def test_health_readiness_and_metrics(client: httpx.Client) -> None:
    assert client.get("/api/health").json()["status"] == "healthy"
    ready = client.get("/api/ready")
    assert ready.status_code == 200
    assert ready.json() == {"ready": True, "database": "ok", "store": "ok", "disk": "ok"}
    counted = client.get("/metrics").text
    assert 'framestream_jobs_ended_total{status="done",type="multi_clip"}' in counted


def test_nothing_is_left_of_finished_jobs(client: httpx.Client) -> None:
    listed = [each["export_id"] for each in client.get("/api/exports").json()["exports"]]
    assert "first" in listed
    for export_id in listed:
        wait_for(client, export_id, "done")
    work = Path(client.headers["X-Data-Dir"]) / "work"
    assert list(work.iterdir()) == []
