"""Functions that the app imports by name: they start, follow and cancel what runs on Modal.

Looks functions up by the names in `modal_functions.protocol`, and imports nothing else from there.
These names are stable, since an app imports them:

    modal_enabled() -> bool
    await call_modal_process_clip(...) -> dict      one clip: crop, upscale, trim and speed
    await call_modal_concatenate(...) -> dict       clips end to end
    ExportJob(job_id, user_id, edit, source_keys, output_key, ...)
    await start_export(job, store) -> call id       a whole edit; keep the id in the job's row
    await follow_export(call_id, job, store, progress_callback=None) -> dict
    await stored_export(job, store) -> dict | None  what a call has published, also a lost one
    await cancel_export(call_id, job, store)        also where the id is not known: None

The dicts are `{"status": "success", "output_key", "duration", ...}` or `{"status": "error",
"error"}`, with `"lost": True` where the call is gone and a new one may do the export.
`follow_export` may be abandoned and called again, also by another process: the stored
result counts first, then the call's result, then the live progress. `progress_callback` gets a
`ModalProgress` at most once a second, whose percent never falls. It may be a coroutine function.
All raise `ModalError` where Modal cannot be asked (no token, out of reach, not deployed), and
`StoreError`.
"""

from __future__ import annotations

import asyncio
import hashlib
import inspect
import logging
import os
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cache
from typing import Any, TypeAlias, TypeVar
from uuid import uuid4

import modal
import modal.exception

from engine.errors import EngineError, ObjectMissingError, StoreError
from engine.storage import Store
from engine.version import VERSION
from modal_functions.protocol import (
    CONCATENATE_CLIPS,
    DEPLOY_COMMAND,
    EXPORT_EDIT,
    PHASES,
    PROCESS_CLIP,
    PROGRESS_DICT,
    Ledger,
    PhaseEntry,
    app_name,
    clip_progress_key,
    concatenate_progress_key,
    export_progress_key,
    is_response,
    stored_response,
)
from modal_functions.protocol import ExportJob as ExportJob

T = TypeVar("T")
Result: TypeAlias = dict[str, Any]

REQUEST_S = 20.0
"""How long one request to Modal may take. Its own client would try for a minute."""
POLL_S = 1.0
UNREACHABLE_S = 300.0
"""How long a running call is followed while Modal does not respond."""
CANCEL_S = 30.0
"""How long a cancelled call is waited for: first to end itself, then to be ended."""
START_ESTIMATE_S = 60.0
"""The guess of how long a container takes to start, until it tells any progress."""

log = logging.getLogger(__name__)


class ModalError(EngineError):
    """Modal cannot be asked: no token, out of reach, or nothing deployed under that name.

    `reason` is for everybody, `hint` tells the operator what to do.
    """

    def __init__(self, reason: str, hint: str = "") -> None:
        super().__init__(f"{reason}: {hint}" if hint else reason)
        self.reason = reason


@dataclass(frozen=True, slots=True)
class ModalProgress:
    """How far a function is."""

    percent: float
    """0 to 100."""
    phase: str
    """One of `modal_functions.protocol.PHASES`."""
    message: str
    """For the user."""
    estimated: bool = False
    """Guessed from the time that went by, since the function tells nothing yet."""


ProgressCallback: TypeAlias = Callable[[ModalProgress], Awaitable[None] | None]


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
    key_interval_s: float | None = None,
) -> Result:
    """Renders one clip of a user on a T4, of any length. Cancelling the task cancels the call.

    Keys are whole, or relative to the user's folder. `key_interval_s` is from one key frame to the
    next, by default the engine's.
    """
    return await _run(
        _get_process_multi_clip_item_fn(),
        clip_progress_key(job_id, clip_index),
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
        key_interval_s=key_interval_s,
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
    key_interval_s: float | None = None,
) -> Result:
    """Joins rendered clips of a user. Cancelling the task cancels the call.

    `clip_info[i]` names the chapter of clip i by `title`, `name` or `fileName`. Keys are whole, or
    relative to the user's folder. `transition_duration` is in seconds. `key_interval_s` is for what
    is encoded again: from one key frame to the next, by default the engine's.
    """
    return await _run(
        _get_concatenate_clips_fn(),
        concatenate_progress_key(job_id),
        progress_callback,
        job_id=job_id,
        user_id=user_id,
        clip_keys=list(clip_keys),
        output_key=output_key,
        transition_type=transition_type,
        transition_duration=transition_duration,
        clip_info=[dict(each) for each in clip_info or ()],
        engine_version=VERSION,
        key_interval_s=key_interval_s,
    )


async def start_export(job: ExportJob, store: Store) -> str:
    """Puts the job into the store and starts it. Returns the call's id, for `follow_export`.

    An earlier call of the same job hands its containers over and ends without a result.
    """
    document = replace(job, call_token=uuid4().hex).document()
    await asyncio.to_thread(store.put_bytes, job.job_key, document)
    call = await _in_time(
        _function(EXPORT_EDIT).spawn.aio(
            job_id=job.job_id,
            user_id=job.user_id,
            output_key=job.output_key,
            job_key=job.job_key,
            job_sha256=hashlib.sha256(document).hexdigest(),
            engine_version=VERSION,
        )
    )
    return str(call.object_id)


async def follow_export(
    call_id: str, job: ExportJob, store: Store, progress_callback: ProgressCallback | None = None
) -> Result:
    """Waits for the export's result. Abandoning the wait leaves the export running."""
    stored = await stored_export(job, store)
    if stored is not None:
        return stored
    meter = _ProgressMeter(progress_callback)
    result = await _follow(call_id, export_progress_key(job.job_id), meter)
    if result["status"] == "success":
        return result
    stored = await stored_export(job, store)
    if stored is not None:  # it was finished, and only the call's result got lost
        return stored
    try:
        await _clear_away(job, store)
    except (ModalError, StoreError) as error:  # the result says more
        log.warning("renderers or temporary objects of %s may be left: %s", job.job_id, error)
    return result


async def stored_export(job: ExportJob, store: Store) -> Result | None:
    """The result of a finished export, None where the store has none. Asks Modal nothing."""
    try:
        manifest = await asyncio.to_thread(store.get_bytes, job.manifest_key)
    except ObjectMissingError:
        return None
    response = stored_response(manifest, job.job_id)
    return None if response is None else dict(response)


async def cancel_export(call_id: str | None, job: ExportJob, store: Store) -> None:
    """Stops the export and its containers. Only finished chunks are left of it.

    May be called again. A call whose id is not known ends where it next looks for its document.
    Raises `ModalError` where Modal cannot be asked, or the call has not ended. `StoreError`.
    """
    ended = await asyncio.gather(
        asyncio.to_thread(store.delete, job.job_key), _end(call_id), return_exceptions=True
    )
    for error in ended:
        if error is not None:
            raise error
    await _clear_away(job, store)


@cache
def _get_process_multi_clip_item_fn() -> modal.Function[..., Result, Any]:
    return _function(PROCESS_CLIP)


@cache
def _get_concatenate_clips_fn() -> modal.Function[..., Result, Any]:
    return _function(CONCATENATE_CLIPS)


def _function(name: str) -> modal.Function[..., Result, Any]:
    """The deployed function of that name. Modal looks it up when it is first called."""
    return modal.Function.from_name(app_name(), name)


async def _run(
    function: modal.Function[..., Result, Any],
    progress_key: str,
    progress_callback: ProgressCallback | None,
    **arguments: Any,
) -> Result:
    """The result of a call. One that is lost after it got on is made again, and goes on there."""
    meter = _ProgressMeter(progress_callback)
    while True:
        told_before = meter.told_percent
        call = await _in_time(function.spawn.aio(**arguments))
        try:
            result = await _follow(call.object_id, progress_key, meter)
        except asyncio.CancelledError:
            try:
                await asyncio.shield(_cancel(call.object_id))
            except ModalError as error:
                log.warning("the cancelled call %s may go on: %s", call.object_id, error)
            raise
        if not result.get("lost") or meter.told_percent <= told_before:
            return result
        log.warning("call %s is made again: %s", call.object_id, result["error"])


async def _follow(call_id: str, progress_key: str, meter: _ProgressMeter) -> Result:
    """Waits for the call's result, and passes its progress on meanwhile."""
    reached_s = time.monotonic()
    while True:
        try:
            result = await _poll(call_id)
            if result is not None:
                if result["status"] == "success":
                    await meter.report(ModalProgress(100.0, "upload", "Done"))
                return result
            await meter.report(await _read_progress(progress_key))
            reached_s = time.monotonic()
        except ModalError:
            if time.monotonic() - reached_s > UNREACHABLE_S:
                raise
        await asyncio.sleep(POLL_S)


class _ProgressMeter:
    """Passes progress on so that it never falls, and guesses while there is none."""

    def __init__(self, callback: ProgressCallback | None) -> None:
        self._callback = callback
        self._started_s = time.monotonic()
        self._percent = 0.0
        self.told_percent = 0.0
        """The most that the function itself has told."""

    async def report(self, progress: ModalProgress | None) -> None:
        if progress is not None:
            self.told_percent = max(self.told_percent, progress.percent)
        if self._callback is None:
            return
        progress = progress or self._estimate()
        self._percent = max(self._percent, progress.percent)
        returned = self._callback(replace(progress, percent=self._percent))
        if inspect.isawaitable(returned):
            await returned

    def _estimate(self) -> ModalProgress:
        """Approaches the percent at which the first phase ends, and never reaches it."""
        waited_s = time.monotonic() - self._started_s
        _, end = PHASES["download"]
        percent = end * waited_s / (waited_s + START_ESTIMATE_S)
        return ModalProgress(percent, "download", "Waiting for a container", estimated=True)


async def _poll(call_id: str) -> Result | None:
    """The result of a call, None while it runs. For a call that is lost it is an error."""

    async def get() -> Result | None:
        try:
            result: Result = await modal.FunctionCall.from_id(call_id).get.aio(timeout=0)
        except TimeoutError:
            return None
        except modal.exception.OutputExpiredError:
            return _lost("Modal keeps a result for seven days, and has dropped this one")
        except modal.exception.FunctionTimeoutError:
            return _lost("it took longer than its function may take")
        except modal.exception.NotFoundError:
            return _lost(f"Modal knows no call {call_id}")
        except modal.exception.RemoteError:
            return _error("it was cancelled")
        except modal.exception.InternalFailure:
            return _lost("its container was lost")
        if not is_response(result):
            return _error("it returned something that this backend does not know")
        return result

    return await _in_time(get())


async def _read_progress(key: str) -> ModalProgress | None:
    """What a function wrote last; None where that is nothing, or cannot be read."""
    progress = modal.Dict.from_name(PROGRESS_DICT, create_if_missing=True)
    entry = PhaseEntry.from_dict(await _in_time(progress.get.aio(key)))
    return ModalProgress(entry.percent, entry.phase, entry.message) if entry else None


async def _end(call_id: str | None) -> None:
    """Cancels a call and waits for its end. Raises `ModalError` where it does not end."""
    if call_id is None:
        return
    for terminate_containers in (False, True):
        await _cancel(call_id, terminate_containers)
        try:
            async with asyncio.timeout(CANCEL_S):
                while await _poll(call_id) is None:
                    await asyncio.sleep(POLL_S)
                return
        except TimeoutError:
            continue  # it does not clean up itself
    raise ModalError(f"the call {call_id} was cancelled and has not ended")


async def _cancel(call_id: str, terminate_containers: bool = False) -> None:
    """Cancels a call, unless Modal has forgotten it."""

    async def cancel() -> None:
        try:
            call = modal.FunctionCall.from_id(call_id)
            await call.cancel.aio(terminate_containers=terminate_containers)
        except modal.exception.NotFoundError:
            return

    await _in_time(cancel())


def _error(reason: str) -> Result:
    return {"status": "error", "error": f"the export on Modal failed: {reason}"}


def _lost(reason: str) -> Result:
    return {**_error(reason), "lost": True}


async def _clear_away(job: ExportJob, store: Store) -> None:
    """Cancels the renderers of a lost orchestrator, and deletes its temporary objects.

    Raises `ModalError`, `StoreError`. The ledger stays until every renderer is cancelled.
    """
    try:
        ledger = Ledger.from_document(await asyncio.to_thread(store.get_bytes, job.ledger_key))
    except (ObjectMissingError, ValueError, LookupError):
        ledger = Ledger()
    for call_id in (*ledger.calls, *ledger.given_up):
        await _cancel(call_id, terminate_containers=True)
    await asyncio.to_thread(store.delete_prefix, job.temp_prefix)


async def _in_time(request: Awaitable[T]) -> T:
    """What Modal responds to a request. Raises `ModalError` where it cannot be asked.

    A cancellation that comes while Modal's client waits is always raised. The client may swallow
    it: `asyncio.wait_for` does in Python 3.11 if its timeout comes at the same moment.
    """
    task = asyncio.current_task()
    assert task is not None
    cancellations = task.cancelling()
    try:
        return await _response_to(request)
    finally:
        if task.cancelling() > cancellations:
            raise asyncio.CancelledError


async def _response_to(request: Awaitable[T]) -> T:
    """As `_in_time`, but for swallowed cancellations."""
    try:
        async with asyncio.timeout(REQUEST_S):
            return await request
    except modal.exception.AuthError as error:
        raise ModalError(
            "Modal refuses, as there is no valid token",
            "`modal token new`, or MODAL_TOKEN_ID and MODAL_TOKEN_SECRET",
        ) from error
    except modal.exception.NotFoundError as error:
        raise ModalError(
            f"the app {app_name()} is not deployed on Modal, or is of another version",
            f"`{DEPLOY_COMMAND}`",
        ) from error
    except (TimeoutError, OSError, modal.exception.Error) as error:
        raise ModalError(f"Modal cannot be reached ({type(error).__name__})") from error
