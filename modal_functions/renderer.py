"""What a renderer's container does: it chooses what to render with, and renders chunks.

    bundle ─▶ chunks that are not in the cache ─▶ render ─▶ cache, one by one

The loop is that of one process (`executors.render_in_turn`). A finished chunk is stored while the
next one is rendered, and counts as rendered once it is stored.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from importlib import import_module
from itertools import pairwise
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any, cast

import modal
import modal.experimental

from engine.errors import EncoderError, EngineError
from engine.geometry import Size
from engine.media.encoders import Encoder, check_opens
from engine.pipeline.cache import StoreCache
from engine.pipeline.chunk_store import ChunkStore
from engine.pipeline.executors import RenderContext, RenderedChunk, render_in_turn
from engine.timeline.chunks import Chunk
from engine.upscale.choice import choose_upscaler
from engine.upscale.spec import stage_document
from engine.upscale.stage import LoadedStages, PlainResampler
from engine.write_behind import WriteBehind
from modal_functions.bucket import open_bucket
from modal_functions.chunk_bundle import get_bundle
from modal_functions.clips import device, network_options
from modal_functions.progress_dict import ProgressDict, ProgressUnreadableError
from modal_functions.protocol import (
    ChoiceResponse,
    ChunkEntry,
    ChunksResponse,
    FailedChunkResponse,
    chunk_progress_key,
)
from modal_functions.responses import error_response

if TYPE_CHECKING:
    from engine.upscale.network_stage import NetworkStage

MAX_ATTEMPTS = 3
"""How often a chunk may be begun. Modal itself restarts a container that dies without end."""
UNSTORED_CHUNKS = 2
"""How many finished chunks may wait to be stored, the one that is being stored included."""
USUAL_REGIONS = (Size(624, 1080), Size(432, 720))
"""What a network is given of 1920x1080 and 1280x720, for a film of 9:16."""


def load_modules() -> None:
    """Imports what renders, for a snapshot of a container's memory, which is made without a GPU.

    torch remembers that it has found no GPU, so nothing may ask it here. Does nothing where the
    image does not name a device.
    """
    if device() != "auto":
        import_module("engine.upscale.load")


class RendererState:
    """What a container renders with, kept from call to call."""

    def __init__(self) -> None:
        self._stages = LoadedStages()

    @classmethod
    def loaded(cls) -> RendererState:
        """A state with the network loaded that most exports use, ready for the usual sizes."""
        state = cls()
        stage = state._stages.of(
            choose_upscaler("auto", device(), network_options()).stage_for(2.0)
        )
        if not isinstance(stage, PlainResampler):
            for size in USUAL_REGIONS:
                cast("NetworkStage", stage).warm_up(size)
        return state

    def choose(self, upscaler: str, scales: Sequence[float]) -> ChoiceResponse:
        """Which stage this machine takes for each scale of a clip.

        Raises `EngineError` where the machine lacks what was asked for.
        """
        chosen = choose_upscaler(upscaler, device(), network_options())
        return {
            "status": "success",
            "upscaler": {"name": chosen.name, "why": chosen.why, "device": chosen.device},
            "stages": [stage_document(chosen.stage_for(scale)) for scale in scales],
        }

    def render_chunks(
        self, job_id: str, bundle_key: str, bundle_sha256: str, digests: Sequence[str]
    ) -> ChunksResponse | FailedChunkResponse:
        """Renders the chunks that are not in the cache yet, up to the first that fails.

        Raises `EngineError` where the bundle is not the one that was meant, or the job's encoder
        does not open here. Then this container takes no more calls.
        """
        store = open_bucket()
        cache = StoreCache(store)
        job = get_bundle(store, bundle_key, bundle_sha256)
        _check_encoder(job.encoder)
        by_digest = {chunk.digest: chunk for chunk in job.chunks}
        missing = [
            by_digest[digest]
            for digest in digests
            if job.strict or store.stat(f"{cache.prefix}/{digest}.json") is None
        ]
        with ProgressDict() as progress, TemporaryDirectory() as folder:
            call = _CallProgress(progress, job_id)
            for digest in set(digests) - {chunk.digest for chunk in missing}:
                call.stored(by_digest[digest])
            context = RenderContext(job, ChunkStore(Path(folder)), store)
            storing = _Storing(cache, context.chunk_store, call)
            try:
                with WriteBehind(storing.store, UNSTORED_CHUNKS, "store chunks") as stored:
                    for each in render_in_turn(call.each(missing), context, call, self._stages):
                        stored.put(each)
            except Exception as error:
                digest = storing.failed.get(error, call.digest)
                return {
                    **error_response(error),
                    "chunks": storing.records,
                    "digest": digest,
                    "attempts": call.attempts(digest),
                }
        return {"status": "success", "chunks": storing.records}


class _Storing:
    """Stores the chunks of one call, in a thread of its own."""

    def __init__(self, cache: StoreCache, chunk_store: ChunkStore, call: _CallProgress) -> None:
        self.records: list[dict[str, Any]] = []
        """Those of the chunks that are stored."""
        self.failed: dict[Exception, str] = {}
        """The digest of the chunk that could not be stored, by the error."""
        self._cache = cache
        self._chunk_store = chunk_store
        self._call = call

    def store(self, each: RenderedChunk) -> None:
        """Moves a chunk to the cache."""
        try:
            self._cache.offer(each.chunk.digest, self._chunk_store.folder)
        except Exception as error:
            self.failed[error] = each.chunk.digest
            raise
        self._chunk_store.path(each.chunk).unlink()
        self._call.stored(each.chunk)
        self.records.append(each.record.to_document())


def _check_encoder(encoder: Encoder) -> None:
    """Raises `EncoderError` where the encoder does not open, after which the container ends.

    On some hosts only some of the GPUs open NVENC. This container would be given the next call too.
    """
    try:
        check_opens(encoder)
    except EncoderError:
        _take_no_more_calls()
        raise


def _take_no_more_calls() -> None:
    """Has Modal end this container after its current call."""
    if not modal.is_local():
        modal.experimental.stop_fetching_inputs()


class _CallProgress:
    """The chunks of one call, one after the other. Their `RenderObserver`, which counts frames."""

    def __init__(self, progress: ProgressDict, job_id: str) -> None:
        self.digest = ""
        """The chunk it is at."""
        self._progress = progress
        self._job_id = job_id
        self._frames = 0
        self._starts: dict[str, int] = {}

    def attempts(self, digest: str) -> int:
        """How often this call has begun a chunk."""
        return min(self._starts.get(digest, 1), MAX_ATTEMPTS)

    def each(self, chunks: Sequence[Chunk]) -> Iterator[tuple[Chunk, Chunk | None]]:
        """Each chunk with the following one.

        Raises `EngineError` before a chunk at which the container of this call keeps dying.
        """
        for chunk, following in pairwise([*chunks, None]):
            assert chunk is not None
            self._begin(chunk.digest)
            yield chunk, following

    def _begin(self, digest: str) -> None:
        key, call = chunk_progress_key(self._job_id, digest), modal.current_function_call_id()
        before = self._read(key) or ChunkEntry()
        again = call is not None and before.call == call
        starts = self._starts[digest] = before.starts + 1 if again else 1
        self.digest, self._frames = digest, 0
        if starts > MAX_ATTEMPTS:
            raise EngineError(f"its container died {MAX_ATTEMPTS} times")
        self._progress.set_now(key, ChunkEntry(0, starts, call))

    def _read(self, key: str) -> ChunkEntry | None:
        try:
            return ChunkEntry.from_dict(self._progress.get(key))
        except ProgressUnreadableError:
            return None  # the function's own time limit ends what dies again and again

    def stored(self, chunk: Chunk) -> None:
        """Tells that a chunk is in the cache. May be called from another thread."""
        key = chunk_progress_key(self._job_id, chunk.digest)
        self._progress.set(key, ChunkEntry(len(chunk.frames), stored=True))

    def frames(self, count: int) -> None:
        """See `RenderObserver`."""
        self._frames += count
        self._progress.set(
            chunk_progress_key(self._job_id, self.digest),
            ChunkEntry(self._frames, self._starts[self.digest], modal.current_function_call_id()),
        )

    def warn(self, warning: str) -> None:
        """Does nothing: the warning is in the chunk's record."""

    def step(self) -> None:
        """Does nothing: a cancellation comes as an exception by itself."""
