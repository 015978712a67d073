"""The tasks of jobs: what the engine must do, as values that are stored as JSON in a job's row.

Nothing here opens a file. A worker process does a task (`worker.py`).
"""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, TypeAdapter


class ExportMode(StrEnum):
    """How much time the encoder takes for quality."""

    FAST = "fast"
    QUALITY = "quality"

    def preset_of(self, encoder: str) -> str | None:
        """The preset for the encoder of that name; None for the encoder's own."""
        if self is ExportMode.FAST:
            return None
        return {"libx264": "medium", "h264_nvenc": "p7", "hevc_nvenc": "p7"}.get(encoder)


class _Task(BaseModel):
    model_config = ConfigDict(frozen=True)

    keys: dict[str, str] = {}
    """By file name: the source's key in the store. Other names are files in the job's folder."""
    warnings: tuple[str, ...] = ()
    """What of the request is left out, one line each."""


class RenderTask(_Task):
    """Export an edit."""

    kind: Literal["render"] = "render"
    edit: dict[str, Any]
    """The edit document."""
    mode: ExportMode = ExportMode.FAST

    def uploads(self) -> set[str]:
        """The sources that are files in the job's folder, as paths relative to it."""
        return {clip["fileName"] for clip in self.edit["clips"]} - self.keys.keys()


class ExtractTask(_Task):
    """Cut a range out of one file."""

    kind: Literal["extract"] = "extract"
    file_name: str
    start_s: str
    """Source times in seconds as decimal text, since floats are not exact."""
    stop_s: str

    def uploads(self) -> set[str]:
        """See `RenderTask.uploads`."""
        return {self.file_name} - self.keys.keys()


Task = Annotated[RenderTask | ExtractTask, Field(discriminator="kind")]

task_adapter: TypeAdapter[RenderTask | ExtractTask] = TypeAdapter(Task)
