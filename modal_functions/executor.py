"""Renders the chunks of an export in containers: an `Executor` that runs in the orchestrator.

    missing chunks ─▶ one list per container ─▶ spawned calls ─▶ cache ─▶ chunk store
                           ▲                        │ progress: frames, stored
                           └── what a call left ◀───┘ lost, stalled or failed: again, up to a cap

Only a chunk in the cache counts as rendered. Progress says when it is worth looking there, and a
renderer is given up only when neither tells of anything new.
"""

from __future__ import annotations

import time
from collections.abc import Generator, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import modal

from engine.errors import ChunkError
from engine.pipeline.cache import StoreCache
from engine.pipeline.capacity import Decision, assigned, decide
from engine.pipeline.estimate import T4_COSTS, t4_work_s
from engine.pipeline.executors import RenderContext, RenderedChunk, RenderObserver
from engine.timeline.chunks import Chunk
from modal_functions.chunk_bundle import put_bundle
from modal_functions.fence import Fence
from modal_functions.ledger import CallLedger, cancel_call, poll_call, spawn_call
from modal_functions.progress_dict import ProgressDict, ProgressUnreadableError
from modal_functions.protocol import ChunkEntry, ExportJob, chunk_progress_key
from modal_functions.renderer import MAX_ATTEMPTS

POLL_S = 1.0
STEP_S = 0.1
STALLED_S = 300.0
"""A renderer that finishes no frame for this long is cancelled, and another gets its chunks."""
QUEUED_S = 1800.0
"""How long a call may take to tell any progress of a chunk: it may wait for a container."""
UNREADABLE_S = 1800.0
"""How long no renderer is given up because its progress cannot be read."""
LOOK_S = 30.0
"""How often the cache is asked for the next chunk of a call, whatever its progress tells."""


@dataclass(slots=True)
class _RunningCall:
    """A renderer at work."""

    handle: modal.FunctionCall[Any]
    left: list[Chunk]
    """The chunks it was given that were not fetched yet, in its order."""
    frames: int | None = None
    """Frames rendered of the first chunk that is left; None before the call tells any."""
    since_s: float = field(default_factory=time.monotonic)
    """When it last got on, as `time.monotonic` gives it."""
    looked_s: float = field(default_factory=time.monotonic)
    """When the cache was last asked for its next chunk."""
    unreadable_since_s: float | None = None
    """Since when its progress cannot be read."""

    @property
    def id(self) -> str:
        """The call's id."""
        return str(self.handle.object_id)

    def why_overdue(self) -> str | None:
        """Why it is given up, None while it is waited for."""
        limit_s = QUEUED_S if self.frames is None else STALLED_S
        if time.monotonic() - self.since_s <= limit_s:
            return None
        return f"its container got no frame done for {limit_s:.0f} s"

    def is_look_due(self) -> bool:
        """Whether to ask the cache for its next chunk, though progress tells of none."""
        overdue = self.why_overdue() is not None
        return overdue or time.monotonic() - self.looked_s > LOOK_S

    def next_stored(self) -> None:
        """Notes that its next chunk was fetched."""
        self.left.pop(0)
        self.frames, self.since_s = None, time.monotonic()

    def progress_is_unreadable(self) -> None:
        """Notes that nobody knows how far it is. For `UNREADABLE_S` that is not held against it."""
        now_s = time.monotonic()
        if self.unreadable_since_s is None:
            self.unreadable_since_s = now_s
        if now_s - self.unreadable_since_s < UNREADABLE_S:
            self.since_s = now_s


class ModalExecutor:
    """An `Executor` on Modal.

    Its renderers outlive it, so that an orchestrator that takes over can go on with them. Where
    none will, the caller cancels those of the ledger.
    """

    name = "Modal"

    def __init__(
        self,
        job: ExportJob,
        renderer: Any,
        fence: Fence,
        ledger: CallLedger,
        cache: StoreCache,
        progress: ProgressDict,
    ) -> None:
        """`renderer` is an instance of the deployed class."""
        self._job = job
        self._renderer = renderer
        self._fence = fence
        self._ledger = ledger
        self._cache = cache
        self._progress = progress
        self._calls: list[_RunningCall] = []
        self._counted: dict[str, int] = {}
        self._tidied_s = time.monotonic()
        self.decision = Decision(0, "there is nothing to render")
        """How many containers render, and why."""

    @property
    def why(self) -> str:
        """See `Executor`."""
        return self.decision.why

    @property
    def workers(self) -> int:
        """See `Executor`."""
        return self.decision.containers

    def render(
        self, context: RenderContext, observer: RenderObserver
    ) -> Generator[RenderedChunk, None, None]:
        """See `Executor`.

        Raises `ChunkError` for a chunk that failed `MAX_ATTEMPTS` times, and `FencedError`.
        """
        job = context.job
        if not job.chunks:
            return
        self._fence.check()
        self._bundle = put_bundle(self._cache.store, self._job.temp_prefix, job)
        self._adopt_running_calls(job.chunks)
        self._spawn_for_free_chunks(job.chunks, job.encoder.size.width * job.encoder.size.height)
        while self._calls:
            yield from self._poll(context, observer)
            _pause(POLL_S if self._calls else 0, observer)

    # assigning chunks to calls

    def _adopt_running_calls(self, chunks: Sequence[Chunk]) -> None:
        """Goes on with the calls that an earlier orchestrator has started."""
        by_digest = {chunk.digest: chunk for chunk in chunks}
        for call_id, digests in list(self._ledger.calls.items()):
            left = [by_digest[digest] for digest in digests if digest in by_digest]
            if left:
                self._calls.append(_RunningCall(modal.FunctionCall.from_id(call_id), left))
            else:
                self._ledger.call_ended(call_id)

    def _spawn_for_free_chunks(self, chunks: Sequence[Chunk], target_px: int) -> None:
        """Starts as many containers as are worth it, for the chunks that no call has yet."""
        taken = {chunk.digest for call in self._calls for chunk in call.left}
        free = [chunk for chunk in chunks if chunk.digest not in taken]
        work_s = [t4_work_s(chunk.layers, target_px, self._job.upscaler) for chunk in free]
        room = max(1, self._job.max_containers - len(self._calls))
        decision = decide(work_s, startup_s=T4_COSTS.startup_s, max_containers=room)
        if free:
            for places in assigned(work_s, decision.containers):
                self._spawn([free[place] for place in places])
        adopted = len(self._calls) - decision.containers
        why = f"{adopted} at work already; {decision.why}" if adopted else decision.why
        self.decision = Decision(len(self._calls), why)

    def _spawn(self, chunks: list[Chunk]) -> None:
        self._fence.check()
        key, sha256 = self._bundle
        digests = [chunk.digest for chunk in chunks]
        handle = spawn_call(
            self._renderer.render_chunks,
            job_id=self._job.job_id,
            bundle_key=key,
            bundle_sha256=sha256,
            digests=digests,
        )
        self._calls.append(_RunningCall(handle, chunks))
        self._ledger.call_started(str(handle.object_id), digests)

    # following calls

    def _poll(self, context: RenderContext, observer: RenderObserver) -> Iterator[RenderedChunk]:
        self._fence.check_now_and_then()
        self._cancel_given_up()
        for call in list(self._calls):
            response = poll_call(call.handle)
            yield from self._fetch_stored(call, context, observer)
            if response is None and (why := call.why_overdue()) is not None:
                self._cancel(call)
                response = {"status": "error", "error": why}
            elif response is not None:
                self._ledger.call_ended(call.id)
            if response is not None:
                yield from self._finish_call(call, response, context, observer)

    def _fetch_stored(
        self, call: _RunningCall, context: RenderContext, observer: RenderObserver
    ) -> Iterator[RenderedChunk]:
        """The call's next chunks that are in the cache."""
        while call.left and (self._update_progress(call, observer) or call.is_look_due()):
            call.looked_s = time.monotonic()
            rendered = self._fetch(call.left[0], context, observer)
            if rendered is None:
                return
            call.next_stored()
            yield rendered

    def _cancel(self, call: _RunningCall) -> None:
        """Ends a call that is given up, now or later."""
        if cancel_call(call.id):
            self._ledger.call_ended(call.id)
        else:
            self._ledger.call_given_up(call.id)

    def _cancel_given_up(self) -> None:
        """Tries again to cancel what could not be cancelled. The end of the export does too."""
        if time.monotonic() - self._tidied_s > LOOK_S:
            self._tidied_s = time.monotonic()
            for call_id in self._ledger.given_up:
                if cancel_call(call_id):
                    self._ledger.call_ended(call_id)

    def _update_progress(self, call: _RunningCall, observer: RenderObserver) -> bool:
        """Counts the frames of the chunk a call is at. True where it says that it is stored."""
        chunk = call.left[0]
        try:
            told = self._progress.get(chunk_progress_key(self._job.job_id, chunk.digest))
        except ProgressUnreadableError:
            call.progress_is_unreadable()
            return False
        call.unreadable_since_s = None
        entry = ChunkEntry.from_dict(told)
        if entry is None:
            return False
        if entry.frames != call.frames:
            call.frames, call.since_s = entry.frames, time.monotonic()
            self._count_frames(chunk, entry.frames, observer)
        return entry.stored

    def _count_frames(self, chunk: Chunk, frames: int, observer: RenderObserver) -> None:
        """Tells the observer of frames beyond those it knows, which a second attempt repeats."""
        frames = min(frames, len(chunk.frames))
        counted = self._counted.get(chunk.digest, 0)
        if frames > counted:
            self._counted[chunk.digest] = frames
            observer.frames(frames - counted)

    def _fetch(
        self, chunk: Chunk, context: RenderContext, observer: RenderObserver
    ) -> RenderedChunk | None:
        """Moves the chunk from the cache to the chunk store; None where it is not there whole."""
        if not self._cache.fetch(chunk.digest, context.chunk_store.folder):
            return None
        record = context.chunk_store.find(chunk, context.job.encoder)
        if record is None:
            self._cache.forget(chunk.digest)
            return None
        self._count_frames(chunk, len(chunk.frames), observer)
        for warning in record.warnings:
            observer.warn(warning)
        return RenderedChunk(chunk, record, self._ledger.failures_of(chunk.digest))

    def _finish_call(
        self,
        call: _RunningCall,
        response: Mapping[str, Any],
        context: RenderContext,
        observer: RenderObserver,
    ) -> Iterator[RenderedChunk]:
        """Fetches what the call still stored, and gives the rest to another.

        Raises `ChunkError` where a chunk has failed `MAX_ATTEMPTS` times.
        """
        self._calls.remove(call)
        lost = []
        for chunk in call.left:
            rendered = self._fetch(chunk, context, observer)
            if rendered is not None:
                yield rendered
            else:
                lost.append(chunk)
        if not lost:
            return
        chunk = next((c for c in lost if c.digest == response.get("digest")), lost[0])
        reason = response.get("error", "it was not stored")
        attempts = self._ledger.chunk_failed(chunk.digest, reason, response.get("attempts", 1))
        if attempts >= MAX_ATTEMPTS:
            reasons = "; ".join(dict.fromkeys(self._ledger.failures_of(chunk.digest)))
            raise ChunkError(f"{_describe(chunk)} failed {attempts} times: {reasons}")
        observer.warn(f"{_describe(chunk)} is tried again: {reason}")
        self._spawn(lost)


def _describe(chunk: Chunk) -> str:
    clips = " and ".join(f"clips[{layer.clip.index}]" for layer in chunk.layers)
    return f"frames {chunk.frames} of {clips}"


def _pause(seconds: float, observer: RenderObserver) -> None:
    until_s = time.monotonic() + seconds
    while time.monotonic() < until_s:
        observer.step()
        time.sleep(min(STEP_S, seconds))
