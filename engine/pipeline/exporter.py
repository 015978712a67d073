"""Exports a plan: renders the missing chunks, mixes the sound, joins, verifies."""

from __future__ import annotations

import errno
import os
import shutil
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from engine.destination import FILM_SUFFIXES, beside, from_home, output_file
from engine.errors import Cancelled, EditError, OutputError, SourceError
from engine.media.chapters import ChapterMark
from engine.media.container import read_at
from engine.media.encoders import Encoder, choose_encoder
from engine.media.fingerprint import fingerprint
from engine.media.join import join
from engine.media.probe import probe
from engine.pipeline.cache import ChunkCache
from engine.pipeline.chunk_store import ChunkStore
from engine.pipeline.collection import collected_chunks
from engine.pipeline.executors import Executor, RenderContext
from engine.pipeline.job import RenderJob, plan_job
from engine.pipeline.local import LocalWorkers
from engine.pipeline.mixdown import Mixdown, mixdown
from engine.pipeline.progress import Phase, Progress, ProgressMeter, StageClock
from engine.pipeline.report import FinishedChunks, Report, export_report
from engine.pipeline.room import join_room
from engine.prefetch import Prefetch
from engine.source import SourceInfo
from engine.storage.cached_store import CachedStore, cached
from engine.storage.objects import ObjectReader
from engine.timeline.edit import Edit
from engine.timeline.plan import Plan
from engine.upscale.choice import choose_upscaler
from engine.upscale.stage import Upscaler

PARTS = ".parts"
"""What the name of the folder of chunks has more than that of its film."""


@dataclass(frozen=True, slots=True)
class Listener:
    """How an export talks to its caller, always from the caller's own thread.

    `on_progress` gets the state at most ten times a second. `on_warning` gets one line for
    everything that was not as it should be. `should_stop` is asked between frames.
    """

    on_progress: Callable[[Progress], None] | None = None
    on_warning: Callable[[str], None] | None = None
    should_stop: Callable[[], bool] | None = None


def probe_sources(edit: Edit, folder: Path | str = ".") -> list[SourceInfo]:
    """What the files of an edit are, one per clip. Each file is probed once.

    Relative names are taken from `folder`, `~/` is the user's own. Raises `EditError` that names
    the clip whose file is missing or cannot be used.
    """
    found: dict[Path, SourceInfo] = {}
    paths = [Path(folder) / from_home(Path(clip.file_name)) for clip in edit.clips]
    for index, path in enumerate(paths):
        if path not in found:
            try:
                found[path] = probe(path)
            except SourceError as error:
                raise EditError(f"clips[{index}].fileName", str(error)) from error
    return [found[path] for path in paths]


def export(
    plan: Plan,
    destination: Path | str,
    *,
    upscaler: Upscaler | None = None,
    encoder: Encoder | None = None,
    executor: Executor | None = None,
    cache: ChunkCache | None = None,
    work_dir: Path | str | None = None,
    keep_parts: bool = False,
    strict: bool = False,
    listener: Listener | None = None,
    store: ObjectReader | None = None,
) -> Report:
    """Renders `plan` into one MP4 at `destination`, and says what was done.

    `executor` renders the chunks: by default this machine, as many at the same time as it carries
    (`LocalWorkers`). Finished chunks lie in `work_dir` (by default `DESTINATION.parts/`), so a run
    that was cut short goes on where it stopped. The folder is removed after success unless
    `keep_parts`. In `cache` other exports find the chunks too. A cache that does not work is left
    out, with a warning. With `strict`, any damage in a source is an error. `store` holds the
    sources that are objects. `destination` is replaced only by a whole, verified file. Raises
    `EngineError` (see `errors.py`), `Cancelled` among them.
    """
    _film_file(destination, plan)  # checked before weights are fetched
    job = plan_job(
        plan,
        upscaler or choose_upscaler(),
        encoder or choose_encoder(plan.size, plan.fps, key_interval_s=plan.key_interval_s),
        strict=strict,
    )
    return export_job(
        plan,
        job,
        destination,
        executor=executor,
        cache=cache,
        work_dir=work_dir,
        keep_parts=keep_parts,
        listener=listener,
        store=store,
    )


def export_job(
    plan: Plan,
    job: RenderJob,
    destination: Path | str,
    *,
    executor: Executor | None = None,
    cache: ChunkCache | None = None,
    work_dir: Path | str | None = None,
    keep_parts: bool = False,
    listener: Listener | None = None,
    store: ObjectReader | None = None,
) -> Report:
    """As `export`, for a job that was decided before, here or elsewhere."""
    film = _film_file(destination, plan)
    shared = cached(store)
    source_store = shared and shared.counted_apart()
    _check_sources(plan, source_store)
    chunk_store = ChunkStore(Path(work_dir) if work_dir else beside(film, PARTS))
    run = _ExportRun(
        plan=plan,
        context=RenderContext(job, chunk_store, shared and shared.counted_apart()),
        source_store=source_store,
        destination=film,
        executor=executor or LocalWorkers(),
        cache=cache,
        keep_parts=keep_parts,
        listener=listener or Listener(),
    )
    with chunk_store.locked():
        return replace(run.run(), output=str(destination))  # as it was named


def _film_file(destination: Path | str, plan: Plan) -> Path:
    """The file that the film is written to. Raises what `output_file` raises."""
    locations = [clip.source.location for clip in plan.clips]
    sources = {each: "one of the sources" for each in locations if isinstance(each, Path)}
    return output_file(destination, suffixes=FILM_SUFFIXES, keep=sources)


def _check_sources(plan: Plan, store: ObjectReader | None) -> None:
    """Refuses files that are others than the plan was made of. Raises `SourceError`."""
    for location, source in {clip.source.location: clip.source for clip in plan.clips}.items():
        try:
            if not isinstance(location, Path) and location.etag == source.probed_etag:
                read_at(location, store, 0, 1)  # raises where the store has another version by now
                continue
            unchanged = fingerprint(location, store) == source.fingerprint
        except OSError as error:
            raise SourceError(location, f"cannot be read any more: {error.strerror}") from error
        if not unchanged:
            raise SourceError(location, "has changed since the export was planned")


@dataclass(slots=True)
class _ExportRun:
    """One run of one export; the `RenderObserver` of its executor."""

    plan: Plan
    context: RenderContext
    source_store: CachedStore | None
    """Counts what is not read for a chunk: for the check of the sources, and for the sound."""
    destination: Path
    executor: Executor
    cache: ChunkCache | None
    keep_parts: bool
    listener: Listener
    meter: ProgressMeter = field(init=False)
    clock: StageClock = field(default_factory=StageClock)
    warnings: list[str] = field(default_factory=list)
    sound_unwanted: threading.Event = field(default_factory=threading.Event)
    """Set when nothing waits for the sound any more."""

    def __post_init__(self) -> None:
        self.meter = ProgressMeter(
            self.plan.frame_count,
            self.listener.on_progress,
            self.listener.should_stop,
            self.clock,
        )

    def run(self) -> Report:
        started_s = time.monotonic()
        self._warn_all(self.plan.warnings)
        self.meter.enter(Phase.FRAMES)
        with Prefetch(self._mixdown(), 1, "sound") as mixing:
            try:
                chunks = collected_chunks(
                    self.context, self.executor, self.cache, self, self.meter, self.clock
                )
                self.meter.enter(Phase.SOUND)
                (sound,) = mixing.items(self.step)
            finally:
                self.sound_unwanted.set()
        self._warn_all(sound.warnings)
        self.meter.enter(Phase.JOIN)
        with self.clock.working("join"):
            self._join(chunks, sound.path)
        self._remove_chunks()
        self.meter.enter(Phase.DONE)
        return export_report(
            self.plan,
            self.context.job,
            self.executor,
            chunks,
            output=self.destination,
            source_bytes_read=self.source_store.taken_bytes() if self.source_store else 0,
            wall_s=time.monotonic() - started_s,
            stage_s=self.clock.seconds,
            warnings=self.warnings,
        )

    def frames(self, count: int) -> None:
        self.meter.frames(count)

    def step(self) -> None:
        self.meter.step()

    def warn(self, warning: str) -> None:
        """Passes a warning on once. The same damage in two chunks is one fact."""
        if warning not in self.warnings:
            self.warnings.append(warning)
            if self.listener.on_warning is not None:
                self.listener.on_warning(warning)

    def _warn_all(self, warnings: Iterable[str]) -> None:
        for warning in warnings:
            self.warn(warning)

    def _mixdown(self) -> Iterator[Mixdown]:
        """Mixes in a thread of its own, since the sound's encoder keeps one processor busy."""

        def stop_when_unwanted() -> None:
            if self.sound_unwanted.is_set():
                raise Cancelled

        yield mixdown(
            self.plan,
            self.context.chunk_store.folder,
            strict=self.context.job.strict,
            store=self.source_store,
            clock=self.clock,
            on_step=stop_when_unwanted,
        )

    def _join(self, chunks: FinishedChunks, sound: Path | None) -> None:
        files = [chunks.record(chunk).file for chunk in self.context.job.chunks]
        let_go = self._let_go([file.path for file in files], sound)
        join(
            files,
            sound,
            [
                ChapterMark(chapter.title, chapter.start_s, chapter.stop_s)
                for chapter in self.plan.chapters
            ],
            self.destination,
            frame_count=self.plan.frame_count,
            sample_count=self.plan.sample_count,
            fps=self.plan.fps,
            size=self.plan.size,
            on_step=self.step if let_go is None else _unstopped,
            let_go=let_go,
        )

    def _let_go(self, chunks: Sequence[Path], sound: Path | None) -> Callable[[Path], None] | None:
        """What deletes a chunk that was joined, where the disk has no room for the film otherwise.

        Raises `OutputError` where there is no room even then; no chunk is lost.
        """
        folder = self.destination.parent
        if self.keep_parts or chunks[0].stat().st_dev != folder.stat().st_dev:
            return None
        room, free_bytes = join_room(chunks, sound), shutil.disk_usage(folder).free
        if free_bytes >= room.beside_chunks:
            return None
        if free_bytes < room.in_their_place:
            full = OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
            raise OutputError(self.destination, full) from full
        self.warn(
            f"the disk has no room for {self.destination.name} beside its chunks: "
            "each is deleted as it is joined"
        )
        return Path.unlink

    def _remove_chunks(self) -> None:
        """Removes what is left beside the film, which is finished whether that works or not."""
        if not self.keep_parts:
            chunk_store = self.context.chunk_store
            try:
                chunk_store.remove()
            except OSError as error:
                self.warn(f"{chunk_store.folder}: is not removed: {error.strerror}")


def _unstopped() -> None:
    """Never stops a join that deletes its chunks: they would be lost."""
