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
from backend.public_errors import public_text, without_paths
from engine.child_process import watch_lifeline
from engine.errors import EngineError, UpscalerError, is_out_of_space


def run_assignment(channel: socket.socket, assignment: Assignment) -> None:
    """Does the assignment and says on `channel` how it goes, in lines of JSON.

    The last line is a result or an error. Its process group is killed when the server closes the
    channel or dies.
    """
    watch_lifeline(channel)
    folders = _folders_of(assignment)

    def send(document: dict[str, Any]) -> None:
        channel.sendall(json.dumps(document).encode() + b"\n")

    def send_event(event: str, **fields: Any) -> None:
        send({"event": event, **without_paths(fields, folders)})

    try:
        send_event("result", **_result(assignment, send_event))
    except Exception as error:
        if is_out_of_space(error):
            status = OUT_OF_SPACE_STATUS
            text = str(error) if isinstance(error, EngineError) else "the disk is full"
            detail = without_paths(text, folders)
        elif isinstance(error, EngineError):
            status, detail = _status_of(error), public_text(error, folders)
        else:
            raise
        cause = None if isinstance(error, INPUT_ERRORS) else str(error)  # for the server's log
        send({"event": "error", "status": status, "detail": detail, "cause": cause})


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


def _status_of(error: EngineError) -> int:
    """The HTTP status for an error of the work."""
    if isinstance(error, INPUT_ERRORS):
        return 422
    return 503 if isinstance(error, UpscalerError) else 500


def _folders_of(assignment: Assignment) -> list[Path]:
    """The folders that the user's files lie in. The inner ones come first."""
    root = getattr(assignment.store, "folder", None)
    roots = [root / assignment.user_id, root] if isinstance(root, Path) else []
    return [assignment.folder, *roots]
