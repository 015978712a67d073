"""One clip, and clips end to end: from the bucket through the engine and back to the bucket."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path, PurePosixPath
from tempfile import TemporaryDirectory
from typing import Any

from engine.media.encoders import choose_encoder
from engine.media.probe import probe
from engine.pipeline.concatenate import concatenate
from engine.pipeline.exporter import Listener, export
from engine.pipeline.progress import Phase, Progress
from engine.pipeline.report import Report
from engine.storage import Store
from engine.timeline.edit import Edit, Transition
from engine.timeline.plan import build_plan
from engine.upscale.choice import choose_upscaler
from modal_functions.bucket import open_bucket, user_object_key
from modal_functions.progress_dict import PhaseProgress, ProgressDict
from modal_functions.responses import Response

ENCODER = "libx264"
"""Not NVENC: its bytes join by packet copy with those of every other machine, and four cores
encode faster than a T4 upscales."""


def process_clip(
    *,
    job_id: str,
    clip_index: int,
    user_id: str,
    input_key: str,
    output_key: str,
    clip: Mapping[str, Any],
    target: Mapping[str, Any],
) -> Response:
    """Exports an edit of one clip. Raises `EngineError`."""
    store = open_bucket()
    source_key, target_key = (
        user_object_key(user_id, input_key),
        user_object_key(user_id, output_key),
    )
    document = {"clips": [{"fileName": PurePosixPath(input_key).name, **clip}], **target}
    edit = Edit.parse(document, unknown="warn")
    with ProgressDict() as progress, TemporaryDirectory() as folder:
        phases = PhaseProgress(progress, f"{job_id}/clip/{clip_index}")
        phases.report("download", 0, "Reading the clip")
        plan = build_plan(edit, [probe(store.source(source_key), store)])
        phases.report("model", 0, "Loading the model")
        report = export(
            plan,
            Path(folder) / "clip.mp4",
            upscaler=choose_upscaler(device=device()),
            encoder=choose_encoder(plan.size, plan.fps, name=ENCODER),
            listener=Listener(on_progress=lambda at: report_export_progress(phases, at)),
            store=store,
        )
        upload_film(store, Path(folder) / "clip.mp4", target_key, phases)
    return export_response(output_key, report, warnings=edit.warnings)


def concatenate_clips(
    *,
    job_id: str,
    user_id: str,
    clip_keys: Sequence[str],
    output_key: str,
    transition: tuple[str, float | None],
    titles: Sequence[str | None],
) -> Response:
    """Joins finished clips. Raises `EngineError`."""
    store = open_bucket()
    target_key = user_object_key(user_id, output_key)
    joins = Transition(*transition)
    with ProgressDict() as progress, TemporaryDirectory() as folder:
        phases = PhaseProgress(progress, f"{job_id}/concatenate")
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
            listener=Listener(on_progress=lambda at: report_export_progress(phases, at)),
        )
        upload_film(store, Path(folder) / "reel.mp4", target_key, phases)
    return export_response(output_key, report)


def title_of(info: Mapping[str, Any]) -> str | None:
    """The chapter's title in what the app knows of a clip: its own, or its file's stem."""
    title = info.get("title") or info.get("name")
    if title is None and info.get("fileName"):
        title = PurePosixPath(str(info["fileName"])).stem
    return None if title is None else str(title)


def device() -> str:
    """Where networks run: `cuda` in the image of the T4s, so that its lack is an error."""
    return os.environ.get("FRAMESTREAM_DEVICE", "auto")


def report_export_progress(phases: PhaseProgress, at: Progress) -> None:
    """An export's progress in the phases that users know."""
    share = at.frames_done / max(1, at.frames_total)
    if at.phase is Phase.FRAMES:
        counts = {"frames_done": at.frames_done, "frames_total": at.frames_total}
        message = f"Frame {at.frames_done} of {at.frames_total}"
        phases.report("frames", share, message, **counts)
    else:
        phases.report("encode", 0.5, "Joining")


def upload_film(store: Store, path: Path, key: str, phases: PhaseProgress) -> None:
    """Puts the finished file where users look for it."""
    size = max(1, path.stat().st_size)
    phases.report("upload", 0, "Uploading")
    store.put_file(
        key, path, on_bytes=lambda done: phases.report("upload", done / size, "Uploading")
    )


def export_response(output_key: str, report: Report, warnings: Sequence[str] = ()) -> Response:
    """What the caller is told of a finished export, in values that JSON has."""
    told = json.loads(json.dumps(asdict(report)))
    told |= {"output": output_key, "warnings": [*warnings, *report.warnings]}
    return {
        "output_key": output_key,
        "duration": report.duration_s,
        "frames": report.frames,
        "warnings": told["warnings"],
        "report": told,
    }
