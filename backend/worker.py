"""The process that opens videos, so that a decoder's crash never is the server's.

It is given an `Assignment` and answers in lines of JSON: whoever decodes strangers' files is not
believed pickles. It dies with the server.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import signal
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Any

from backend.tasks import ExportMode, ExtractTask, RenderTask
from engine.errors import (
    DecodeError,
    EditError,
    EngineError,
    ObjectMissingError,
    SourceError,
)

if TYPE_CHECKING:
    from engine.media.encoders import Encoder
    from engine.pipeline.report import Report
    from engine.source import SourceInfo
    from engine.storage import Store, StoredObject
    from engine.timeline.plan import Plan

LOCK = "worker.lock"
"""Held by the worker of a folder for as long as it lives; holds its process group's id."""

OUTPUT = "out.mp4"
PARTS = "parts"

_INPUT_ERRORS = (EditError, SourceError, DecodeError, ObjectMissingError)
_REPORT_INTERVAL_S = 0.2

Tell = Callable[..., None]


class What(StrEnum):
    """What is to be done."""

    INSPECT = "inspect"
    """Say whether a task can be done, and how long its result will be."""
    PROBE = "probe"
    """Say what one file is, chapters included."""
    GLANCE = "glance"
    """Show the clip at `output_key`: facts, filmstrip, waveform."""
    FRAME = "frame"
    """Show one frame of a task's result."""
    ESTIMATE = "estimate"
    """Say what a task would become, and what that would take."""
    PROOF = "proof"
    """Read back the finished film at `output_key`."""
    WORK = "work"
    """Do a task, and put its result into the store."""


@dataclass(frozen=True, slots=True)
class Assignment:
    """One piece of work."""

    what: What
    folder: Path
    """The job's own; files of the task lie below it."""
    store: Store
    task: RenderTask | ExtractTask | None = None
    output_key: str = ""
    probed: str = ""
    """For `PROBE`: a file's path below `folder`; without one, the object at `output_key`."""
    frame: int = 0
    """For `FRAME`."""
    upscaler: str = "auto"
    encoder: str = "auto"
    encoder_options: tuple[tuple[str, str], ...] = ()


def work(assignment: Assignment, channel: socket.socket) -> None:
    """Does the assignment and says on `channel` how it goes, in lines of JSON.

    The last one is a result or an error. Ends its process group when the other side is gone.
    """
    os.setsid()  # a group of its own, and a Ctrl-C is the server's to answer
    threading.Thread(target=_die_with_server, args=(channel,), daemon=True).start()

    def tell(event: str, **fields: Any) -> None:
        channel.sendall(json.dumps({"event": event, **fields}).encode() + b"\n")

    try:
        tell("result", **_without_places(_done(assignment, tell), assignment))
    except EngineError as error:
        status = 422 if isinstance(error, _INPUT_ERRORS) else 500
        tell("error", status=status, detail=_without_places(str(error), assignment))


def _done(assignment: Assignment, tell: Tell) -> dict[str, Any]:
    if assignment.what is What.PROBE:
        return _probe(assignment)
    if assignment.what is What.INSPECT:
        return _inspect(assignment)
    if assignment.what is not What.WORK:
        from backend.looking import looked

        return looked(assignment)
    with _alone(assignment.folder):
        if isinstance(assignment.task, ExtractTask):
            return _extract(assignment, assignment.task, tell)
        assert assignment.task is not None
        return _render(assignment, assignment.task, tell)


def _die_with_server(channel: socket.socket) -> None:
    channel.recv(1)
    os.killpg(0, signal.SIGKILL)


@contextmanager
def _alone(folder: Path) -> Iterator[None]:
    """Waits for another worker of this folder, which can only be one that is about to die."""
    with (folder / LOCK).open("a+") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        lock.truncate(0)
        lock.write(str(os.getpgid(0)))
        lock.flush()
        yield


def _source(assignment: Assignment, file_name: str) -> SourceInfo:
    from engine.media.probe import probe

    task = assignment.task
    assert task is not None
    if key := task.keys.get(file_name):
        return probe(assignment.store.source(key))
    return probe(assignment.folder / file_name)


def planned(assignment: Assignment, task: RenderTask) -> Plan:
    """The plan of a task. Raises `EditError` that names the clip."""
    from engine.timeline.edit import Edit
    from engine.timeline.plan import build_plan

    edit = Edit.parse(task.edit, unknown="warn")
    sources: dict[str, SourceInfo] = {}
    for index, clip in enumerate(edit.clips):
        if clip.file_name not in sources:
            try:
                sources[clip.file_name] = _source(assignment, clip.file_name)
            except _INPUT_ERRORS as error:
                raise EditError(f"clips[{index}]", str(error)) from error
    return build_plan(edit, [sources[clip.file_name] for clip in edit.clips])


def _inspect(assignment: Assignment) -> dict[str, Any]:
    task = assignment.task
    if isinstance(task, RenderTask):
        plan = planned(assignment, task)
        return {"frames": plan.frame_count, "duration_s": float(plan.duration_s)}
    assert task is not None
    from engine.pipeline.extract import planned_cut

    cut = planned_cut(_source(assignment, task.file_name), task.start_s, task.stop_s)
    return {"frames": len(cut.frames), "duration_s": float(cut.duration_s)}


def _probe(assignment: Assignment) -> dict[str, Any]:
    from engine.cli.describe import source_document
    from engine.media.chapters import read_chapters
    from engine.media.probe import probe

    path: Path | StoredObject = assignment.folder / assignment.probed
    if not assignment.probed:
        path = assignment.store.source(assignment.output_key)
    chapters = [
        {"title": each.title, "start_time": float(each.start_s), "end_time": float(each.stop_s)}
        for each in read_chapters(path)
    ]
    return {"file": {**source_document(probe(path)), "path": path.name}, "chapters": chapters}


def _render(assignment: Assignment, task: RenderTask, tell: Tell) -> dict[str, Any]:
    from engine.pipeline.exporter import Listener, export
    from engine.upscale.choice import choose_upscaler

    plan = planned(assignment, task)
    output = assignment.folder / OUTPUT
    report = export(
        plan,
        output,
        upscaler=choose_upscaler(assignment.upscaler),
        encoder=encoder_for(assignment, plan, task.mode),
        work_dir=assignment.folder / PARTS,
        keep_parts=True,  # until the job's row says that it is done
        listener=Listener(on_progress=lambda at: tell("progress", **asdict(at))),
    )
    _remember(plan, report)
    _put(assignment, output, tell)
    return {
        "duration_s": report.duration_s,
        "details": {"frames": report.frames, "warnings": list(report.warnings)},
        "report": {**asdict(report), "output": output.name},
    }


def _remember(plan: Plan, report: Report) -> None:
    """What the export teaches for later estimates; an export does not fail for want of that."""
    from engine.pipeline.estimate import measured
    from engine.pipeline.history import History

    with contextlib.suppress(OSError):
        if (run := measured(plan, report)) is not None:
            History.of_user().add(run)


def encoder_for(assignment: Assignment, plan: Plan, mode: ExportMode) -> Encoder:
    """The encoder that suits the assignment and the mode, on this machine."""
    from engine.media.encoders import choose_encoder

    options = dict(assignment.encoder_options)
    chosen = choose_encoder(plan.size, plan.fps, name=assignment.encoder, options=options)
    if mode is ExportMode.FAST:
        return chosen
    preset = "medium" if chosen.name == "libx264" else "p7"
    return choose_encoder(plan.size, plan.fps, name=chosen.name, preset=preset, options=options)


def _extract(assignment: Assignment, task: ExtractTask, tell: Tell) -> dict[str, Any]:
    from engine.pipeline.extract import extract

    output = assignment.folder / OUTPUT
    made = extract(
        _source(assignment, task.file_name),
        task.start_s,
        task.stop_s,
        output,
        on_progress=_seldom(
            lambda done, total: tell(
                "progress", phase="frames", frames_done=done, frames_total=total
            )
        ),
    )
    _put(assignment, output, tell)
    return {"duration_s": float(made.duration_s), "details": asdict(made), "report": asdict(made)}


def _put(assignment: Assignment, output: Path, tell: Tell) -> None:
    size = output.stat().st_size
    tell("upload", share=0)
    on_bytes = _seldom(lambda done: tell("upload", share=done / size))
    assignment.store.put_file(assignment.output_key, output, on_bytes=on_bytes)


def _seldom(tell: Callable[..., None]) -> Callable[..., None]:
    """Passes on what comes no sooner than `_REPORT_INTERVAL_S` after what was passed on before."""
    told_s = 0.0

    def maybe(*numbers: int) -> None:
        nonlocal told_s
        if time.monotonic() - told_s >= _REPORT_INTERVAL_S:
            told_s = time.monotonic()
            tell(*numbers)

    return maybe


def _without_places(said: Any, assignment: Assignment) -> Any:
    """What is said to users, who need not know where on the server their files lie."""
    if isinstance(said, dict):
        return {name: _without_places(each, assignment) for name, each in said.items()}
    if isinstance(said, list | tuple):
        return [_without_places(each, assignment) for each in said]
    if not isinstance(said, str):
        return said
    places = [assignment.folder]
    if isinstance(folder := getattr(assignment.store, "folder", None), Path):
        user_id = assignment.output_key.partition("/")[0]
        places += [folder / user_id, folder]
    for place in places:
        said = said.replace(f"{place}/", "")
    return said
