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
from engine.pipeline.executors import Kit, render_in_turn
from engine.storage import redacted
from engine.timeline.chunks import Chunk
from engine.upscale.choice import choose_upscaler
from engine.upscale.stage import Upscaler
from modal_functions.answers import Answer
from modal_functions.bundle import get_bundle
from modal_functions.clips import device
from modal_functions.desk import bucket
from modal_functions.slots import Slots

MAX_ATTEMPTS = 3
"""How often a chunk is begun before it is given up. Modal itself would restart a container that
dies of one without end."""

log = logging.getLogger(__name__)


class Workshop:
    """What a container renders with, kept from call to call."""

    def __init__(self) -> None:
        self._upscalers: dict[str, Upscaler] = {}

    @classmethod
    def opened(cls) -> Workshop:
        """With the network loaded that most exports use."""
        workshop = cls()
        workshop._upscaler("auto").for_scale(2.0)
        return workshop

    def _upscaler(self, name: str) -> Upscaler:
        if name not in self._upscalers:
            self._upscalers[name] = choose_upscaler(name, device())
        return self._upscalers[name]

    def choose(
        self, request: Mapping[str, Any], size: Sequence[int], fps: str, scales: Sequence[float]
    ) -> Answer:
        """The encoder and the upscaler this machine takes, as plain values; see `choice.py`."""
        upscaler = self._upscaler(request["upscaler"])
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
                "keys": [upscaler.for_scale(scale).key for scale in scales],
            },
        }

    def render_chunks(
        self, job_id: str, bundle_key: str, bundle_sha256: str, digests: Sequence[str]
    ) -> Answer:
        """Renders what is not in the cache, and says what is there then and what failed."""
        store = bucket()
        cache = StoreCache(store)
        bundle = get_bundle(store, bundle_key, bundle_sha256)
        by_digest = {chunk.digest: chunk for chunk in bundle.chunks}
        with Slots() as slots, TemporaryDirectory() as folder:
            turn = _Turn(slots, job_id)
            kit = Kit(
                self._upscaler(bundle.upscaler),
                bundle.encoder,
                ChunkStore(Path(folder)),
                bundle.strict,
            )
            missing = [
                by_digest[digest]
                for digest in digests
                if bundle.strict or store.stat(f"{cache.prefix}/{digest}.json") is None
            ]
            for digest in set(digests) - {chunk.digest for chunk in missing}:
                turn.stored(digest)
            rendered = render_in_turn(turn.each(missing), kit, turn)
            try:
                for each in rendered:
                    cache.offer(each.chunk.digest, kit.chunk_store.folder)
                    kit.chunk_store.path(each.chunk).unlink()
                    turn.stored(each.chunk.digest)
                    turn.made.append({**asdict(each.record), "stage_s": dict(each.stage_s)})
            except EngineError as error:
                return turn.answer(str(error))
            except Exception as error:
                log.exception("chunk %s failed", turn.digest)
                return turn.answer(f"unexpected {type(error).__name__}: {error}")
        return turn.answer(None)


class _Turn:
    """The chunks of one call, one after the other; their `Watch`, told to their slots."""

    def __init__(self, slots: Slots, job_id: str) -> None:
        self.made: list[dict[str, Any]] = []
        self.digest = ""
        self._slots = slots
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
        before = self._slots.read(chunk_slot(self._job_id, digest)) or {}
        again = call is not None and before.get("call") == call
        self._starts = before.get("starts", 0) + 1 if again else 1
        self.digest, self._frames = digest, 0
        if self._starts > MAX_ATTEMPTS:
            raise EngineError(f"its container died {MAX_ATTEMPTS} times")
        self._slots.tell_now(
            chunk_slot(self._job_id, digest), {"frames": 0, "starts": self._starts, "call": call}
        )

    def stored(self, digest: str) -> None:
        self._slots.tell(chunk_slot(self._job_id, digest), {"frames": self._frames, "stored": True})

    def frames(self, count: int) -> None:
        self._frames += count
        slot = {
            "frames": self._frames,
            "starts": self._starts,
            "call": modal.current_function_call_id(),
        }
        self._slots.tell(chunk_slot(self._job_id, self.digest), slot)

    def warn(self, warning: str) -> None:
        """It is in the chunk's record."""

    def step(self) -> None:
        """A cancellation comes as an exception by itself."""

    def answer(self, error: str | None) -> Answer:
        """What was made; where something failed, which chunk and why."""
        if error is None:
            return {"chunks": self.made}
        attempts = min(self._starts, MAX_ATTEMPTS)
        failed = {"digest": self.digest, "error": redacted(error), "attempts": attempts}
        return {"chunks": self.made, "failed": failed}


def chunk_slot(job_id: str, digest: str) -> str:
    """Where the frames of a chunk are counted while it is rendered."""
    return f"{job_id}/chunk/{digest}"
