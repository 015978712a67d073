"""Turns a form into an export request: checks its fields, matches clips with files and keys.

Raises `HTTPException` 400, 413 and 422 that name the field. It opens no video: a worker checks
later whether the clips fit the edit (`inspection.py`).
"""

from __future__ import annotations

import hashlib
import json
import math
import re
import uuid
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import Any, NoReturn

from fastapi import HTTPException

from backend.models import JobType
from backend.tasks import ExportMode, ExtractTask, RenderTask
from backend.uploads import Form
from engine.errors import StoreError
from engine.storage import user_key
from engine.timeline.clip import APP_EASE
from engine.timeline.validation import RepeatedKeyError, shown, unique_keys

CLIPS = "clips"
"""The folder of a user's clips in the store."""

MAX_KEY = 200
"""The longest name of a clip, in characters."""

MAX_NESTING = 64
"""How deep objects and lists may lie in each other. An edit needs seven levels."""

_ID = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,127}")
_SECONDS = re.compile(r"[0-9]{1,6}(\.[0-9]{1,6})?")
_SURROGATE = re.compile("[\ud800-\udfff]")
"""Half a character, which JSON can write and UTF-8 cannot."""
_RENDER_FIELDS = {
    "export_id", "project_id", "project_name", "target_fps", "target_width", "target_height",
    "export_mode", "include_audio",
}  # fmt: skip
"""The fields of a form that renders, besides those of its route."""
_MAX_NAME = 200
_MAX_INDEX = 10**9


@dataclass(frozen=True, slots=True)
class ExportRequest:
    """Everything that the client decides about a job."""

    type: JobType
    export_id: str
    project_id: str | None
    project_name: str
    task: RenderTask | ExtractTask
    hash: str
    """SHA-256 of the whole request. Files count by name and size."""


def multi_clip(form: Form, user_id: str, max_clips: int) -> ExportRequest:
    """`POST /api/export/multi-clip`: each clip has either a file `video_<clipIndex>` or a `key`."""
    field = "multi_clip_data_json"
    return _edit_order(_json(form, field), field, form, user_id, max_clips)


def stored_clips(edit: dict[str, Any], user_id: str, max_clips: int) -> RenderTask:
    """The task of an edit, the field `edit` of a request. Each clip has a `key`."""
    task = _edit_order(edit, "edit", Form(), user_id, max_clips).task
    assert isinstance(task, RenderTask)
    return task


def upscale(form: Form, user_id: str) -> ExportRequest:
    """`POST /api/export/upscale`: one clip. Its keyframes and segments are separate fields."""
    fields = ("keyframes_json", "segment_data_json")
    keyframes, segments = (_json(form, field) for field in fields)
    clip: dict[str, Any] = {"cropKeyframes": keyframes, "segmentsData": segments}
    keys: dict[str, str] = {}
    _name_one(clip, form, user_id, keys)
    return _render_order(JobType.UPSCALE, form, {"clips": [clip]}, keys, {*fields, "key"})


def extract(form: Form, user_id: str) -> ExportRequest:
    """`POST /api/clips/extract`: `start` and `end` in seconds of `video`, or of the clip `key`."""
    clip: dict[str, Any] = {}
    keys: dict[str, str] = {}
    _name_one(clip, form, user_id, keys)
    task = ExtractTask(
        keys=keys,
        file_name=clip["fileName"],
        start_s=_seconds(form, "start"),
        stop_s=_seconds(form, "end"),
        warnings=_unknown_fields(form, {"export_id", "key", "start", "end"}),
    )
    return _order(JobType.EXTRACT, form, task)


def clip_key(user_id: str, key: str) -> str:
    """The key in the store of the clip that the user calls `key`. Raises `HTTPException` 422."""
    if len(key) > MAX_KEY:
        refuse(422, "key", f"must have at most {MAX_KEY} characters")
    try:
        return user_key(user_id, CLIPS, key)
    except StoreError as error:
        refuse(422, "key", str(error))


def checked_id(value: str, field: str) -> str:
    """A client's id, checked to fit a path and a column. Raises `HTTPException` 422."""
    if not _ID.fullmatch(value):
        refuse(422, field, "must be 1 to 128 letters, digits and _ . -")
    return value


def checked_json(value: Any) -> Any:
    """A value read from JSON, if all of it can be written as JSON again. Raises `ValueError`."""
    level = [value]
    for _ in range(MAX_NESTING):
        texts = [each for each in level if isinstance(each, str)]
        deeper: list[Any] = []
        for each in level:
            match each:
                case dict():
                    texts += each
                    deeper += each.values()
                case list():
                    deeper += each
                case float() if not math.isfinite(each):
                    raise ValueError("a number in it is too large")
        if any(map(_SURROGATE.search, texts)):
            raise ValueError("a text in it is not Unicode")
        if not deeper:
            return value
        level = deeper
    raise ValueError(f"is nested more than {MAX_NESTING} deep")


def refuse(status: int, field: str, reason: str) -> NoReturn:
    """Raises `HTTPException`: the field and the reason."""
    raise HTTPException(status, f"{field}: {reason}")


def _edit_order(edit: Any, field: str, form: Form, user_id: str, max_clips: int) -> ExportRequest:
    """An export of an edit that came as `field`, with the files and the other fields of a form."""
    clips = edit.get("clips") if isinstance(edit, dict) else None
    if not isinstance(clips, list) or not all(isinstance(clip, dict) for clip in clips):
        refuse(422, field, "must be an object with a list of objects, `clips`")
    if len(clips) > max_clips:
        refuse(413, field, f"has {len(clips)} clips, at most {max_clips} are allowed")
    files, keys = dict(form.files), dict[str, str]()
    for place, clip in enumerate(clips):
        index, key = clip.get("clipIndex"), clip.pop("key", None)
        if not (index is None or (isinstance(index, int | float) and abs(index) <= _MAX_INDEX)):
            refuse(422, field, f"clips[{place}].clipIndex must be a whole number")
        video = f"video_{place if index is None else index}"
        if (video in files) == (key is not None):
            refuse(400, video, f"clips[{place}] needs either this file or a key, not both")
        _name_source(clip, form, video, key, user_id, keys)
        files.pop(video, None)
    if files:
        refuse(400, ", ".join(sorted(files)), "belongs to no clip")
    return _render_order(JobType.MULTI_CLIP, form, edit, keys, {field})


def _name_one(clip: dict[str, Any], form: Form, user_id: str, keys: dict[str, str]) -> None:
    key = form.fields.get("key")
    if form.files.keys() - {"video"} or ("video" in form.files) == (key is not None):
        refuse(400, "video", "must be one file; or send a key instead")
    _name_source(clip, form, "video", key, user_id, keys)


def _name_source(
    clip: dict[str, Any],
    form: Form,
    field: str,
    key: object,
    user_id: str,
    keys: dict[str, str],
) -> None:
    """Sets the clip's `fileName` to the source's name here, and `title` from the name it had."""
    own_name = clip.get("fileName")
    if key is None:
        name = str(form.files[field].path)
        own_name = own_name or form.files[field].name
    elif isinstance(key, str):
        name = f"{CLIPS}/{key}"
        keys[name] = clip_key(user_id, key)
        own_name = own_name or key
    else:
        refuse(422, "key", "must be text")
    is_untitled = clip.get("title") is None and clip.get("clipName") is None
    if is_untitled and isinstance(own_name, str):
        clip["title"] = PurePosixPath(own_name.replace("\\", "/")).stem or None
    clip["fileName"] = name


def _render_order(
    kind: JobType, form: Form, edit: dict[str, Any], keys: dict[str, str], known: set[str]
) -> ExportRequest:
    """A render request. Fields of the form override the edit. `known` are those of the route."""
    if edit.get("ease") is None:
        edit["ease"] = str(APP_EASE)
    for field, key in (("target_width", "targetWidth"), ("target_height", "targetHeight")):
        if text := form.fields.get(field):
            if not (text.isascii() and text.isdecimal() and len(text) <= 6):
                refuse(422, field, "must be a whole number of pixels")
            edit[key] = int(text)
    if rate := form.fields.get("target_fps"):
        edit["targetFps"] = rate
    if audio := form.fields.get("include_audio"):
        if audio.lower() not in ("true", "false"):
            refuse(422, "include_audio", "must be true or false")
        edit["includeAudio"] = audio.lower() == "true"
    mode = (form.fields.get("export_mode") or ExportMode.FAST).lower()
    if mode not in list(ExportMode):
        refuse(422, "export_mode", "must be fast or quality")
    warnings = _unknown_fields(form, _RENDER_FIELDS | known)
    return _order(
        kind, form, RenderTask(keys=keys, edit=edit, mode=ExportMode(mode), warnings=warnings)
    )


def _unknown_fields(form: Form, known: set[str]) -> tuple[str, ...]:
    """A warning for each field of the form that means nothing here."""
    unknown = [field for field in form.fields if field not in known]
    return tuple(f"{shown(field)}: unknown field of the form; it is left out" for field in unknown)


def _order(kind: JobType, form: Form, task: RenderTask | ExtractTask) -> ExportRequest:
    project_id = form.fields.get("project_id") or None
    project_name = form.fields.get("project_name", "")
    if len(project_name) > _MAX_NAME or not project_name.isprintable():
        refuse(422, "project_name", f"must be at most {_MAX_NAME} printable characters")
    sizes = {name: file.size_bytes for name, file in form.files.items()}
    asked = json.dumps([kind, project_id, task.model_dump(mode="json"), sizes], sort_keys=True)
    return ExportRequest(
        type=kind,
        export_id=checked_id(form.fields.get("export_id") or uuid.uuid4().hex, "export_id"),
        project_id=project_id and checked_id(project_id, "project_id"),
        project_name=project_name,
        task=task,
        hash=hashlib.sha256(asked.encode()).hexdigest(),
    )


def _json(form: Form, field: str) -> Any:
    """The field parsed as JSON, None if it is absent or empty. Raises `HTTPException` 422."""

    def no_constant(name: str) -> NoReturn:
        raise ValueError(f"{name} is not a JSON number")

    try:
        text = form.fields.get(field) or "null"
        value = json.loads(text, parse_constant=no_constant, object_pairs_hook=unique_keys)
    except RepeatedKeyError as error:
        refuse(422, field, str(error))
    except RecursionError:
        refuse(422, field, f"is nested more than {MAX_NESTING} deep")
    except ValueError as error:
        refuse(422, field, f"is not JSON: {error}")
    try:
        return checked_json(value)
    except ValueError as error:
        refuse(422, field, str(error))


def _seconds(form: Form, field: str) -> str:
    text = form.fields.get(field, "")
    if not _SECONDS.fullmatch(text):
        refuse(422, field, "must be seconds, like 12.5")
    return text
