"""What a worker does before a request is accepted: checks a task, probes one file."""

from __future__ import annotations

from typing import Any

from backend.assignment import Assignment
from backend.planning import plan_task, source_info, task_source
from backend.tasks import RenderTask
from engine.media.chapters import read_chapters
from engine.pipeline.cut import cut_warnings, planned_cut
from engine.pipeline.documents import source_document


def check(assignment: Assignment) -> dict[str, Any]:
    """`frames`, `duration_s` and `warnings` of what the task would give.

    Raises `EngineError` if it cannot be done.
    """
    task = assignment.task
    if isinstance(task, RenderTask):
        plan = plan_task(assignment, task)
        return {
            "frames": plan.frame_count,
            "duration_s": float(plan.duration_s),
            "warnings": list(plan.warnings),
        }
    assert task is not None
    source = task_source(assignment, task.file_name)
    cut = planned_cut(source, task.start_s, task.stop_s)
    return {
        "frames": len(cut.frames),
        "duration_s": float(cut.duration_s),
        "warnings": [*task.warnings, *cut_warnings(source, task.stop_s)],
    }


def probe_file(assignment: Assignment) -> dict[str, Any]:
    """`file` and `chapters` of a file in the assignment's folder, or of an object."""
    location = (
        assignment.folder / assignment.probed
        if assignment.probed
        else assignment.store.source(assignment.output_key)
    )
    chapters = [
        {"title": each.title, "start_time": float(each.start_s), "end_time": float(each.stop_s)}
        for each in read_chapters(location, assignment.sources)
    ]
    return {
        "file": {**source_document(source_info(assignment, location)), "path": location.name},
        "chapters": chapters,
    }
