"""A clip, and clips end to end, through `.local()` on real files in a real bucket."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import av
import modal
import pytest

from backend.modal_client import ModalProgress, call_modal_concatenate, call_modal_process_clip
from engine.pipeline.render import render_chunk
from engine.storage import S3Store
from engine.timeline.chunks import Chunk
from modal_functions import video_processing as functions
from modal_functions.protocol import PROGRESS_DICT
from tests.clips import numbered_clip, read_number
from tests.media import needs_ffmpeg
from tests.modal_functions.control_plane import ContainerEndedError, ControlPlane
from tests.modal_functions.world import USER, World, environment
from tests.s3 import new_bucket
from tests.waiting import wait_until
from tests.witness import complaints, ffprobe, luma_frames

TARGET: dict[str, Any] = {"target_fps": 30, "target_width": 96, "target_height": 72}


@pytest.fixture
def world(s3_address: str, control_plane: ControlPlane, monkeypatch: pytest.MonkeyPatch) -> World:
    return World.made(s3_address, control_plane, monkeypatch)


def clip(source: str, index: int, segments: dict[str, Any] | None, **more: Any) -> Any:
    return functions.process_multi_clip_item.local(
        job_id="job-1",
        clip_index=index,
        user_id=USER,
        input_key=source,
        output_key=f"{USER}/temp/clips/{index}.mp4",
        crop_keyframes=[],
        segments_data=segments,
        **TARGET,
        **more,
    )


def fetched(world: World, key: str, path: Path) -> Path:
    world.store.get_file(key, path)
    return path


def packets(path: Path) -> list[bytes]:
    with av.open(str(path)) as container:
        return [bytes(p) for p in container.demux(container.streams.video[0]) if p.size]


@needs_ffmpeg
def test_clips_one_by_one_and_then_together(world: World, tmp_path: Path) -> None:
    source = world.footage()
    first = clip(source, 0, {"trimRange": {"start": 0, "end": 1}})
    slow = [{"start": 1, "end": 1.5, "speed": 0.5}]
    second = clip(source, 1, {"trimRange": {"start": 1, "end": 1.5}, "segments": slow})
    assert (first["status"], first["duration"]) == ("success", 1.0), first
    assert (second["status"], second["duration"]) == ("success", 1.0), second
    made = functions.concatenate_clips_modal.local(
        job_id="job-1",
        user_id=USER,
        clip_keys=[first["output_key"], second["output_key"]],
        output_key=f"{USER}/working_videos/reel.mp4",
        transition_type="fade",
        transition_duration=0.1,
        clip_info=[{"title": "Goal"}, {"fileName": "match.mp4", "duration": 1.0}],
    )
    assert made["status"] == "success", made
    assert not made["report"]["warnings"]
    reel = fetched(world, made["output_key"], tmp_path / "reel.mp4")
    assert not complaints(reel)
    titles = [each["tags"]["title"] for each in ffprobe(reel)["chapters"]]
    assert titles == ["Goal", "match"]
    numbers = [read_number(frame) for frame in luma_frames(reel)[:26]]
    assert numbers == list(range(26))
    slot = modal.Dict.from_name(PROGRESS_DICT).get("job-1/concatenate")
    assert slot["phase"] == "upload" and slot["share"] == 1


def test_cuts_are_packet_copies(world: World, tmp_path: Path) -> None:
    source = world.footage(frames=30)
    keys = [clip(source, index, None)["output_key"] for index in range(2)]
    made = functions.concatenate_clips_modal.local(
        "job-1", USER, keys, f"{USER}/reel.mp4", "cut", 0.0, []
    )
    assert made["status"] == "success", made
    one = packets(fetched(world, keys[0], tmp_path / "one.mp4"))
    assert packets(fetched(world, f"{USER}/reel.mp4", tmp_path / "reel.mp4")) == one * 2


@needs_ffmpeg
def test_clips_are_encoded_by_libx264_also_where_nvenc_opens(world: World) -> None:
    world.monkeypatch.setattr("engine.media.encoders.refusal_of", lambda _: None)
    key = clip(world.footage(frames=30), 0, None)["output_key"]
    made = functions.concatenate_clips_modal.local(
        "job-1", USER, [key, key], f"{USER}/reel.mp4", "fade", 0.2
    )
    assert made["status"] == "success", made
    assert made["report"]["encoder"] == "libx264"


def test_what_the_backend_calls(world: World) -> None:
    source = world.footage(frames=30)
    told: list[ModalProgress] = []

    async def tell(progress: ModalProgress) -> None:
        told.append(progress)

    keyframes = [{"time": 0, "x": 0, "y": 0, "width": 64, "height": 48}]
    made = asyncio.run(
        call_modal_process_clip(
            *("job-1", 0, USER, source, f"{USER}/clip.mp4", keyframes, None),
            **TARGET,
            progress_callback=tell,
            key_interval_s=1 / 3,
        )
    )
    assert made["status"] == "success", made
    joined = asyncio.run(
        call_modal_concatenate(
            "job-1", USER, [f"{USER}/clip.mp4"], f"{USER}/reel.mp4", key_interval_s=1 / 3
        )
    )
    assert joined["status"] == "success", joined
    assert joined["duration"] == made["duration"] == 1.0
    assert joined["report"]["key_interval"] == made["report"]["key_interval"] == 10
    percents = [each.percent for each in told]
    assert percents == sorted(percents) and percents[-1] == 100
    assert told[0].estimated and told[0].percent < 5


@pytest.mark.parametrize("how", ["KILLED", "TIMED_OUT"])
def test_a_call_that_is_stopped_leaves_its_chunks_to_the_next(
    world: World, tmp_path: Path, how: str
) -> None:
    """Of 250 frames in two chunks, the first call has stored the first when it ends."""
    told: list[float] = []
    begun: list[Chunk] = []

    def end_at_second(chunk: Chunk, *args: Any, **kwargs: Any) -> Any:
        begun.append(chunk)
        if len(begun) == 2:
            wait_until(lambda: world.store.stat(f"cache/{begun[0].digest}.json"))
            wait_until(lambda: told and told[-1] >= 15)  # it is known to render
            raise ContainerEndedError(getattr(ContainerEndedError, how))
        return render_chunk(chunk, *args, **kwargs)

    world.monkeypatch.setattr("engine.pipeline.executors.render_chunk", end_at_second)
    source = world.footage(frames=250)
    made = asyncio.run(
        call_modal_process_clip(
            *("job-1", 0, USER, source, f"{USER}/clip.mp4", [], None),
            **TARGET,
            progress_callback=lambda at: told.append(at.percent),
        )
    )
    assert made["status"] == "success" and made["frames"] == 250, made
    report = made["report"]
    assert (report["frames_resumed"], report["frames_rendered"]) == (240, 10)
    assert len(begun) == 3 and len(world.plane.calls_of("process_multi_clip_item")) == 2
    assert told == sorted(told) and told[-1] == 100
    film = fetched(world, f"{USER}/clip.mp4", tmp_path / "clip.mp4")
    numbers = [read_number(frame) for frame in luma_frames(film)]
    assert numbers == list(range(250))


def test_a_call_that_is_lost_before_it_got_on_is_not_made_again(world: World) -> None:
    def end(**_: Any) -> None:
        raise ContainerEndedError(ContainerEndedError.KILLED)

    world.deploy({"process_multi_clip_item": end})
    made = asyncio.run(
        call_modal_process_clip("job-1", 0, USER, "a.mp4", "clip.mp4", [], None, **TARGET)
    )
    assert made["status"] == "error" and made["lost"], made
    assert len(world.plane.calls_of("process_multi_clip_item")) == 1


def test_what_was_encoded_to_join_clips_is_kept_and_copies_are_not(world: World) -> None:
    key = clip(world.footage(), 0, None, key_interval_s=0.5)["output_key"]
    before = world.keys("cache")
    arguments = ("job-1", USER, [key, key], f"{USER}/reel.mp4", "fade", 0.2)
    join: Any = functions.concatenate_clips_modal.local
    made = [join(*arguments)["report"] for _ in range(2)]
    kept = set(world.keys("cache")) - set(before)
    assert 0 < len(kept) / 2 < len(made[0]["chunks"])
    assert made[0]["frames_resumed"] == 0 < made[1]["frames_resumed"] < made[1]["frames"]


@pytest.mark.parametrize(
    ("source", "segments", "complaint"),
    [
        ("gone.mp4", None, "does not exist"),
        ("match.mp4", {"trimRange": {"start": 5}}, "past the end"),
        ("match.mp4", {"segments": [{"start": 0, "end": 1, "speed": 99}]}, "speed"),
        ("words.txt", None, "words.txt"),
    ],
)
def test_errors_are_plain_dicts(
    world: World, source: str, segments: dict[str, Any] | None, complaint: str
) -> None:
    world.footage(frames=30)
    world.store.put_bytes(f"{USER}/raw/words.txt", b"these are words")
    made = clip(f"{USER}/raw/{source}", 0, segments)
    assert made["status"] == "error" and complaint in made["error"]
    assert "\n" not in made["error"] and set(made) == {"status", "error"}


def test_another_users_objects_are_not_touched(world: World) -> None:
    source = world.footage(frames=30)
    for key in (f"{USER}/../8/out.mp4", "../8/out.mp4", "/8/out.mp4"):
        made = functions.process_multi_clip_item.local("job-1", 0, USER, source, key, [], None)
        assert made["status"] == "error", key
    below = source.removeprefix(f"{USER}/")
    made = functions.process_multi_clip_item.local(
        "job-1", 0, USER, below, "8/out.mp4", [], None, **TARGET
    )
    assert made["status"] == "success" and made["output_key"] == "8/out.mp4"
    assert world.keys("8") == [] and world.store.stat(f"{USER}/8/out.mp4")
    made = functions.process_multi_clip_item.local(
        "job-1", 0, USER, source, f"{USER}/out.mp4", [], None, engine_version="0.0.1"
    )
    assert made["status"] == "error" and "deploy again" in made["error"]


def test_offline_without_a_token(
    s3_address: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """Progress that cannot be told does not stop the work."""
    monkeypatch.delenv("MODAL_TOKEN_ID", raising=False)
    monkeypatch.delenv("MODAL_TOKEN_SECRET", raising=False)
    settings = new_bucket(s3_address)
    for name, value in environment(settings).items():
        monkeypatch.setenv(name, value)
    path = numbered_clip(tmp_path / "match.mp4", 20, size=(96, 72))
    S3Store(settings).put_file(f"{USER}/match.mp4", path)
    made = clip(f"{USER}/match.mp4", 0, None)
    assert made["status"] == "success", made
    assert made["frames"] == 20
