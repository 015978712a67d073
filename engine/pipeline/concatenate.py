"""Puts finished files end to end: packets are copied, and only what a transition touches is
encoded again.

An export like any other, of a plan whose chunks are the files' own GOPs: those that show a file as
it is are copied instead of rendered. So resume, sound, chapters and checks are the exporter's.
"""

from __future__ import annotations

from collections.abc import Generator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, replace
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np

from engine.errors import ChunkError
from engine.media.chunk_writer import ChunkWriter, EncodedChunk
from engine.media.encoders import Encoder, choose_encoder
from engine.media.gops import GopTable, copy_gops, gop_table
from engine.media.join import ChunkFacts, chunk_facts
from engine.pipeline.executors import Executor, InProcess, Kit, Rendered, Watch
from engine.pipeline.exporter import Listener, export, probe_sources
from engine.pipeline.progress import StageClock
from engine.pipeline.report import Report
from engine.pixels.picture import Picture
from engine.timeline.chunks import Chunk
from engine.timeline.edit import DEFAULT_FPS, DEFAULT_SIZE, Clip, Edit, Transition, TransitionType
from engine.timeline.plan import Plan, PlannedClip, build_plan
from engine.timing import FrameRange
from engine.upscale.stage import PlainResampler

CUT = Transition(TransitionType.CUT)


def concatenate(
    clips: Sequence[Path | str],
    destination: Path | str,
    *,
    transitions: Transition | Sequence[Transition] = CUT,
    titles: Sequence[str | None] | None = None,
    include_audio: bool = True,
    encoder: Encoder | None = None,
    executor: Executor | None = None,
    work_dir: Path | str | None = None,
    listener: Listener | None = None,
) -> Report:
    """Joins `clips` into one MP4 of the size and rate of the first whose GOPs could be copied.

    A clip that the same encoder wrote as closed GOPs keeps its packets but where a transition
    touches them; any other is encoded again, and the report's warnings say why. The sound is mixed
    and encoded anew. `encoder` renders what is not copied: by default the one that export would
    choose. Each clip is a chapter, named by `titles` or its file. Raises `EngineError`.
    """
    paths = [Path(path) for path in clips]
    tables = [_table(path) for path in paths]
    edit = _edit(paths, tables, transitions, titles, include_audio)
    plan = build_plan(edit, probe_sources(edit))
    encoder = encoder or choose_encoder(plan.size, plan.fps)
    copied, refusals = _copied(plan, tables, encoder)
    plan = replace(plan, borders=_with_gops(plan, copied), warnings=(*plan.warnings, *refusals))
    return export(
        plan,
        destination,
        upscaler=PlainResampler("clips are joined as they are"),
        encoder=encoder,
        executor=PacketCopies(copied, executor or InProcess()),
        work_dir=work_dir,
        listener=listener,
    )


@dataclass(frozen=True, slots=True)
class PacketCopies:
    """An `Executor` that copies chunks which are GOPs of a clip, and leaves the rest to another."""

    tables: Mapping[int, GopTable]
    """Of the clips that may be copied, by their place in the plan."""
    others: Executor

    @property
    def name(self) -> str:
        return f"packet copies and {self.others.name}"

    @property
    def why(self) -> str:
        return self.others.why

    @property
    def workers(self) -> int:
        return self.others.workers

    def render(
        self, chunks: Sequence[Chunk], kit: Kit, watch: Watch
    ) -> Generator[Rendered, None, None]:
        """See `Executor`."""
        copies: dict[int, dict[FrameRange, Chunk]] = {}
        for chunk in chunks:
            if (gop := self._gop(chunk)) is not None:
                copies.setdefault(chunk.layers[0].clip.index, {})[gop] = chunk
        for by_gop in copies.values():
            yield from _copied_chunks(by_gop, kit, watch)
        with closing(
            self.others.render([c for c in chunks if self._gop(c) is None], kit, watch)
        ) as rendered:
            yield from rendered

    def _gop(self, chunk: Chunk) -> FrameRange | None:
        """The GOP of a clip's file that is the chunk, if there is one."""
        layer = chunk.layers[0]
        table = self.tables.get(layer.clip.index)
        if table is None or len(chunk.layers) > 1 or (layer.weights != 1).any():
            return None
        start = chunk.frames.start - layer.clip.frames.start
        frames = FrameRange(start, start + len(chunk.frames))
        return frames if frames in table.gops else None


def _copied_chunks(
    by_gop: Mapping[FrameRange, Chunk], kit: Kit, watch: Watch
) -> Generator[Rendered, None, None]:
    path = next(iter(by_gop.values())).layers[0].clip.source.path
    assert isinstance(path, Path)  # `concatenate` was given files
    places = {gop: kit.chunk_store.path(chunk) for gop, chunk in by_gop.items()}
    clock = StageClock()
    for gop in clock.timed("copy", copy_gops(path, places)):
        chunk = by_gop[gop]
        # what the encoder was given is not known any more
        encoded = EncodedChunk(
            len(gop), f"frames {gop} of {chunk.layers[0].clip.source.fingerprint}"
        )
        record = kit.chunk_store.accept(chunk, encoded, kit.encoder)
        watch.frames(len(gop))
        yield Rendered(chunk, record, clock.taken(), decoded_frames=0)


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
    """The edit that shows every file from end to end, as it is where it has the target's size."""
    target = next((table for table in tables if isinstance(table, GopTable)), None)
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


def _copied(
    plan: Plan, tables: Sequence[GopTable | str], encoder: Encoder
) -> tuple[dict[int, GopTable], list[str]]:
    """The tables of the clips that may be copied, by place, and why the others may not."""
    written = _facts_of(encoder)
    refusals = [
        _refusal(plan, clip, table, written.codec)
        for clip, table in zip(plan.clips, tables, strict=True)
    ]
    fitting = {
        clip.index: table
        for clip, table, refusal in zip(plan.clips, tables, refusals, strict=True)
        if refusal is None and isinstance(table, GopTable)
    }
    kinds = {table.parameter_sets for table in fitting.values()}
    only_cuts = all(join.type is TransitionType.CUT for join in plan.transitions)
    if not (only_cuts and len(fitting) == len(tables) and len(kinds) == 1):
        for index, table in list(fitting.items()):
            if table.parameter_sets != written.parameter_sets:
                refusals[index] = f"its stream parameters are not those that {encoder.name} writes"
                del fitting[index]
    return fitting, [
        f"clips[{clip.index}]: {clip.source.path} is encoded again: {refusal}"
        for clip, refusal in zip(plan.clips, refusals, strict=True)
        if refusal is not None
    ]


def _refusal(plan: Plan, clip: PlannedClip, table: GopTable | str, codec: str) -> str | None:
    if isinstance(table, str):
        return table
    if table.codec != codec:
        return f"it is {table.codec}, not {codec}"
    if (table.size, table.fps) != (plan.size, plan.fps):
        return f"it is {table.size} at {table.fps} fps, not {plan.size} at {plan.fps}"
    if not np.array_equal(clip.pts, clip.source.frame_pts):
        return "its frames are not all shown once"
    return None


def _with_gops(plan: Plan, tables: Mapping[int, GopTable]) -> tuple[int, ...]:
    """The plan's borders, and those of every GOP that no transition touches."""
    borders = set(plan.borders)
    for index, table in tables.items():
        clip = plan.clips[index]
        for gop in table.gops:
            if (clip.weights[gop.start : gop.stop] == 1).all():
                borders |= {clip.frames.start + gop.start, clip.frames.start + gop.stop}
    return tuple(sorted(borders))


def _facts_of(encoder: Encoder) -> ChunkFacts:
    """What every chunk of the encoder's is like, from one black frame."""
    with TemporaryDirectory() as folder:
        path = Path(folder) / "frame.mp4"
        with ChunkWriter(encoder, path) as writer:
            writer.write(Picture(encoder.size))
        return chunk_facts(path)
