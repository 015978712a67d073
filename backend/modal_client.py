"""The backend's line to Modal: starts the deployed functions, watches them, stops them.

Knows names, plain values and the store; never `modal_functions`, which it reaches by deployed name.
The surface, all of it stable:

    modal_enabled() -> bool
    await call_modal_process_clip(...) -> dict      one clip: crop, upscale, trim and speed
    await call_modal_concatenate(...) -> dict       clips end to end
    ExportJob(job_id, user_id, edit, source_keys, output_key, ...)
    await start_export(job, store) -> call id       a whole edit; keep the id in the job's row
    await follow_export(call_id, job, store, progress_callback=None) -> dict
    await cancel_export(call_id, job, store)

The dicts are `{"status": "success", "output_key", "duration", ...}` or `{"status": "error",
"error"}`. `follow_export` may be abandoned and called again, by another process too: what counts is
the stored result, then the call's, then the live slot. `progress_callback` gets a `ModalProgress`
at most once a second, never going back; it may be a coroutine function. Raises `ModalError` where
Modal cannot be asked (no token, out of reach, not deployed), and lets `StoreError` pass.
"""

from __future__ import annotations

import asyncio
import hashlib
import inspect
import json
import os
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from functools import cache
from typing import Any, TypeAlias, TypeVar

import modal
import modal.exception

from engine.errors import EngineError, ObjectMissingError
from engine.storage import Store, user_key
from engine.version import VERSION

T = TypeVar("T")
Result: TypeAlias = dict[str, Any]

DEFAULT_APP = "reel-ballers-video"
SLOTS = "framestream-progress"
"""The `modal.Dict` in which functions write how far they are."""

ANSWER_S = 20.0
"""How long one question to Modal may take; its own client would try for a minute."""
POLL_S = 1.0
UNREACHABLE_S = 300.0
"""How long a call that runs is followed without an answer before it is given up."""
CANCEL_S = 30.0
"""How long a cancelled export is waited for, so that it may clean up itself."""

PHASES = {
    "download": (0.0, 5.0),
    "model": (5.0, 15.0),
    "frames": (15.0, 85.0),
    "encode": (85.0, 95.0),
    "upload": (95.0, 100.0),
}
"""Percent at which each phase starts and ends."""
START_ESTIMATE_S = 60.0
"""A container that tells nothing is taken to start in about this time."""


class ModalError(EngineError):
    """Modal cannot be asked: no token, out of reach, or nothing deployed under that name."""


@dataclass(frozen=True, slots=True)
class ModalProgress:
    """How far a function is."""

    percent: float
    """0 to 100; see `PHASES`."""
    phase: str
    message: str
    estimated: bool = False
    """Guessed from the time that went by, as the platform tells nothing yet."""


ProgressCallback: TypeAlias = Callable[[ModalProgress], Awaitable[None] | None]


@dataclass(frozen=True, slots=True)
class ExportJob:
    """A whole edit for Modal. Equal jobs have equal digests: started twice they share chunks."""

    job_id: str
    user_id: str
    edit: Mapping[str, Any]
    """The edit document; its file names are those of `source_keys`."""
    source_keys: Mapping[str, str]
    """Where each file lies in the store."""
    output_key: str
    upscaler: str = "auto"
    encoder: str = "libx264"
    """`auto` and NVENC are chosen on the GPU's machine; libx264 gives the bytes of everywhere."""
    quality: float | None = None
    preset: str | None = None
    max_containers: int = 10
    strict: bool = False

    @property
    def temp_prefix(self) -> str:
        """Where the export keeps what nobody needs afterwards."""
        return user_key(self.user_id, "temp", f"modal_{self.job_id}")

    @property
    def manifest_key(self) -> str:
        """What was made, as JSON beside the video; its presence is the stored result."""
        return f"{self.output_key}.manifest.json"

    def document(self) -> bytes:
        """The job as the orchestrator reads it."""
        fields = {name: getattr(self, name) for name in self.__dataclass_fields__}
        return json.dumps(fields, sort_keys=True, ensure_ascii=False).encode()


def modal_enabled() -> bool:
    """Whether MODAL_ENABLED asks for exports on Modal."""
    return os.environ.get("MODAL_ENABLED", "").strip().lower() in {"1", "true", "yes", "on"}


async def call_modal_process_clip(
    job_id: str,
    clip_index: int,
    user_id: str,
    input_key: str,
    output_key: str,
    crop_keyframes: Sequence[Mapping[str, Any]],
    segments_data: Mapping[str, Any] | None,
    target_fps: float | str = 30,
    target_width: int = 1080,
    target_height: int = 1920,
    progress_callback: ProgressCallback | None = None,
) -> Result:
    """Renders one clip of a user's on a T4. Cancelling the task cancels the call."""
    return await _run(
        _get_process_multi_clip_item_fn(),
        f"{job_id}/clip/{clip_index}",
        progress_callback,
        job_id=job_id,
        clip_index=clip_index,
        user_id=user_id,
        input_key=input_key,
        output_key=output_key,
        crop_keyframes=[dict(each) for each in crop_keyframes],
        segments_data=dict(segments_data) if segments_data is not None else None,
        target_fps=target_fps,
        target_width=target_width,
        target_height=target_height,
        engine_version=VERSION,
    )


async def call_modal_concatenate(
    job_id: str,
    user_id: str,
    clip_keys: Sequence[str],
    output_key: str,
    transition_type: str = "cut",
    transition_duration: float | None = None,
    clip_info: Sequence[Mapping[str, Any]] | None = None,
    progress_callback: ProgressCallback | None = None,
) -> Result:
    """Joins a user's rendered clips; `clip_info` names their chapters. See above."""
    return await _run(
        _get_concatenate_clips_fn(),
        f"{job_id}/concatenate",
        progress_callback,
        job_id=job_id,
        user_id=user_id,
        clip_keys=list(clip_keys),
        output_key=output_key,
        transition_type=transition_type,
        transition_duration=transition_duration,
        clip_info=[dict(each) for each in clip_info or ()],
        engine_version=VERSION,
    )


async def start_export(job: ExportJob, store: Store) -> str:
    """Puts the job into the store and starts it; gives the id by which it is found again."""
    document = job.document()
    key = f"{job.temp_prefix}/job.json"
    await asyncio.to_thread(store.put_bytes, key, document)
    call = await _asked(
        _function("export_multi_clip").spawn.aio(
            job_id=job.job_id,
            user_id=job.user_id,
            output_key=job.output_key,
            job_key=key,
            job_sha256=hashlib.sha256(document).hexdigest(),
            engine_version=VERSION,
        )
    )
    return str(call.object_id)


async def follow_export(
    call_id: str, job: ExportJob, store: Store, progress_callback: ProgressCallback | None = None
) -> Result:
    """Waits for the export's result. Abandoning the wait leaves the export running."""
    stored = await _stored(job, store)
    if stored is not None:
        return stored
    result = await _followed(call_id, job.job_id, progress_callback)
    if result["status"] != "success":
        stored = await _stored(job, store)
        if stored is not None:  # it was finished, and only the answer got lost
            return stored
        await _clear_away(job, store)
    return result


async def cancel_export(call_id: str, job: ExportJob, store: Store) -> None:
    """Stops the export and its containers, and leaves nothing of it but finished chunks."""
    await _cancel(call_id)
    try:
        async with asyncio.timeout(CANCEL_S):
            while await _answer(call_id) is None:
                await asyncio.sleep(POLL_S)
    except TimeoutError:
        pass  # it cannot clean up itself any more
    await _clear_away(job, store)


@cache
def _get_process_multi_clip_item_fn() -> modal.Function[..., Result, Any]:
    return _function("process_multi_clip_item")


@cache
def _get_concatenate_clips_fn() -> modal.Function[..., Result, Any]:
    return _function("concatenate_clips_modal")


def _app_name() -> str:
    return os.environ.get("MODAL_APP_NAME", DEFAULT_APP)


def _function(name: str) -> modal.Function[..., Result, Any]:
    """A deployed function by its name; it is looked up when it is first used."""
    return modal.Function.from_name(_app_name(), name)


async def _run(
    function: modal.Function[..., Result, Any],
    slot: str,
    progress_callback: ProgressCallback | None,
    **arguments: Any,
) -> Result:
    call = await _asked(function.spawn.aio(**arguments))
    try:
        return await _followed(call.object_id, slot, progress_callback)
    except asyncio.CancelledError:
        await asyncio.shield(_cancel(call.object_id))
        raise


async def _followed(call_id: str, slot: str, progress_callback: ProgressCallback | None) -> Result:
    """The call's result, told how far it is meanwhile."""
    meter = _Meter(progress_callback)
    answered_s = time.monotonic()
    while True:
        try:
            result = await _answer(call_id)
            if result is not None:
                if result["status"] == "success":
                    await meter.tell(ModalProgress(100.0, "upload", "Done"))
                return result
            await meter.tell(_shown(await _slot(slot)))
            answered_s = time.monotonic()
        except ModalError:
            if time.monotonic() - answered_s > UNREACHABLE_S:
                raise
        await asyncio.sleep(POLL_S)


class _Meter:
    """Passes progress on, monotone, and guesses while there is none."""

    def __init__(self, callback: ProgressCallback | None) -> None:
        self._callback = callback
        self._started_s = time.monotonic()
        self._percent = 0.0

    async def tell(self, progress: ModalProgress | None) -> None:
        if self._callback is None:
            return
        progress = progress or self._estimate()
        self._percent = max(self._percent, progress.percent)
        told = ModalProgress(self._percent, progress.phase, progress.message, progress.estimated)
        answer = self._callback(told)
        if inspect.isawaitable(answer):
            await answer

    def _estimate(self) -> ModalProgress:
        """Nears the end of what happens before a container tells anything, and never gets there."""
        waited_s = time.monotonic() - self._started_s
        ahead = PHASES["model"][0] * waited_s / (waited_s + START_ESTIMATE_S)
        return ModalProgress(ahead, "download", "Waiting for a container", estimated=True)


def _shown(slot: Any) -> ModalProgress | None:
    """What a function wrote, None where it is nothing that can be read."""
    if not isinstance(slot, dict) or slot.get("phase") not in PHASES:
        return None
    start, stop = PHASES[slot["phase"]]
    share = min(max(float(slot.get("share", 0)), 0.0), 1.0)
    return ModalProgress(
        start + share * (stop - start),
        slot["phase"],
        str(slot.get("message", "")),
        bool(slot.get("estimated", False)),
    )


async def _answer(call_id: str) -> Result | None:
    """The result of a call, None while it runs. A call that is lost has an error for a result."""

    async def get() -> Result | None:
        try:
            made = await modal.FunctionCall.from_id(call_id).get.aio(timeout=0)
        except TimeoutError:
            return None
        except modal.exception.OutputExpiredError:
            return _error("its result was kept for seven days, and they are over")
        except modal.exception.FunctionTimeoutError:
            return _error("it ran out of the time that Modal gives it")
        except modal.exception.NotFoundError:
            return _error(f"Modal knows no call {call_id}")
        except modal.exception.RemoteError:
            return _error("it was cancelled")
        except modal.exception.InternalFailure:
            return _error("its container was lost")
        if not isinstance(made, dict) or made.get("status") not in ("success", "error"):
            return _error("it gave an answer that this backend does not know")
        return made

    async with _in_time():
        return await get()


async def _slot(name: str) -> Any:
    slots = modal.Dict.from_name(SLOTS, create_if_missing=True)
    return await _asked(slots.get.aio(name))


async def _cancel(call_id: str) -> None:
    """Stops a call; one that Modal knows no more needs no stopping."""

    async def cancel() -> None:
        try:
            await modal.FunctionCall.from_id(call_id).cancel.aio()
        except modal.exception.NotFoundError:
            return

    await _asked(cancel())


def _error(reason: str) -> Result:
    return {"status": "error", "error": f"the export on Modal failed: {reason}"}


async def _stored(job: ExportJob, store: Store) -> Result | None:
    try:
        manifest = json.loads(await asyncio.to_thread(store.get_bytes, job.manifest_key))
    except (ObjectMissingError, ValueError):
        return None
    mine = isinstance(manifest, dict) and manifest.get("job_id") == job.job_id
    return manifest["result"] if mine else None


async def _clear_away(job: ExportJob, store: Store) -> None:
    """Stops the containers that a lost orchestrator left behind, and deletes its temporary keys."""
    try:
        state = json.loads(
            await asyncio.to_thread(store.get_bytes, f"{job.temp_prefix}/calls.json")
        )
    except (ObjectMissingError, ValueError):
        state = {}
    for call_id in state.get("calls", ()):
        await _cancel(call_id)
    await asyncio.to_thread(store.delete_prefix, job.temp_prefix)


async def _asked(question: Awaitable[T]) -> T:
    async with _in_time():
        return await question


@asynccontextmanager
async def _in_time() -> AsyncIterator[None]:
    """Turns what Modal's client raises where it cannot ask into one readable line."""
    try:
        async with asyncio.timeout(ANSWER_S):
            yield
    except modal.exception.AuthError as error:
        raise ModalError(
            "Modal refuses: no valid token (`modal token new`, or MODAL_TOKEN_ID and "
            "MODAL_TOKEN_SECRET)"
        ) from error
    except modal.exception.NotFoundError as error:
        raise ModalError(
            f"the app {_app_name()} is not deployed on Modal, or is of another version: "
            "`modal deploy -m modal_functions.video_processing`"
        ) from error
    except (TimeoutError, OSError, modal.exception.Error) as error:
        raise ModalError(f"Modal cannot be reached ({type(error).__name__})") from error
