"""One piece of work for a worker process, as a value. `worker.py` does the work."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING

from backend.file_cache import FileCache
from backend.tasks import ExtractTask, RenderTask
from engine.errors import DecodeError, EditError, ObjectMissingError, SourceError
from engine.storage import CachedStore

if TYPE_CHECKING:
    from engine.storage import Store

LOCK_FILE = "worker.lock"
"""A job folder's worker locks it while it runs, and writes its process group's id into it."""

FILMSTRIP_FILE = "strip.jpg"
FRAME_FILE = "frame.png"
"""Pictures that a preview worker leaves in its assignment's folder."""


INPUT_ERRORS = (EditError, SourceError, DecodeError, ObjectMissingError)
"""Errors of what the user sent (HTTP 422). Other errors of the engine are the server's (500)."""

OUT_OF_SPACE_STATUS = 507
"""The HTTP status of an error of a full disk. The work can be done once there is room."""


class WorkKind(StrEnum):
    """What a worker must do."""

    CHECK = "check"
    """Say whether a task can be done, and how long its result will be."""
    PROBE = "probe"
    """Say what one file is, chapters included."""
    CLIP_PREVIEW = "clip_preview"
    """Show the clip at `output_key`: facts, filmstrip, waveform."""
    FRAME_PREVIEW = "frame_preview"
    """Show one frame of a task's result."""
    ESTIMATE = "estimate"
    """Say what a task would become, and how long its export would take."""
    READ_BACK = "read_back"
    """Read the finished film at `output_key` back, and say what it holds."""
    EXPORT = "export"
    """Do a task, and put its result into the store."""


@dataclass(frozen=True, slots=True)
class Assignment:
    """One piece of work."""

    kind: WorkKind
    user_id: str
    """The owner of all files and objects below."""
    folder: Path
    """The job's own; files of the task lie below it."""
    store: Store
    source_cache: FileCache
    """What the workers of this server remember about sources; see `source_cache.py`."""
    task: RenderTask | ExtractTask | None = None
    output_key: str = ""
    probed: str = ""
    """For `PROBE`: a file's path below `folder`. If empty, the object at `output_key` is probed."""
    frame: int = 0
    """For `FRAME_PREVIEW`: the output frame's number."""
    upscaler: str = "auto"
    encoder: str = "auto"
    encoder_options: tuple[tuple[str, str], ...] = ()
    key_interval_s: float | None = None
    """From one key frame to the next, where the edit does not say. None: the engine's."""
    workers: int | None = None
    """Chunks at a time. None: as many as this job's part of the machine carries."""
    local_jobs: int = 1
    """How many jobs share this machine."""
    sources: CachedStore = field(init=False)
    """`store` as sources are read from it: what one step has downloaded, the next need not."""

    def __post_init__(self) -> None:
        object.__setattr__(self, "sources", CachedStore(self.store))
