"""The worker process, which opens videos so that a crash of a decoder never ends the server.

It is given an `Assignment` and answers in lines of JSON. It decodes files of strangers, so the
server never unpickles what it sends. It dies with the server.
"""

from __future__ import annotations

import fcntl
import json
import os
import socket
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from backend.assignment import (
    INPUT_ERRORS,
    LOCK_FILE,
    OUT_OF_SPACE_STATUS,
    Assignment,
    WorkKind,
)
from engine.child_process import watch_lifeline
from engine.errors import EngineError, is_out_of_space


def run_assignment(channel: socket.socket, assignment: Assignment) -> None:
    """Does the assignment and says on `channel` how it goes, in lines of JSON.

    The last line is a result or an error. Its process group is killed when the server closes the
    channel or dies.
    """
    watch_lifeline(channel)

    def send_event(event: str, **fields: Any) -> None:
        channel.sendall(json.dumps({"event": event, **fields}).encode() + b"\n")

    try:
        send_event("result", **_without_paths(_result(assignment, send_event), assignment))
    except Exception as error:
        if is_out_of_space(error):
            status = OUT_OF_SPACE_STATUS
        elif isinstance(error, EngineError):
            status = 422 if isinstance(error, INPUT_ERRORS) else 500
        else:
            raise
        detail = str(error) if isinstance(error, EngineError) else "the disk is full"
        send_event("error", status=status, detail=_without_paths(detail, assignment))


def _result(assignment: Assignment, send_event: Callable[..., None]) -> dict[str, Any]:
    """Hands the assignment to the function for its kind."""
    # these load the engine's decoders, which the server, an importer of this module, must not do
    from backend import export_tasks, inspection_tasks, preview_tasks

    match assignment.kind:
        case WorkKind.CHECK:
            return inspection_tasks.check(assignment)
        case WorkKind.PROBE:
            return inspection_tasks.probe_file(assignment)
        case WorkKind.CLIP_PREVIEW:
            return preview_tasks.preview_clip(assignment)
        case WorkKind.FRAME_PREVIEW:
            return preview_tasks.preview_frame(assignment)
        case WorkKind.ESTIMATE:
            return preview_tasks.estimate_export(assignment)
        case WorkKind.READ_BACK:
            return preview_tasks.read_back(assignment)
        case WorkKind.EXPORT:
            with _folder_lock(assignment.folder):
                return export_tasks.run_export(assignment, send_event)


@contextmanager
def _folder_lock(folder: Path) -> Iterator[None]:
    """Waits for another worker of this folder, which can only be one that is about to die."""
    with (folder / LOCK_FILE).open("a+") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        lock.truncate(0)
        lock.write(str(os.getpgid(0)))
        lock.flush()
        yield


def _without_paths(value: Any, assignment: Assignment) -> Any:
    """`value` without the folders of this server: users need not know where their files lie."""
    if isinstance(value, dict):
        return {name: _without_paths(each, assignment) for name, each in value.items()}
    if isinstance(value, list | tuple):
        return [_without_paths(each, assignment) for each in value]
    if not isinstance(value, str):
        return value
    folders = [assignment.folder]
    if isinstance(root := getattr(assignment.store, "folder", None), Path):
        folders += [root / assignment.user_id, root]
    for folder in folders:
        value = value.replace(f"{folder}/", "")
    return value
