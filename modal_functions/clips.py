"""Renders one clip, and joins clips: from the bucket through the engine and back.

Finished chunks go to the cache in the bucket at once. A call that is killed, or stopped at its time
limit, leaves them to the next call, which goes on from there.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from functools import partial
from pathlib import Path, PurePosixPath
from tempfile import TemporaryDirectory
from typing import Any

from engine.errors import EngineError
from engine.media.encoders import choose_encoder
from engine.media.probe import probe
from engine.pipeline.cache import StoreCache
from engine.pipeline.concatenate import concatenate
from engine.pipeline.executors import InProcess
from engine.pipeline.exporter import Listener, export
from engine.pipeline.progress import Phase, Progress
from engine.pipeline.report import Report
from engine.storage import CachedStore, Store
from engine.timeline.clip import APP_EASE
from engine.timeline.edit import Edit, Transition
from engine.timeline.plan import build_plan
from engine.upscale.choice import choose_upscaler
from engine.upscale.options import NetworkOptions
from modal_functions.bucket import open_bucket, user_object_key
from modal_functions.progress_dict import PhaseProgress, ProgressDict
from modal_functions.protocol import (
    ENCODER,
    VideoResponse,
    clip_progress_key,
    concatenate_progress_key,
)


def process_clip(
    *,
    job_id: str,
    clip_index: int,
    user_id: str,
    input_key: str,
    output_key: str,
    clip: Mapping[str, Any],
    target: Mapping[str, Any],
) -> VideoResponse:
    """Exports an edit of one clip. `clip` and `target` are fields of the edit document.

    Raises `EngineError`.
    """
    store = open_bucket()
    source_key = user_object_key(user_id, input_key)
    target_key = user_object_key(user_id, output_key)
    clip = {"fileName": PurePosixPath(input_key).name, **clip}
    document = {"clips": [clip], "ease": str(APP_EASE), **target}
    edit = Edit.parse(document, unknown="warn")
    with ProgressDict() as progress, TemporaryDirectory() as folder:
        phases = PhaseProgress(progress, clip_progress_key(job_id, clip_index))
        phases.report("download", 0, "Reading the clip")
        sources = CachedStore(store)
        plan = build_plan(edit, [probe(store.source(source_key), sources)])
        phases.report("model", 0, "Loading the model")
        report = export(
            plan,
            Path(folder) / "clip.mp4",
            upscaler=choose_upscaler("auto", device(), network_options()),
            encoder=choose_encoder(
                plan.size, plan.fps, name=ENCODER, key_interval_s=plan.key_interval_s
            ),
            executor=InProcess("one chunk at a time keeps a container busy"),
            cache=StoreCache(store),
            listener=Listener(on_progress=lambda at: report_export_progress(phases, at)),
            store=sources,
        )
        upload_film(store, Path(folder) / "clip.mp4", target_key, phases)
    return video_response(output_key, report)


def concatenate_clips(
    *,
    job_id: str,
    user_id: str,
    clip_keys: Sequence[str],
    output_key: str,
    transition: tuple[str, float | None],
    titles: Sequence[str | None],
    key_interval_s: float | None,
) -> VideoResponse:
    """Joins finished clips. `transition` is its type and its duration in seconds.

    `titles` are those of the chapters, one per clip. `key_interval_s` is for what is not copied:
    see `choose_encoder`. Raises `EngineError`.
    """
    if len(titles) != len(clip_keys):
        raise EngineError(
            f"clip_info: describes {len(titles)} clips, and there are {len(clip_keys)}"
        )
    store = open_bucket()
    target_key = user_object_key(user_id, output_key)
    joins = Transition(*transition)
    with ProgressDict() as progress, TemporaryDirectory() as folder:
        phases = PhaseProgress(progress, concatenate_progress_key(job_id))
        paths = []
        for number, key in enumerate(clip_keys):
            phases.report("download", number / len(clip_keys), f"Reading clip {number + 1}")
            paths.append(Path(folder) / f"{number}" / PurePosixPath(key).name)
            paths[-1].parent.mkdir()
            store.get_file(user_object_key(user_id, key), paths[-1])
        report = concatenate(
            paths,
            Path(folder) / "reel.mp4",
            transitions=joins,
            titles=titles,
            encoder=partial(choose_encoder, name=ENCODER, key_interval_s=key_interval_s),
            executor=InProcess("one chunk at a time keeps a container busy"),
            cache=StoreCache(store),
            listener=Listener(on_progress=lambda at: report_export_progress(phases, at)),
        )
        upload_film(store, Path(folder) / "reel.mp4", target_key, phases)
    return video_response(output_key, report)


def title_of(info: Mapping[str, Any]) -> str | None:
    """The chapter's title: the clip's `title` or `name`, or its file name without the suffix."""
    title = info.get("title") or info.get("name")
    if title is None and info.get("fileName"):
        title = PurePosixPath(str(info["fileName"])).stem
    return None if title is None else str(title)


def device() -> str:
    """Where networks run. The image of the T4s says `cuda`, so that a missing GPU is an error."""
    return os.environ.get("FRAMESTREAM_DEVICE", "auto")


def network_options() -> NetworkOptions:
    """How networks run: compiled by what the app was deployed with."""
    return NetworkOptions(compile=os.environ.get("FRAMESTREAM_COMPILE") or None)


def report_export_progress(phases: PhaseProgress, at: Progress) -> None:
    """Tells the engine's progress in the phases that users know."""
    if at.phase is Phase.FRAMES:
        phases.report(
            "frames",
            at.frames_done / max(1, at.frames_total),
            f"Frame {at.frames_done} of {at.frames_total}",
            frames_done=at.frames_done,
            frames_total=at.frames_total,
        )
    else:
        phases.report("encode", 0.5, "Joining")


def upload_film(store: Store, path: Path, key: str, phases: PhaseProgress) -> None:
    """Stores the finished file under `key`."""
    size = max(1, path.stat().st_size)
    phases.report("upload", 0, "Uploading")
    store.put_file(
        key, path, on_bytes=lambda done: phases.report("upload", done / size, "Uploading")
    )


def video_response(output_key: str, report: Report) -> VideoResponse:
    """The response for a finished video, in values that JSON has."""
    document = json.loads(json.dumps(asdict(report)))
    return {
        "status": "success",
        "output_key": output_key,
        "duration": report.duration_s,
        "frames": report.frames,
        "warnings": list(report.warnings),
        "report": document | {"output": output_key},
    }
