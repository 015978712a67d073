"""Exports a plan: renders the chunks that are not there yet, mixes the sound, joins, verifies.

Together with `render.py` the only file that sees both a plan and pixels.
"""

from __future__ import annotations

import hashlib
import json
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from importlib.metadata import version
from itertools import zip_longest
from pathlib import Path
from queue import SimpleQueue

from engine.audio import write_sound
from engine.chunks import Chunk, cut_into_chunks
from engine.edit import Edit
from engine.encode import Encoder, choose_encoder
from engine.errors import Cancelled, EditError, EngineError, SourceError
from engine.files import whole_file
from engine.join import ChapterMark, join
from engine.parts import PartRecord, Parts
from engine.plan import Plan
from engine.prefetch import Prefetch
from engine.probe import fingerprint, probe
from engine.progress import Phase, Progress, ProgressMeter, StageClock
from engine.render import Sources, render_chunk
from engine.report import ChunkReport, Report
from engine.source import SourceInfo
from engine.upscale.choice import choose_upscaler
from engine.upscale.upscaler import Upscaler


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
    work_dir: Path | str | None = None,
    keep_parts: bool = False,
    strict: bool = False,
    listener: Listener | None = None,
) -> Report:
    """Renders `plan` into one MP4 at `destination`, and says what was done.

    Finished chunks lie in `work_dir` (by default `DESTINATION.parts/`), so a run that was cut short
    goes on where it stopped; the folder is removed after success unless `keep_parts`. With
    `strict`, any damage in a source is an error. `destination` is replaced only by a whole,
    verified file. Raises `EngineError` (see `errors.py`), `Cancelled` among them.
    """
    job = _Job(
        plan=plan,
        destination=Path(destination),
        upscaler=upscaler or choose_upscaler(),
        encoder=encoder or choose_encoder(plan.size, plan.fps),
        parts=Parts(Path(work_dir) if work_dir else _parts_folder(Path(destination))),
        strict=strict,
        listener=listener or Listener(),
    )
    _check_destination(job.destination, plan)
    _check_sources(plan)
    with job.parts.locked():
        report = job.run()
        if not keep_parts:
            job.parts.remove()
    return report


def _parts_folder(destination: Path) -> Path:
    return destination.with_name(destination.name + ".parts")


def _check_destination(destination: Path, plan: Plan) -> None:
    if destination.is_dir():
        raise EngineError(f"{destination}: is a folder, not a file to write")
    if not destination.parent.is_dir():
        raise EngineError(f"{destination}: there is no folder {destination.parent}")
    if destination.exists() and any(
        destination.samefile(clip.source.path) for clip in plan.clips if clip.source.path.exists()
    ):
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


@dataclass(slots=True)
class _Job:
    """One run of one export."""

    plan: Plan
    destination: Path
    upscaler: Upscaler
    encoder: Encoder
    parts: Parts
    strict: bool
    listener: Listener
    clock: StageClock = field(default_factory=StageClock)
    warnings: list[str] = field(default_factory=list)
    heard: SimpleQueue[str] = field(default_factory=SimpleQueue)
    """Warnings on their way from another thread."""
    over: threading.Event = field(default_factory=threading.Event)
    """Set when nobody waits for the sound any more."""

    def run(self) -> Report:
        started_s = time.monotonic()
        meter = ProgressMeter(
            self.plan.frame_count, self.listener.on_progress, self.listener.should_stop
        )
        self._warn_all(self.plan.warnings)
        chunks = cut_into_chunks(
            self.plan,
            stage_key=lambda clip: self.upscaler.for_scale(clip.scale).key,
            encoder_key=self.encoder.key,
        )
        meter.enter(Phase.FRAMES)
        with Prefetch(self._mixed(), 1, "sound") as mixing:
            try:
                done, decoded = self._render(chunks, meter)
                meter.enter(Phase.SOUND)
                ((sound, warnings),) = mixing.items(meter.step)
            finally:
                self.over.set()
        self._warn_all([*warnings, *self.upscaler.events])
        meter.enter(Phase.JOIN)
        with self.clock.working("join"):
            self._join(chunks, sound, meter)
        meter.enter(Phase.DONE)
        return self._report(chunks, done, decoded, time.monotonic() - started_s)

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
        path = self.parts.folder / f"sound-{self._sound_digest()}.m4a"
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

    def _render(
        self, chunks: Sequence[Chunk], meter: ProgressMeter
    ) -> tuple[dict[str, tuple[PartRecord, bool]], int]:
        """Renders what is missing. Per digest: its record, and whether it was there before."""
        once = {chunk.digest: chunk for chunk in chunks}
        found = {
            digest: record
            for digest, chunk in once.items()
            if (record := self.parts.find(chunk, self.encoder))
            and not (self.strict and record.warnings)
        }
        for record in found.values():
            self._warn_all(record.warnings)
        done = {digest: (record, True) for digest, record in found.items()}
        missing = [chunk for digest, chunk in once.items() if digest not in found]
        rendered_frames = sum(len(chunk.frames) for chunk in missing)
        meter.keep(self.plan.frame_count - rendered_frames)
        # warnings come from the readers' threads and are told from the caller's
        with Sources(strict=self.strict, on_warning=self.heard.put) as sources:
            for chunk, following in zip_longest(missing, missing[1:]):
                record = self._render_one(chunk, following, sources, meter)
                done[chunk.digest] = record, False
        return done, sources.decoded_frames

    def _render_one(
        self, chunk: Chunk, following: Chunk | None, sources: Sources, meter: ProgressMeter
    ) -> PartRecord:
        warnings: list[str] = []

        def tell_heard() -> None:
            while not self.heard.empty():
                warnings.append(self.heard.get())
                self.warn(warnings[-1])

        def on_frame() -> None:
            tell_heard()
            meter.frame()

        def while_waiting() -> None:
            tell_heard()
            meter.step()

        encoded = render_chunk(
            chunk,
            sources,
            self.upscaler,
            self.encoder,
            self.parts.path(chunk),
            following=following,
            clock=self.clock,
            on_frame=on_frame,
            while_waiting=while_waiting,
        )
        tell_heard()
        return self.parts.accept(chunk, encoded, self.encoder, warnings)

    def _join(self, chunks: Sequence[Chunk], sound: Path | None, meter: ProgressMeter) -> None:
        join(
            [self.parts.path(chunk) for chunk in chunks],
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
            on_step=meter.step,
        )

    def _report(
        self,
        chunks: Sequence[Chunk],
        done: dict[str, tuple[PartRecord, bool]],
        decoded: int,
        wall_s: float,
    ) -> Report:
        reports = [
            ChunkReport(
                chunk.frames.start,
                chunk.frames.stop,
                chunk.digest,
                done[chunk.digest][0].frame_hash,
                resumed=done[chunk.digest][1],
            )
            for chunk in chunks
        ]
        resumed = _frame_sum(each for each in reports if each.resumed)
        rendered = self.plan.frame_count - resumed
        stages = {name: round(seconds, 3) for name, seconds in self.clock.seconds.items()}
        return Report(
            output=str(self.destination),
            engine_version=version("framestream"),
            duration_s=float(self.plan.duration_s),
            frames=self.plan.frame_count,
            frames_rendered=rendered,
            frames_resumed=resumed,
            source_frames=self.plan.source_frame_count(),
            source_frames_decoded=decoded,
            device=self.upscaler.device,
            upscaler=self.upscaler.name,
            upscaler_why=self.upscaler.why,
            encoder=self.encoder.name,
            encoder_why=self.encoder.why,
            encoder_options=dict(self.encoder.options),
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
