"""Exports a plan: renders the chunks that are not there yet, mixes the sound, joins, verifies.

Together with `render.py` the only file that sees both a plan and pixels.
"""

from __future__ import annotations

import hashlib
import json
import shutil
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from engine.audio.mix import write_sound
from engine.errors import Cancelled, EditError, EngineError, SourceError, StoreError
from engine.files import whole_file
from engine.media.encoders import Encoder, choose_encoder
from engine.media.fingerprint import fingerprint
from engine.media.join import ChapterMark, join
from engine.media.probe import probe
from engine.pipeline.cache import ChunkCache
from engine.pipeline.chunk_store import ChunkRecord, ChunkStore
from engine.pipeline.executors import Executor, InProcess, Kit, Rendered
from engine.pipeline.progress import Phase, Progress, ProgressMeter, StageClock
from engine.pipeline.report import ChunkReport, Report
from engine.prefetch import Prefetch
from engine.source import SourceInfo
from engine.timeline.chunks import Chunk, cut_into_chunks
from engine.timeline.edit import Edit
from engine.timeline.plan import Plan
from engine.upscale.choice import choose_upscaler
from engine.upscale.stage import Upscaler
from engine.version import VERSION


@dataclass(frozen=True, slots=True)
class Listener:
    """How an export talks to its caller, from the caller's own thread.

    `on_progress` gets the state at most ten times a second, `on_warning` one line for everything
    that was not as it should be, `should_stop` is asked between frames.
    """

    on_progress: Callable[[Progress], None] | None = None
    on_warning: Callable[[str], None] | None = None
    should_stop: Callable[[], bool] | None = None


def probe_sources(edit: Edit, folder: Path | str = ".") -> list[SourceInfo]:
    """What the files of an edit are, one per clip; each file is probed once.

    Relative names are taken from `folder`. Raises `EditError` that names the clip whose file is
    missing or cannot be used.
    """
    found: dict[Path, SourceInfo] = {}
    for index, clip in enumerate(edit.clips):
        path = Path(folder) / clip.file_name
        if path not in found:
            try:
                found[path] = probe(path)
            except SourceError as error:
                raise EditError(f"clips[{index}].fileName", str(error)) from error
    return [found[Path(folder) / clip.file_name] for clip in edit.clips]


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
) -> Report:
    """Renders `plan` into one MP4 at `destination`, and says what was done.

    `executor` renders the chunks: by default this process, one after the other. Finished chunks
    lie in `work_dir` (by default `DESTINATION.parts/`), so a run that was cut short goes on where
    it stopped; the folder is removed after success unless `keep_parts`. In `cache` other exports
    find them too; a cache that does not work is left out, with a warning. With `strict`, any damage
    in a source is an error. `destination` is replaced only by a whole, verified file. Raises
    `EngineError` (see `errors.py`), `Cancelled` among them.
    """
    job = _Job(
        plan=plan,
        destination=Path(destination),
        upscaler=upscaler or choose_upscaler(),
        encoder=encoder or choose_encoder(plan.size, plan.fps),
        executor=executor or InProcess(),
        cache=cache,
        chunk_store=ChunkStore(Path(work_dir) if work_dir else _parts_folder(Path(destination))),
        keep_parts=keep_parts,
        strict=strict,
        listener=listener or Listener(),
    )
    _check_destination(job.destination, plan)
    _check_sources(plan)
    with job.chunk_store.locked():
        report = job.run()
        if not keep_parts:
            job.chunk_store.remove()
    return report


def _parts_folder(destination: Path) -> Path:
    return destination.with_name(destination.name + ".parts")


def _check_destination(destination: Path, plan: Plan) -> None:
    if destination.is_dir():
        raise EngineError(f"{destination}: is a folder, not a file to write")
    if not destination.parent.is_dir():
        raise EngineError(f"{destination}: there is no folder {destination.parent}")
    files = [clip.source.path for clip in plan.clips if isinstance(clip.source.path, Path)]
    if destination.exists() and any(destination.samefile(file) for file in files if file.exists()):
        raise EngineError(f"{destination}: is one of the sources; it is not overwritten")


def _check_sources(plan: Plan) -> None:
    """A plan holds for the files it was made of, and chunks are found again by what those were."""
    for path, print_planned in {
        clip.source.path: clip.source.fingerprint for clip in plan.clips
    }.items():
        try:
            unchanged = fingerprint(path) == print_planned
        except OSError as error:
            raise SourceError(path, f"cannot be read any more: {error.strerror}") from error
        if not unchanged:
            raise SourceError(path, "has changed since the export was planned")


@dataclass(frozen=True, slots=True)
class _Done:
    """Every part of an export, by digest."""

    found: Mapping[str, ChunkRecord]
    """From an earlier run."""
    rendered: Mapping[str, Rendered]

    def report(self, chunk: Chunk) -> ChunkReport:
        rendered = self.rendered.get(chunk.digest)
        record = rendered.record if rendered else self.found[chunk.digest]
        return ChunkReport(
            chunk.frames.start,
            chunk.frames.stop,
            chunk.digest,
            record.frame_hash,
            resumed=rendered is None,
            render_s=record.render_s,
            route=record.route,
            failures=rendered.failures if rendered else (),
        )


@dataclass(slots=True)
class _Job:
    """One run of one export; the `Watch` of its executor."""

    plan: Plan
    destination: Path
    upscaler: Upscaler
    encoder: Encoder
    executor: Executor
    cache: ChunkCache | None
    chunk_store: ChunkStore
    keep_parts: bool
    strict: bool
    listener: Listener
    meter: ProgressMeter = field(init=False)
    clock: StageClock = field(default_factory=StageClock)
    warnings: list[str] = field(default_factory=list)
    over: threading.Event = field(default_factory=threading.Event)
    """Set when nobody waits for the sound any more."""

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
        chunks = cut_into_chunks(
            self.plan,
            stage_key=lambda clip: self.upscaler.for_scale(clip.scale).key,
            encoder_key=self.encoder.key,
        )
        self.meter.enter(Phase.FRAMES)
        with Prefetch(self._mixed(), 1, "sound") as mixing:
            try:
                done = self._render(chunks)
                self.meter.enter(Phase.SOUND)
                ((sound, warnings),) = mixing.items(self.step)
            finally:
                self.over.set()
        self._warn_all(warnings)
        self.meter.enter(Phase.JOIN)
        with self.clock.working("join"):
            self._join(chunks, sound)
        self.meter.enter(Phase.DONE)
        return self._report(chunks, done, time.monotonic() - started_s)

    def frames(self, count: int) -> None:
        self.meter.frames(count)

    def step(self) -> None:
        self.meter.step()

    def warn(self, warning: str) -> None:
        """Takes a warning once; the same damage met by two chunks is one fact."""
        if warning not in self.warnings:
            self.warnings.append(warning)
            if self.listener.on_warning is not None:
                self.listener.on_warning(warning)

    def _mixed(self) -> Iterator[tuple[Path | None, list[str]]]:
        """The sound track, and what there is to warn of; found from an earlier run or mixed.

        Runs in a thread of its own, since its encoder keeps one processor busy.
        """
        if not self.plan.sound:
            yield None, []
            return
        path = self.chunk_store.folder / f"sound-{self._sound_digest()}.m4a"
        record = path.with_suffix(".json")
        warnings = _warnings_of(path, record)
        if warnings is None or (self.strict and warnings):
            warnings = []
            with self.clock.working("sound"):
                self._mix(path, self._refuse if self.strict else warnings.append)
            with whole_file(record) as unfinished:
                unfinished.write_text(json.dumps(warnings))
        yield path, warnings

    def _mix(self, path: Path, on_warning: Callable[[str], None]) -> None:
        def stop_when_over() -> None:
            if self.over.is_set():
                raise Cancelled

        write_sound(
            self.plan.sound,
            [clip.source for clip in self.plan.clips],
            self.plan.sample_count,
            path,
            on_warning=on_warning,
            on_step=stop_when_over,
        )

    def _warn_all(self, warnings: Iterable[str]) -> None:
        for warning in warnings:
            self.warn(warning)

    def _refuse(self, warning: str) -> None:
        raise EngineError(warning)

    def _sound_digest(self) -> str:
        prints = [clip.source.fingerprint for clip in self.plan.clips]
        text = repr((SOUND_VERSION, self.plan.sound, prints, self.plan.sample_count))
        return hashlib.blake2b(text.encode(), digest_size=16).hexdigest()

    def _render(self, chunks: Sequence[Chunk]) -> _Done:
        """Renders what is missing; a chunk that is shown twice is rendered once."""
        once = {chunk.digest: chunk for chunk in chunks}
        places: dict[str, list[int]] = {}
        for chunk in chunks:
            places.setdefault(chunk.digest, []).append(chunk.index)
        found = {digest: record for digest, chunk in once.items() if (record := self._found(chunk))}
        for digest, record in found.items():
            self._warn_all(record.warnings)
            self.meter.finished(places[digest])
        missing = [chunk for digest, chunk in once.items() if digest not in found]
        self.meter.keep(self.plan.frame_count - sum(len(chunk.frames) for chunk in missing))
        kit = Kit(self.upscaler, self.encoder, self.chunk_store, self.strict)
        rendered = {}
        with closing(self.executor.render(missing, kit, self)) as results:
            for each in results:
                rendered[each.chunk.digest] = each
                self.clock.add(each.stage_s)
                self.meter.finished(places[each.chunk.digest])
                self._offer(each.chunk)
        return _Done(found, rendered)

    def _found(self, chunk: Chunk) -> ChunkRecord | None:
        """The record of a chunk that an earlier run has left, here or in the cache."""
        self.step()
        record = self.chunk_store.find(chunk, self.encoder) or self._fetched(chunk)
        return None if record and self.strict and record.warnings else record

    def _fetched(self, chunk: Chunk) -> ChunkRecord | None:
        with self._cached() as cache:
            if cache is not None and cache.fetch(chunk.digest, self.chunk_store.folder):
                if record := self.chunk_store.find(chunk, self.encoder):
                    return record
                cache.forget(chunk.digest)
                self.warn(f"chunk {chunk.digest} in the cache is not whole; it is rendered again")
        return None

    def _offer(self, chunk: Chunk) -> None:
        with self._cached() as cache:
            if cache is not None:
                cache.offer(chunk.digest, self.chunk_store.folder)

    @contextmanager
    def _cached(self) -> Iterator[ChunkCache | None]:
        """The cache while it works: an export does not fail for want of one."""
        try:
            yield self.cache
        except StoreError as error:
            self.cache = None
            self.warn(f"the cache is left out from here on: {error}")

    def _join(self, chunks: Sequence[Chunk], sound: Path | None) -> None:
        paths = [self.chunk_store.path(chunk) for chunk in chunks]
        lack_room = not self.keep_parts and _lack_room(paths, self.destination)
        if lack_room:
            self.warn(
                f"the disk has no room for {self.destination.name} beside its chunks: "
                "each is deleted as it is joined"
            )
        join(
            paths,
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
            on_step=_unstopped if lack_room else self.step,
            let_go=Path.unlink if lack_room else None,
        )

    def _report(self, chunks: Sequence[Chunk], done: _Done, wall_s: float) -> Report:
        reports = [done.report(chunk) for chunk in chunks]
        resumed = _frame_sum(each for each in reports if each.resumed)
        rendered = self.plan.frame_count - resumed
        stages = {name: round(seconds, 3) for name, seconds in self.clock.seconds.items()}
        return Report(
            output=str(self.destination),
            engine_version=VERSION,
            duration_s=float(self.plan.duration_s),
            frames=self.plan.frame_count,
            frames_rendered=rendered,
            frames_resumed=resumed,
            source_frames=self.plan.source_frame_count(),
            source_frames_decoded=sum(each.decoded_frames for each in done.rendered.values()),
            device=self.upscaler.device,
            upscaler=self.upscaler.name,
            upscaler_why=self.upscaler.why,
            encoder=self.encoder.name,
            encoder_why=self.encoder.why,
            encoder_options=dict(self.encoder.options),
            executor=self.executor.name,
            executor_why=self.executor.why,
            workers=self.executor.workers,
            retries=sum(len(each.failures) for each in done.rendered.values()),
            wall_s=round(wall_s, 3),
            frames_per_s=round(rendered / wall_s, 3),
            stage_s=stages,
            bottleneck=max(stages, key=stages.__getitem__),
            warnings=tuple(self.warnings),
            chunks=tuple(reports),
        )


def _warnings_of(sound: Path, record: Path) -> list[str] | None:
    """What was told while a sound track was mixed, None where it has to be mixed."""
    if not sound.exists():
        return None
    try:
        warnings: list[str] = json.loads(record.read_text())
    except (OSError, ValueError):
        return None
    return warnings


SOUND_VERSION = 1
"""Raised whenever the engine would mix another track for the same plan."""


def _frame_sum(chunks: Iterable[ChunkReport]) -> int:
    return sum(chunk.stop_frame - chunk.start_frame for chunk in chunks)


ROOM = 1.05
"""Times the size of its chunks that a film may take."""


def _lack_room(parts: Sequence[Path], destination: Path) -> bool:
    """Whether the film does not fit on the disk beside its parts, and does in their place."""
    if parts[0].stat().st_dev != destination.parent.stat().st_dev:
        return False
    film_bytes = ROOM * sum(part.stat().st_size for part in parts)
    return shutil.disk_usage(destination.parent).free < film_bytes


def _unstopped() -> None:
    """A join that lets go of its parts goes on to its end, since to stop it would lose them."""
