"""Puts finished files end to end: copies packets, and encodes only what a transition touches.

This is an export like any other, of a plan whose chunks begin and end where the GOPs of the files
do. A chunk that shows a file unchanged is copied instead of rendered. The exporter does the rest:
resume, sound, chapters and checks.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, replace
from fractions import Fraction
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np

from engine.destination import from_home
from engine.errors import ChunkError, EditError
from engine.geometry import Size
from engine.media.chunk_writer import ChunkWriter, EncodedChunk
from engine.media.encoders import Encoder, choose_encoder
from engine.media.gops import GopTable, copy_gops, gop_table
from engine.media.inspect import VideoParameters, read_chunk
from engine.pipeline.cache import ChunkCache
from engine.pipeline.executors import (
    Executor,
    RenderContext,
    RenderedChunk,
    RenderObserver,
)
from engine.pipeline.exporter import Listener, export, probe_sources
from engine.pipeline.local import LocalWorkers
from engine.pipeline.progress import StageClock
from engine.pipeline.report import Report
from engine.pixels.picture import Picture
from engine.timeline.chunks import Chunk
from engine.timeline.edit import DEFAULT_FPS, DEFAULT_SIZE, Clip, Edit, Transition, TransitionType
from engine.timeline.plan import Plan, PlannedClip, build_plan
from engine.timing import FrameRange
from engine.upscale.stage import PlainResampler

CUT = Transition(TransitionType.CUT)

SHORTEST_COPY_S = Fraction(1, 2)
"""Shorter GOPs are copied together: some films are key frames only, and each copy is a file."""


def concatenate(
    clips: Sequence[Path | str],
    destination: Path | str,
    *,
    transitions: Transition | Sequence[Transition] = CUT,
    titles: Sequence[str | None] | None = None,
    include_audio: bool = True,
    encoder: Encoder | Callable[[Size, Fraction], Encoder] = choose_encoder,
    executor: Executor | None = None,
    cache: ChunkCache | None = None,
    work_dir: Path | str | None = None,
    listener: Listener | None = None,
) -> Report:
    """Joins `clips` into one MP4 of the size and rate of the first clip whose GOPs can be copied.

    A clip that the same encoder wrote as closed GOPs keeps its packets, except where a transition
    touches them. Any other clip is encoded again, and the report's warnings say why. The sound is
    mixed and encoded again. `encoder` renders what is not copied: an encoder, or what chooses one
    for the size and rate of the film. `cache` keeps what was encoded, as for `export`. Each clip is
    a chapter, named by `titles` or by its file. Raises `EngineError`.
    """
    paths = [from_home(Path(path)) for path in clips]
    tables = [_table(path) for path in paths]
    edit = _edit(paths, tables, transitions, titles, include_audio)
    plan = build_plan(edit, probe_sources(edit))
    if not isinstance(encoder, Encoder):
        encoder = encoder(plan.size, plan.fps)
    copied, refusals = _copied(plan, tables, encoder)
    plan = replace(plan, warnings=(*plan.warnings, *refusals))
    return export(
        _with_gops(plan, copied),
        destination,
        upscaler=PlainResampler("clips are joined as they are"),
        encoder=encoder,
        executor=PacketCopies(executor or LocalWorkers()),
        cache=cache,
        work_dir=work_dir,
        listener=listener,
    )


@dataclass(frozen=True, slots=True)
class PacketCopies:
    """An `Executor` that copies the chunks of a plan that can be. Another one renders the rest."""

    others: Executor
    """Renders what is not copied."""

    @property
    def name(self) -> str:
        """See `Executor`."""
        return f"packet copies and {self.others.name}"

    @property
    def why(self) -> str:
        """See `Executor`."""
        return self.others.why

    @property
    def workers(self) -> int:
        """See `Executor`."""
        return self.others.workers

    def render(
        self, context: RenderContext, observer: RenderObserver
    ) -> Generator[RenderedChunk, None, None]:
        """See `Executor`."""
        chunks = context.job.chunks
        copies: dict[int, dict[FrameRange, Chunk]] = {}
        for chunk in chunks:
            if chunk.is_copied:
                clip = chunk.layers[0].clip
                start = chunk.frames.start - clip.frames.start
                gops = FrameRange(start, start + len(chunk.frames))
                copies.setdefault(clip.index, {})[gops] = chunk
        for by_gops in copies.values():
            yield from _copied_chunks(by_gops, context, observer)
        with closing(
            self.others.render(context.only(c for c in chunks if not c.is_copied), observer)
        ) as rendered:
            yield from rendered


def _copied_chunks(
    by_gops: Mapping[FrameRange, Chunk], context: RenderContext, observer: RenderObserver
) -> Generator[RenderedChunk, None, None]:
    """Copies the GOPs of one file to the places of their chunks."""
    path = next(iter(by_gops.values())).layers[0].clip.source.location
    assert isinstance(path, Path)  # `concatenate` was given files
    places = {gops: context.chunk_store.path(chunk) for gops, chunk in by_gops.items()}
    clock = StageClock()
    for gops in clock.timed("copy", copy_gops(path, places)):
        chunk = by_gops[gops]
        encoded = EncodedChunk(len(gops), frame_hash=None, stage_s=clock.taken())
        record = context.chunk_store.accept(chunk, encoded, context.job.encoder)
        observer.frames(len(gops))
        yield RenderedChunk(chunk, record)


def _table(path: Path) -> GopTable | str:
    """A file's GOPs, or why it cannot be copied."""
    try:
        return gop_table(path)
    except ChunkError as error:
        return str(error)


def _edit(
    paths: Sequence[Path],
    tables: Sequence[GopTable | str],
    transitions: Transition | Sequence[Transition],
    titles: Sequence[str | None] | None,
    include_audio: bool,
) -> Edit:
    """The edit that shows every file whole. A file of the target's size is shown unchanged."""
    readable = (table.parameters for table in tables if isinstance(table, GopTable))
    target = next(filter(_can_be_exported, readable), None)
    return Edit(
        [
            Clip(path, title=title)
            for path, title in zip(paths, titles or [None] * len(paths), strict=True)
        ],
        transitions,
        target_fps=target.fps if target else DEFAULT_FPS,
        target_size=target.size if target else DEFAULT_SIZE,
        include_audio=include_audio,
    )


def _can_be_exported(parameters: VideoParameters) -> bool:
    """Whether an export may have the size and the rate of these."""
    try:
        Edit([Clip("film.mp4")], target_size=parameters.size, target_fps=parameters.fps)
    except EditError:
        return False
    return True


def _copied(
    plan: Plan, tables: Sequence[GopTable | str], encoder: Encoder
) -> tuple[dict[int, GopTable], list[str]]:
    """The tables of the clips that may be copied, by place, and why the others may not."""
    written = _parameters_of(encoder)
    refusals = [
        _refusal(plan, clip, table, written.codec)
        for clip, table in zip(plan.clips, tables, strict=True)
    ]
    fitting = {
        clip.index: table
        for clip, table, refusal in zip(plan.clips, tables, refusals, strict=True)
        if refusal is None and isinstance(table, GopTable)
    }
    kinds = {table.parameters.parameter_sets for table in fitting.values()}
    only_cuts = all(join.type is TransitionType.CUT for join in plan.transitions)
    if not (only_cuts and len(fitting) == len(tables) and len(kinds) == 1):
        for index, table in list(fitting.items()):
            if table.parameters.parameter_sets != written.parameter_sets:
                refusals[index] = f"its stream parameters are not those that {encoder.name} writes"
                del fitting[index]
    return fitting, [
        f"clips[{clip.index}]: {clip.source.location} is encoded again: {refusal}"
        for clip, refusal in zip(plan.clips, refusals, strict=True)
        if refusal is not None
    ]


def _refusal(plan: Plan, clip: PlannedClip, table: GopTable | str, codec: str) -> str | None:
    """Why the clip's packets cannot stand in the film, None where they can."""
    if isinstance(table, str):
        return table
    found = table.parameters
    if found.codec != codec:
        return f"it is {found.codec}, not {codec}"
    if (found.size, found.fps) != (plan.size, plan.fps):
        return f"it is {found.size} at {found.fps} fps, not {plan.size} at {plan.fps}"
    if not np.array_equal(clip.pts, clip.source.frame_pts):
        return "its frames are not all shown once"
    if table.gops[-1].stop != len(clip.pts):
        return "some of its frames are never shown"
    return None


def _with_gops(plan: Plan, tables: Mapping[int, GopTable]) -> Plan:
    """The plan with all GOPs that no transition touches in chunks that are copied."""
    copied: set[FrameRange] = set()
    for index, table in tables.items():
        clip = plan.clips[index]
        untouched = [gop for gop in table.gops if (clip.weights[gop.start : gop.stop] == 1).all()]
        for run in _runs(untouched, math.ceil(SHORTEST_COPY_S * plan.fps)):
            copied.add(FrameRange(clip.frames.start + run.start, clip.frames.start + run.stop))
    borders = {*plan.borders, *(border for run in copied for border in (run.start, run.stop))}
    return replace(plan, borders=tuple(sorted(borders)), copied=frozenset(copied))


def _runs(gops: Sequence[FrameRange], enough: int) -> Iterator[FrameRange]:
    """GOPs, with neighbours put together until each run has `enough` frames."""
    run: FrameRange | None = None
    for gop in gops:
        if run is not None and run.stop == gop.start and len(run) < enough:
            run = FrameRange(run.start, gop.stop)
            continue
        if run is not None:
            yield run
        run = gop
    if run is not None:
        yield run


def _parameters_of(encoder: Encoder) -> VideoParameters:
    """The parameters of every chunk that the encoder writes, read from one black frame."""
    with TemporaryDirectory() as folder:
        path = Path(folder) / "frame.mp4"
        with ChunkWriter(encoder, path) as writer:
            writer.write(Picture(encoder.size))
        return read_chunk(path).parameters
