"""What a worker does for the page: filmstrips, exact frames, estimates, facts of a finished film.

It puts pictures into the assignment's folder, and everything else into its result.
"""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

from backend.assignment import FILMSTRIP_FILE, FRAME_FILE, Assignment
from backend.planning import encoder_for, plan_task, source_info
from backend.tasks import RenderTask
from engine.media.image import jpeg, png
from engine.media.inspect import read_proof
from engine.pipeline.documents import estimate_document, source_document, timeline_document
from engine.pipeline.estimate import estimate
from engine.pipeline.filmstrip import filmstrip, sound_peaks
from engine.pipeline.history import History
from engine.pipeline.still import render_still
from engine.upscale.choice import choose_upscaler

STRIP_COUNT = 24
STRIP_HEIGHT_PX = 90
PEAK_COUNT = 480
MAX_WARNINGS = 20
MAX_WARNING_CHARS = 200
"""Of an exact frame: its warnings travel in a header."""


def preview_clip(assignment: Assignment) -> dict[str, Any]:
    """A stored clip's facts, its filmstrip, and the peaks of its sound."""
    source = source_info(assignment, assignment.store.source(assignment.output_key))
    document = source.to_document()
    warnings: list[str] = []
    strip = filmstrip(
        source, STRIP_COUNT, STRIP_HEIGHT_PX, on_warning=warnings.append, store=assignment.sources
    )
    (assignment.folder / FILMSTRIP_FILE).write_bytes(jpeg(strip.strip))
    return {
        "file": {
            **source_document(source),
            "width": source.display_size.width,
            "height": source.display_size.height,
        },
        "timing": {key: document[key] for key in ("timeBase", "framePts", "endPts")},
        "strip": {"count": strip.count, "width": strip.size.width, "height": strip.size.height},
        "peaks": sound_peaks(
            source, PEAK_COUNT, on_warning=warnings.append, store=assignment.sources
        ),
        "warnings": warnings,
    }


def preview_frame(assignment: Assignment) -> dict[str, Any]:
    """One exact output frame, written as a PNG. Past the end of the export it is the last frame."""
    task = _render_task(assignment)
    plan = plan_task(assignment, task)
    number = min(assignment.frame, plan.frame_count - 1)
    warnings = list(plan.warnings)
    upscaler = choose_upscaler(assignment.upscaler)
    picture = render_still(
        plan, number, upscaler, on_warning=warnings.append, store=assignment.sources
    )
    (assignment.folder / FRAME_FILE).write_bytes(png(picture))
    return {
        "frame": number,
        "frames": plan.frame_count,
        "upscaler": upscaler.name,
        "why": upscaler.why,
        "warnings": _first_few(warnings),
    }


def _first_few(warnings: list[str]) -> list[str]:
    """As many as fit into a header of HTTP, and how many more there are."""
    more = len(warnings) - MAX_WARNINGS
    few = [each[:MAX_WARNING_CHARS] for each in warnings[:MAX_WARNINGS]]
    return [*few, f"{more} more warnings"] if more > 0 else few


def estimate_export(assignment: Assignment) -> dict[str, Any]:
    """The plan of an edit, and how long its export will take."""
    task = _render_task(assignment)
    plan = plan_task(assignment, task)
    expected = estimate(
        plan,
        History.of_user(),
        upscaler=choose_upscaler(assignment.upscaler),
        encoder=encoder_for(assignment, plan, task.mode),
        workers=assignment.workers,
        exports=assignment.local_jobs,
        modal_upscaler=assignment.upscaler,
    )
    return {"plan": timeline_document(plan), "estimate": estimate_document(expected)}


def read_back(assignment: Assignment) -> dict[str, Any]:
    """What the finished film at `output_key` holds, read from its file."""
    proof = read_proof(assignment.store.source(assignment.output_key), assignment.sources)
    return {**asdict(proof), "size": str(proof.size), "fps": str(proof.fps)}


def _render_task(assignment: Assignment) -> RenderTask:
    assert isinstance(assignment.task, RenderTask)
    return assignment.task
