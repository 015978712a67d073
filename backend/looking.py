"""What the page shows of clips and edits, made in a worker: it opens videos.

Pictures are put into the assignment's folder, everything else into the answer.
"""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

from backend.tasks import RenderTask
from backend.worker import Assignment, What, encoder_for, planned
from engine.errors import UpscalerError

STRIP = "strip.jpg"
FRAME = "frame.png"

STRIP_COUNT = 24
STRIP_HEIGHT_PX = 90
PEAKS = 480


def looked(assignment: Assignment) -> dict[str, Any]:
    """Does an assignment of one of the kinds below."""
    if assignment.what is What.GLANCE:
        return _glance(assignment)
    if assignment.what is What.PROOF:
        return _proof(assignment)
    assert isinstance(assignment.task, RenderTask)
    if assignment.what is What.FRAME:
        return _frame(assignment, assignment.task)
    return _estimate(assignment, assignment.task)


def _glance(assignment: Assignment) -> dict[str, Any]:
    """What a clip is, its filmstrip, and the peaks of its sound."""
    from engine.cli.describe import source_document
    from engine.media.image import jpeg
    from engine.media.probe import probe
    from engine.pipeline.filmstrip import filmstrip, sound_peaks

    source = probe(assignment.store.source(assignment.output_key))
    warnings: list[str] = []
    strip = filmstrip(source, STRIP_COUNT, STRIP_HEIGHT_PX, on_warning=warnings.append)
    (assignment.folder / STRIP).write_bytes(jpeg(strip.strip))
    return {
        "file": {
            **source_document(source),
            "width": source.display_size.width,
            "height": source.display_size.height,
        },
        "strip": {"count": strip.count, "width": strip.size.width, "height": strip.size.height},
        "peaks": sound_peaks(source, PEAKS, on_warning=warnings.append),
        "warnings": warnings,
    }


def _frame(assignment: Assignment, task: RenderTask) -> dict[str, Any]:
    """One output frame, exactly, as a PNG; the last where the export is shorter."""
    from engine.media.image import png
    from engine.pipeline.still import render_still
    from engine.upscale.choice import choose_upscaler

    plan = planned(assignment, task)
    number = min(assignment.frame, plan.frame_count - 1)
    warnings: list[str] = []
    try:
        upscaler = choose_upscaler(assignment.upscaler)
        picture = render_still(plan, number, upscaler, on_warning=warnings.append)
    except UpscalerError as error:
        return {"refused": str(error)}
    (assignment.folder / FRAME).write_bytes(png(picture))
    return {
        "frame": number,
        "frames": plan.frame_count,
        "upscaler": upscaler.name,
        "why": upscaler.why,
        "warnings": warnings,
    }


def _estimate(assignment: Assignment, task: RenderTask) -> dict[str, Any]:
    """The plan of an edit, and what its export will take."""
    from engine.cli.describe import estimate_document, timeline_document
    from engine.pipeline.estimate import estimate
    from engine.pipeline.history import History
    from engine.upscale.choice import choose_upscaler

    plan = planned(assignment, task)
    takes = estimate(
        plan,
        History.of_user(),
        upscaler=choose_upscaler(assignment.upscaler),
        encoder=encoder_for(assignment, plan, task.mode),
        modal_upscaler=assignment.upscaler,
    )
    return {"plan": timeline_document(plan), "estimate": estimate_document(takes)}


def _proof(assignment: Assignment) -> dict[str, Any]:
    """What the finished film holds."""
    from engine.media.inspect import read_proof

    proof = read_proof(assignment.store.source(assignment.output_key))
    return {**asdict(proof), "size": str(proof.size), "fps": str(proof.fps)}
