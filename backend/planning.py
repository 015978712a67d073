"""What a worker decides before it decodes a frame: sources, plan and encoder of a task."""

from __future__ import annotations

from backend.assignment import INPUT_ERRORS, Assignment
from backend.tasks import ExportMode, RenderTask
from engine.errors import EditError
from engine.media.encoders import Encoder, choose_encoder
from engine.media.probe import probe
from engine.source import SourceInfo
from engine.timeline.edit import Edit
from engine.timeline.plan import Plan, build_plan


def probe_source(assignment: Assignment, file_name: str) -> SourceInfo:
    """Probes a source of the assignment's task: an object of the store, or a file of its folder.

    Raises `SourceError`, `DecodeError`, `ObjectMissingError`.
    """
    task = assignment.task
    assert task is not None
    if key := task.keys.get(file_name):
        return probe(assignment.store.source(key), assignment.store)
    return probe(assignment.folder / file_name)


def plan_task(assignment: Assignment, task: RenderTask) -> Plan:
    """The plan of a task. Raises `EditError` that names the clip."""
    edit = Edit.parse(task.edit, unknown="warn")
    sources: dict[str, SourceInfo] = {}
    for index, clip in enumerate(edit.clips):
        if clip.file_name not in sources:
            try:
                sources[clip.file_name] = probe_source(assignment, clip.file_name)
            except INPUT_ERRORS as error:
                raise EditError(f"clips[{index}]", str(error)) from error
    return build_plan(edit, [sources[clip.file_name] for clip in edit.clips])


def encoder_for(assignment: Assignment, plan: Plan, mode: ExportMode) -> Encoder:
    """The encoder for the assignment and the mode on this machine. Raises `EngineError`."""
    options = dict(assignment.encoder_options)
    chosen = choose_encoder(plan.size, plan.fps, name=assignment.encoder, options=options)
    if mode is ExportMode.FAST:
        return chosen
    preset = "medium" if chosen.name == "libx264" else "p7"
    return choose_encoder(plan.size, plan.fps, name=chosen.name, preset=preset, options=options)
