"""What a backend and the functions on Modal agree on: names, keys and messages.

Both sides import this module. It imports neither `modal` nor anything that decodes or computes.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from dataclasses import MISSING, dataclass, field, fields
from typing import Any, Literal, NotRequired, TypedDict

from engine.errors import EngineError
from engine.storage.keys import user_key
from engine.version import VERSION

ENCODER = "libx264"
"""What encodes on Modal unless another encoder is asked for by name.

What it writes joins by packet copy with the chunks of every other machine, and four cores encode
faster than a T4 upscales. Whether NVENC opens depends on the host of a container.
"""


def encoder_on_modal(asked: str) -> str:
    """The name of the encoder for what was asked for: `auto`, or a name."""
    return ENCODER if asked == "auto" else asked


# names of what is deployed

DEFAULT_APP_NAME = "reel-ballers-video"
PROCESS_CLIP = "process_multi_clip_item"
CONCATENATE_CLIPS = "concatenate_clips_modal"
EXPORT_EDIT = "export_multi_clip"
RENDERER = "Renderer"
"""The class whose containers render chunks."""
DEPLOY_COMMAND = "modal deploy -m modal_functions.video_processing"


def app_name() -> str:
    """The name the app is deployed and looked up under: MODAL_APP_NAME, or the default."""
    return os.environ.get("MODAL_APP_NAME", DEFAULT_APP_NAME)


class VersionError(EngineError):
    """The caller has another version of the engine than the one that is deployed."""


def check_version(engine_version: str | None) -> None:
    """Raises `VersionError` where the caller names a version other than this engine's."""
    if engine_version not in (None, VERSION):
        raise VersionError(
            f"the backend has framestream {engine_version} and Modal {VERSION}: deploy again "
            f"({DEPLOY_COMMAND})"
        )


# keys in the store


def temp_prefix(user_id: str, job_id: str) -> str:
    """The folder of an export's temporary objects, which are deleted when it ends.

    Raises `StoreError` for an id that cannot be part of a key.
    """
    return user_key(user_id, "temp", f"modal_{job_id}")


def job_key(prefix: str) -> str:
    """Where the job's document lies below the export's `temp_prefix`; see `ExportJob`."""
    return f"{prefix}/job.json"


def ledger_key(prefix: str) -> str:
    """Where the ledger of calls lies below the export's `temp_prefix`; see `Ledger`."""
    return f"{prefix}/calls.json"


def manifest_key(output_key: str) -> str:
    """Where the manifest lies, beside the video. Once it is there, the export is finished."""
    return f"{output_key}.manifest.json"


# documents in the store


@dataclass(frozen=True, slots=True)
class ExportJob:
    """A whole edit for Modal. Jobs with the same edit and options share their chunks.

    A call goes on as long as its job's document lies in the store unchanged. Deleting it cancels
    the export, and replacing it hands the export over to another call.
    """

    job_id: str
    user_id: str
    edit: Mapping[str, Any]
    """The edit document. Its file names are those of `source_keys`."""
    source_keys: Mapping[str, str]
    """Where each file lies in the store."""
    output_key: str
    upscaler: str = "auto"
    encoder: str = "auto"
    """See `encoder_on_modal`."""
    quality: float | None = None
    preset: str | None = None
    encoder_options: Mapping[str, str] | None = None
    """FFmpeg's, for this encoder."""
    key_interval_s: float | None = None
    """From one key frame to the next, where the edit has no `keyInterval`. None: the engine's."""
    max_containers: int = 10
    strict: bool = False
    call_token: str = ""
    """Another for every call, so that the document says which call the job belongs to."""

    @property
    def temp_prefix(self) -> str:
        """See `protocol.temp_prefix`."""
        return temp_prefix(self.user_id, self.job_id)

    @property
    def manifest_key(self) -> str:
        """See `protocol.manifest_key`."""
        return manifest_key(self.output_key)

    @property
    def job_key(self) -> str:
        """See `protocol.job_key`."""
        return job_key(self.temp_prefix)

    @property
    def ledger_key(self) -> str:
        """See `protocol.ledger_key`."""
        return ledger_key(self.temp_prefix)

    def document(self) -> bytes:
        """The job as JSON, for `from_document`. Equal jobs give equal bytes."""
        written = {each.name: getattr(self, each.name) for each in fields(self)}
        return json.dumps(written, sort_keys=True, ensure_ascii=False).encode()

    @classmethod
    def from_document(cls, document: bytes) -> ExportJob:
        """Reads what `document` wrote. A field with a default may be missing.

        Raises `ValueError` or `LookupError` for anything else.
        """
        written = json.loads(document)
        given = {
            each.name for each in fields(cls) if each.default is MISSING or each.name in written
        }
        return cls(**{name: written[name] for name in given})


@dataclass(slots=True)
class Ledger:
    """The calls an export has made to renderers, and what failed.

    An orchestrator that takes over reads it, and so does a backend that must stop the renderers.
    """

    calls: dict[str, list[str]] = field(default_factory=dict)
    """The digests of the chunks that a call renders, by the call's id."""
    attempts: dict[str, int] = field(default_factory=dict)
    """How often a chunk failed, by its digest."""
    failures: dict[str, list[str]] = field(default_factory=dict)
    """Why a chunk failed, by its digest."""
    given_up: list[str] = field(default_factory=list)
    """The ids of calls that nobody waits for, and that could not be cancelled yet."""

    def document(self) -> bytes:
        """The ledger as JSON, for `from_document`."""
        fields = {name: getattr(self, name) for name in self.__dataclass_fields__}
        return json.dumps(fields).encode()

    @classmethod
    def from_document(cls, document: bytes) -> Ledger:
        """Reads what `document` wrote. Raises `ValueError` or `LookupError` for anything else."""
        fields = json.loads(document)
        return cls(**{name: fields[name] for name in cls.__dataclass_fields__})


# responses of the deployed functions


class ErrorResponse(TypedDict):
    """The response of a function that failed."""

    status: Literal["error"]
    error: str
    """One line for the user, without secrets."""
    lost: NotRequired[bool]
    """True where the call is gone and a new one may do what it did not."""


class VideoResponse(TypedDict):
    """The response of a function that made a video: a clip, clips joined, or a whole edit."""

    status: Literal["success"]
    output_key: str
    duration: float
    """In seconds."""
    frames: int
    warnings: list[str]
    report: dict[str, Any]
    """An `engine.pipeline.report.Report` as JSON."""
    containers: NotRequired[dict[str, Any]]
    """For a whole edit: an `engine.pipeline.capacity.Decision` as JSON."""


class ChoiceResponse(TypedDict):
    """The response of a renderer that was asked what it enlarges with."""

    status: Literal["success"]
    upscaler: dict[str, Any]
    """The fields of an `engine.pipeline.job.ChosenUpscaler`."""
    stages: list[dict[str, Any]]
    """Written by `engine.upscale.spec.stage_document`, in the order of the scales asked for."""


class ChunksResponse(TypedDict):
    """The response of a renderer whose chunks are all in the cache."""

    status: Literal["success"]
    chunks: list[dict[str, Any]]
    """The records of the chunks that this call rendered; see `ChunkRecord.to_document`."""


class FailedChunkResponse(ErrorResponse):
    """The response of a renderer that failed at a chunk. The chunks after it were not begun."""

    chunks: list[dict[str, Any]]
    """As in `ChunksResponse`: what it rendered before."""
    digest: str
    """The chunk that failed."""
    attempts: int
    """How often this call has begun that chunk."""


def is_response(value: object) -> bool:
    """Whether a value can be the response of a deployed function."""
    return isinstance(value, dict) and value.get("status") in ("success", "error")


def manifest_document(job_id: str, response: VideoResponse) -> bytes:
    """The manifest of a finished export as JSON, for `stored_response`."""
    manifest = {"job_id": job_id, "engine_version": VERSION, "result": response}
    return json.dumps(manifest, ensure_ascii=False).encode()


def stored_response(manifest: bytes, job_id: str) -> VideoResponse | None:
    """The response in a manifest; None where it is another job's, or cannot be read."""
    try:
        fields = json.loads(manifest)
    except (ValueError, RecursionError):
        return None
    if not isinstance(fields, dict) or fields.get("job_id") != job_id:
        return None
    response: VideoResponse | None = fields.get("result")
    return response if is_response(response) else None


# progress, in a `modal.Dict`

PROGRESS_DICT = "framestream-progress"
"""The name of the `modal.Dict`. Modal removes entries that nobody uses for seven days."""

PHASES = {
    "download": (0.0, 5.0),
    "model": (5.0, 15.0),
    "frames": (15.0, 85.0),
    "encode": (85.0, 95.0),
    "upload": (95.0, 100.0),
}
"""The phases of a function, with the percent at which each starts and ends."""


def clip_progress_key(job_id: str, clip_index: int) -> str:
    """Where the rendering of one clip writes its `PhaseEntry`."""
    return f"{job_id}/clip/{clip_index}"


def concatenate_progress_key(job_id: str) -> str:
    """Where joining clips writes its `PhaseEntry`."""
    return f"{job_id}/concatenate"


def export_progress_key(job_id: str) -> str:
    """Where the export of an edit writes its `PhaseEntry`."""
    return job_id


def chunk_progress_key(job_id: str, digest: str) -> str:
    """Where a renderer writes the `ChunkEntry` of a chunk."""
    return f"{job_id}/chunk/{digest}"


@dataclass(frozen=True, slots=True)
class PhaseEntry:
    """How far a function is."""

    phase: str
    """One of `PHASES`."""
    share: float
    """How much of the phase is done, 0 to 1."""
    message: str
    """For the user."""
    frames_done: int | None = None
    frames_total: int | None = None
    """In the phase `frames` only."""

    @property
    def percent(self) -> float:
        """How much of the whole function is done, 0 to 100."""
        start, stop = PHASES[self.phase]
        return start + min(max(self.share, 0.0), 1.0) * (stop - start)

    def to_dict(self) -> dict[str, Any]:
        """The entry as plain values, for `from_dict`."""
        entry = {"phase": self.phase, "share": round(self.share, 4), "message": self.message}
        if self.frames_total is None:
            return entry
        return entry | {"frames_done": self.frames_done, "frames_total": self.frames_total}

    @classmethod
    def from_dict(cls, entry: Any) -> PhaseEntry | None:
        """The entry that was written; None where it is nothing that can be read."""
        if not isinstance(entry, dict) or entry.get("phase") not in PHASES:
            return None
        return cls(
            entry["phase"],
            float(entry.get("share", 0)),
            str(entry.get("message", "")),
            entry.get("frames_done"),
            entry.get("frames_total"),
        )


@dataclass(frozen=True, slots=True)
class ChunkEntry:
    """How far the rendering of a chunk is."""

    frames: int = 0
    """Frames rendered so far in this attempt."""
    starts: int = 0
    """How often the call has begun this chunk: more than once where its container died."""
    call: str | None = None
    """The id of the call that renders it."""
    stored: bool = False
    """The chunk is in the cache."""

    def to_dict(self) -> dict[str, Any]:
        """The entry as plain values, for `from_dict`."""
        return {
            "frames": self.frames,
            "starts": self.starts,
            "call": self.call,
            "stored": self.stored,
        }

    @classmethod
    def from_dict(cls, entry: Any) -> ChunkEntry | None:
        """The entry that was written; None where it is nothing that can be read."""
        if not isinstance(entry, dict):
            return None
        return cls(
            int(entry.get("frames", 0)),
            int(entry.get("starts", 0)),
            entry.get("call"),
            bool(entry.get("stored", False)),
        )
