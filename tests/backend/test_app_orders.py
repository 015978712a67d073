"""Orders as the app writes them: its spellings, its curve, and what becomes of unknown keys."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.backend.conftest import SIZE, edit_of, post
from tests.clips import numbered_clip
from tests.media import needs_ffmpeg

pytestmark = needs_ffmpeg

GOLDEN = Path(__file__).parents[1] / "edits" / "golden"


@pytest.fixture(scope="module")
def stocked(client: httpx.Client, tmp_path_factory: pytest.TempPathFactory) -> httpx.Client:
    """A server whose store has `game.mp4`, 12.8 s long, as the golden edits want it."""
    clip = numbered_clip(tmp_path_factory.mktemp("game") / "game.mp4", 384, size=(96, 96))
    assert client.put("/api/clips/game.mp4", content=clip.read_bytes()).status_code == 201
    return client


def keyed(document: dict[str, Any]) -> dict[str, Any]:
    return document | {"clips": [{**clip, "key": "game.mp4"} for clip in document["clips"]]}


@pytest.mark.parametrize(
    "name",
    [
        "segment_speeds",
        "trim_range_inside_segments",
        "stored",
        "trim_range_as_a_pair",
        "splits_only",
        "keyframes_by_frame",
        "source_range",
        "clip_name",
        "reel",
    ],
)
def test_the_golden_edits_are_planned_alike_over_http(stocked: httpx.Client, name: str) -> None:
    golden = json.loads((GOLDEN / f"{name}.json").read_text())
    answer = stocked.post("/api/estimate", json={"edit": keyed(golden["document"])})
    assert answer.status_code == 200, answer.text
    plan = answer.json()["plan"]
    assert plan["frames"] == golden["plan"]["frames"]
    assert [each["title"] for each in plan["chapters"]] == golden["plan"]["titles"]


def test_an_order_moves_along_the_curve_unless_it_says_otherwise(stocked: httpx.Client) -> None:
    places = ((0, 0), (1, 16), (2, 16), (3, 0))
    size: dict[str, Any] = {"y": 0, "width": 64, "height": 64}
    keyframes = [{"time": t, "x": x, **size} for t, x in places]
    edit = {"clips": [{"key": "game.mp4", "cropKeyframes": keyframes}], **SIZE}

    def frame_at_half_way(**more: Any) -> bytes:
        asked = {"edit": {**edit, **more}, "frame": 45, "through": "plain"}
        answer = stocked.post("/api/preview", json=asked)
        assert answer.status_code == 200, answer.text
        return answer.content

    straight, unsaid = frame_at_half_way(ease="linear"), frame_at_half_way(ease=None)
    assert unsaid != straight
    assert unsaid == frame_at_half_way(ease="spline")
    keyframes[1]["ease"] = "linear"
    assert straight == frame_at_half_way()


def test_every_warning_is_in_the_answer_the_job_and_the_report(
    client: httpx.Client, clips: list[Path]
) -> None:
    crop = {"time": 0, "x": 0, "y": 0, "width": 64, "height": 64}
    document = json.loads(edit_of(2, watermark=True))
    document["clips"][0] |= {"trimRange": {"start": 0, "end": 99}, "brightness": 2}
    document["clips"][1] |= {"cropKeyframes": [crop, {**crop, "x": 9}]}
    fields = {"multi_clip_data_json": json.dumps(document), "target_fsp": "60"}
    expected = {
        '"target_fsp": unknown field of the form; it is left out',
        "watermark: unknown key; it is left out",
        "clips[0].brightness: unknown key; it is left out",
        "clips[1].cropKeyframes[0]: "
        "cropKeyframes[1] is at the same time, 0 s; the later one counts",
    }

    def check(warnings: list[str]) -> None:
        assert set(warnings) >= expected
        assert len(warnings) == len(set(warnings)) == len(expected) + 1
        (other,) = set(warnings) - expected
        assert other.startswith("clips[0].trimRange.end: 99 s is past the end of ")
        assert "/" not in other.replace("video_0/", "")

    later = {"Prefer": "respond-async"}
    accepted = post(client, clips, headers=later, export_id="warned", **fields)
    assert accepted.status_code == 202, accepted.text
    check(accepted.json()["warnings"])
    answer = post(client, clips, headers=None, export_id="warned", **fields)
    assert answer.status_code == 200, answer.text
    check(answer.json()["warnings"])
    check(client.get("/api/exports/warned").json()["warnings"])
    check(client.get("/api/exports/warned/report").json()["warnings"])


@pytest.mark.parametrize(
    ("clip", "place"),
    [
        ({"segments": {"splits": [0.2]}}, "clips[0].segments.splits"),
        ({"segmentsData": {"trim": [0, 1]}}, "clips[0].segmentsData.trim"),
        ({"trimRange": {"stop": 1}}, "clips[0].trimRange.stop"),
        ({"cropKeyframes": [{"t": 0}]}, "clips[0].cropKeyframes[0].t"),
    ],
)
def test_a_key_that_would_make_another_film_is_refused(
    client: httpx.Client, clips: list[Path], clip: dict[str, Any], place: str
) -> None:
    document = json.loads(edit_of(1))
    document["clips"][0] |= clip
    answer = post(client, clips[:1], multi_clip_data_json=json.dumps(document))
    assert answer.status_code == 422
    assert f"{place}: unknown key" in answer.json()["detail"]


def test_one_clip_s_fields_may_be_spelt_in_every_way(
    client: httpx.Client, clips: list[Path]
) -> None:
    keyframe = {"frame": 0, "x": 0, "y": 0, "width": 96, "height": 96}
    for segments, frames in [
        ({"trim_start": 0.2, "trim_end": 0.6, "segments": []}, 12),
        ({"boundaries": [0.4], "segmentSpeeds": {"0": 2}, "trimRange": [0.2, 0.6]}, 9),
        (None, 24),
    ]:
        fields = {
            "keyframes_json": json.dumps([keyframe]),
            "segment_data_json": json.dumps(segments),
            "target_width": "64",
            "target_height": "64",
        }
        path = clips[0]
        video = {"video": (path.name, path.read_bytes())}
        answer = client.post("/api/export/upscale", data=fields, files=video)
        assert answer.status_code == 200, answer.text
        assert (answer.json()["frames"], answer.json()["warnings"]) == (frames, [])


def test_a_cut_past_the_end_is_told_from_the_start(client: httpx.Client, clips: list[Path]) -> None:
    order = {"start": "0.3", "end": "99", "export_id": "cut", "colour": "red"}
    video = {"video": (clips[0].name, clips[0].read_bytes())}
    expected = [
        '"colour": unknown field of the form; it is left out',
        "end: 99 s is past the end of the file; clamped to 0.800 s",
    ]
    for prefer in ("respond-async", ""):
        answer = client.post(
            "/api/clips/extract", data=order, files=video, headers={"Prefer": prefer}
        )
        assert answer.status_code in (200, 202), answer.text
        assert answer.json()["warnings"] == expected
    assert client.get("/api/exports/cut").json()["warnings"] == expected
