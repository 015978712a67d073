"""What a renderer's container does: says what it would render with, and renders chunks.

    bundle ─▶ chunks that are not in the cache ─▶ render ─▶ cache, one by one

The same loop as in one process (`executors.render_in_turn`). A finished chunk is stored before the
next is begun.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict
from fractions import Fraction
from itertools import pairwise
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import modal

from engine.errors import EngineError
from engine.geometry import Size
from engine.media.encoders import choose_encoder
from engine.pipeline.cache import StoreCache
from engine.pipeline.chunk_store import ChunkStore
from engine.pipeline.executors import RenderContext, render_in_turn
from engine.storage import redacted
from engine.timeline.chunks import Chunk
from engine.upscale.choice import choose_upscaler
from engine.upscale.spec import stage_document
from engine.upscale.stage import LoadedStages
from modal_functions.bucket import open_bucket
from modal_functions.chunk_bundle import get_bundle
from modal_functions.clips import device
from modal_functions.progress_dict import ProgressDict
from modal_functions.responses import Response

MAX_ATTEMPTS = 3
"""How often a chunk is begun before it is given up. Modal itself would restart a container that
dies of one without end."""

log = logging.getLogger(__name__)


class RendererState:
    """What a container renders with, kept from call to call."""

    def __init__(self) -> None:
        self._stages = LoadedStages()

    @classmethod
    def loaded(cls) -> RendererState:
        """With the network loaded that most exports use."""
        state = cls()
        state._stages.of(choose_upscaler("auto", device()).stage_for(2.0))
        return state

    def choose(
        self, request: Mapping[str, Any], size: Sequence[int], fps: str, scales: Sequence[float]
    ) -> Response:
        """The encoder and, for each scale, the stage that this machine takes, as plain values."""
        upscaler = choose_upscaler(request["upscaler"], device())
        encoder = choose_encoder(
            Size(*size),
            Fraction(fps),
            name=request["encoder"],
            quality=request["quality"],
            preset=request["preset"],
        )
        return {
            "encoder": {
                "name": encoder.name,
                "options": [list(option) for option in encoder.options],
                "why": encoder.why,
            },
            "upscaler": {
                "name": upscaler.name,
                "why": upscaler.why,
                "device": upscaler.device,
            },
            "stages": [stage_document(upscaler.stage_for(scale)) for scale in scales],
        }

    def render_chunks(
        self, job_id: str, bundle_key: str, bundle_sha256: str, digests: Sequence[str]
    ) -> Response:
        """Renders what is not in the cache, and says what is there then and what failed."""
        store = open_bucket()
        cache = StoreCache(store)
        job = get_bundle(store, bundle_key, bundle_sha256)
        by_digest = {chunk.digest: chunk for chunk in job.chunks}
        with ProgressDict() as progress, TemporaryDirectory() as folder:
            call = _CallProgress(progress, job_id)
            context = RenderContext(job, ChunkStore(Path(folder)), store)
            missing = [
                by_digest[digest]
                for digest in digests
                if job.strict or store.stat(f"{cache.prefix}/{digest}.json") is None
            ]
            for digest in set(digests) - {chunk.digest for chunk in missing}:
                call.stored(digest)
            rendered = render_in_turn(call.each(missing), context, call, self._stages)
            try:
                for each in rendered:
                    cache.offer(each.chunk.digest, context.chunk_store.folder)
                    context.chunk_store.path(each.chunk).unlink()
                    call.stored(each.chunk.digest)
                    call.made.append({**asdict(each.record), "stage_s": dict(each.stage_s)})
            except EngineError as error:
                return call.response(str(error))
            except Exception as error:
                log.exception("chunk %s failed", call.digest)
                return call.response(f"unexpected {type(error).__name__}: {error}")
        return call.response(None)


class _CallProgress:
    """The chunks of one call, one after the other; their `RenderObserver`, told to their slots."""

    def __init__(self, progress: ProgressDict, job_id: str) -> None:
        self.made: list[dict[str, Any]] = []
        self.digest = ""
        self._progress = progress
        self._job_id = job_id
        self._frames = 0
        self._starts = 1

    def each(self, chunks: Sequence[Chunk]) -> Iterator[tuple[Chunk, Chunk | None]]:
        """Each chunk with the following one; raises before one that took its container along."""
        for chunk, following in pairwise([*chunks, None]):
            assert chunk is not None
            self._begin(chunk.digest)
            yield chunk, following

    def _begin(self, digest: str) -> None:
        call = modal.current_function_call_id()
        before = self._progress.get(chunk_slot(self._job_id, digest)) or {}
        again = call is not None and before.get("call") == call
        self._starts = before.get("starts", 0) + 1 if again else 1
        self.digest, self._frames = digest, 0
        if self._starts > MAX_ATTEMPTS:
            raise EngineError(f"its container died {MAX_ATTEMPTS} times")
        self._progress.set_now(
            chunk_slot(self._job_id, digest), {"frames": 0, "starts": self._starts, "call": call}
        )

    def stored(self, digest: str) -> None:
        self._progress.set(
            chunk_slot(self._job_id, digest), {"frames": self._frames, "stored": True}
        )

    def frames(self, count: int) -> None:
        self._frames += count
        slot = {
            "frames": self._frames,
            "starts": self._starts,
            "call": modal.current_function_call_id(),
        }
        self._progress.set(chunk_slot(self._job_id, self.digest), slot)

    def warn(self, warning: str) -> None:
        """It is in the chunk's record."""

    def step(self) -> None:
        """A cancellation comes as an exception by itself."""

    def response(self, error: str | None) -> Response:
        """What was made; where something failed, which chunk and why."""
        if error is None:
            return {"chunks": self.made}
        attempts = min(self._starts, MAX_ATTEMPTS)
        failed = {"digest": self.digest, "error": redacted(error), "attempts": attempts}
        return {"chunks": self.made, "failed": failed}


def chunk_slot(job_id: str, digest: str) -> str:
    """Where the frames of a chunk are counted while it is rendered."""
    return f"{job_id}/chunk/{digest}"
