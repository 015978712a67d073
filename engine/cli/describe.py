"""Plans, estimates and sources as text: tables for people, CSV with a row per frame, JSON."""

from __future__ import annotations

import csv
import json
from fractions import Fraction
from itertools import pairwise
from typing import Any, TextIO

from rich import box
from rich.table import Table
from rich.text import Text

from engine.cli.progress_view import clock_text
from engine.pipeline.documents import source_document
from engine.pipeline.estimate import ASSUMPTIONS, Estimate
from engine.source import SourceInfo
from engine.timeline.plan import Plan, PlannedClip, PlannedTransition
from engine.timing import FrameRange, frame_time_s


def timeline_table(plan: Plan) -> Table:
    """One row per clip: where it plays, what it shows, at which speed, through which crop."""
    table = Table(
        title=_headline(plan), title_justify="left", title_style="bold", box=box.SIMPLE_HEAD
    )
    table.add_column("#", justify="right")
    table.add_column("clip", overflow="fold")
    for heading in ("plays (frames)", "shows", "crop"):
        table.add_column(heading, no_wrap=True)
    for clip in plan.clips:
        table.add_row(str(clip.index), _names(clip), _plays(clip, plan), _shows(clip), _crop(clip))
        if clip.index < len(plan.transitions):
            table.add_row("", Text(_transition(plan.transitions[clip.index]), "italic"))
    return table


def estimate_table(estimate: Estimate) -> Table:
    """What an export will take, one fact per row."""
    modal = estimate.modal
    table = Table(box=None, show_header=False, pad_edge=False)
    table.add_column("what", style="bold", no_wrap=True)
    table.add_column("how much", overflow="fold")
    chunks = _counted(len(estimate.chunk_frames), "chunk")
    table.add_row("to render", f"{estimate.frames} frames in {chunks}")
    table.add_row(
        "from",
        f"{estimate.source_frames} source frames, {estimate.upscaled_frames} of them to upscale",
    )
    here = f"about {clock_text(estimate.here_s)}, " if estimate.here_s is not None else ""
    table.add_row("here", f"{here}{estimate.here_from}")
    containers = _counted(modal.containers, "container")
    table.add_row(
        "on Modal", f"about {clock_text(modal.wall_s)} and ${modal.cost_usd:.2f} in {containers}"
    )
    for number, assumption in enumerate(ASSUMPTIONS):
        table.add_row("" if number else "assuming", Text(assumption, "dim"))
    return table


def write_frames(plan: Plan, out: TextIO) -> None:
    """Writes CSV, a row per layer of each frame: source time, crop in source pixels, weight.

    A frame of a transition has two layers, hence two rows.
    """
    table = csv.writer(out, lineterminator="\n")
    table.writerow(["frame", "clip", "source_s", "x", "y", "width", "height", "weight"])
    for start, stop in pairwise(plan.borders):
        layers = plan.layers(FrameRange(start, stop))
        for row, frame in enumerate(range(start, stop)):
            for layer in layers:
                time_s = float(layer.clip.source.time_of(layer.pts[row]))
                rect = [f"{side:.3f}" for side in layer.rects[row]]
                table.writerow(
                    [frame, layer.clip.index, f"{time_s:.6f}", *rect, f"{layer.weights[row]:.6f}"]
                )


def source_table(source: SourceInfo) -> Table:
    """What a source file was found to be, one fact per row."""
    table = Table(title=Text(str(source.location)), title_justify="left", title_style="bold")
    table.add_column("fact", no_wrap=True)
    table.add_column("value", overflow="fold")
    for fact, value in source_document(source).items():
        table.add_row(fact, Text(str(value)))
    return table


def dump_document(document: dict[str, Any]) -> str:
    """Readable JSON."""
    return json.dumps(document, indent=2, ensure_ascii=False)


def _counted(count: int, what: str) -> str:
    return f"{count} {what}" if count == 1 else f"{count} {what}s"


def _headline(plan: Plan) -> str:
    sound = "sound" if plan.sound else "no sound"
    return (
        f"{plan.size}, {float(plan.fps):.5g} fps, {float(plan.duration_s):.3f} s: "
        f"{plan.frame_count} frames from {plan.source_frame_count()} source frames, {sound}"
    )


def _names(clip: PlannedClip) -> Text:
    path = clip.source.location
    return Text(path.name if clip.title == path.stem else f"{clip.title}\n{path.name}")


def _plays(clip: PlannedClip, plan: Plan) -> str:
    seconds = _span(
        frame_time_s(clip.frames.start, plan.fps), frame_time_s(clip.frames.stop, plan.fps)
    )
    return f"{seconds}\n{clip.frames}"


def _shows(clip: PlannedClip) -> str:
    pieces = clip.retiming.pieces
    lines = [_span(pieces[0].start_s, pieces[-1].stop_s)]
    if len(pieces) > 1:
        lines += [f"{float(each.speed):g}x from {float(each.start_s):g} s" for each in pieces]
    elif pieces[0].speed != 1:
        lines.append(f"{float(pieces[0].speed):g}x")
    return "\n".join(lines)


def _span(start_s: Fraction, stop_s: Fraction) -> str:
    return f"{float(start_s):.3f}-{float(stop_s):.3f} s"


def _crop(clip: PlannedClip) -> str:
    """The first and the last rectangle, where they differ."""
    first, last = (
        "{2:.0f}x{3:.0f}\nat {0:.0f},{1:.0f}".format(*rect) for rect in clip.rects[[0, -1]]
    )
    return first if first == last else f"{first}\nto {last}"


def _transition(transition: PlannedTransition) -> str:
    if not transition.frame_count:
        return "cut"
    return f"{transition.type}, {transition.frame_count} frames"
