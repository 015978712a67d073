"""What a worker decides before it decodes a frame: sources, plan and encoder of a task."""

from __future__ import annotations

from dataclasses import replace
from functools import partial

from backend.assignment import INPUT_ERRORS, Assignment
from backend.source_cache import SourceCache
from backend.tasks import ExportMode, RenderTask
from engine.errors import EditError
from engine.location import SourceLocation
from engine.media.encoders import Encoder, choose_encoder
from engine.source import SourceInfo
from engine.timeline.edit import Edit
from engine.timeline.plan import Plan, build_plan


def source_info(assignment: Assignment, location: SourceLocation) -> SourceInfo:
    """What a source of the assignment's user is. It is probed only if no worker did that before.

    Raises `SourceError`, `DecodeError`, `ObjectMissingError`.
    """
    cache = SourceCache(assignment.source_cache, assignment.user_id)
    return cache.source_info(location, assignment.sources)


def task_source(assignment: Assignment, file_name: str) -> SourceInfo:
    """A source of the assignment's task: an object of the store, or a file of its folder.

    Raises what `source_info` raises.
    """
    task = assignment.task
    assert task is not None
    if key := task.keys.get(file_name):
        return source_info(assignment, assignment.store.source(key))
    return source_info(assignment, assignment.folder / file_name)


def plan_task(assignment: Assignment, task: RenderTask) -> Plan:
    """The plan of a task, with all warnings. Raises `EditError` that names the clip."""
    edit = Edit.parse(task.edit, unknown="warn")
    sources: dict[str, SourceInfo] = {}
    for index, clip in enumerate(edit.clips):
        if clip.file_name not in sources:
            try:
                sources[clip.file_name] = task_source(assignment, clip.file_name)
            except INPUT_ERRORS as error:
                raise EditError(f"clips[{index}]", str(error)) from error
    plan = build_plan(edit, [sources[clip.file_name] for clip in edit.clips])
    return replace(plan, warnings=(*task.warnings, *plan.warnings))


def encoder_for(assignment: Assignment, plan: Plan, mode: ExportMode) -> Encoder:
    """The encoder for the assignment and the mode on this machine. Raises `EngineError`."""
    given_s = assignment.key_interval_s if plan.key_interval_s is None else plan.key_interval_s
    options = dict(assignment.encoder_options)
    choose = partial(choose_encoder, plan.size, plan.fps, options=options, key_interval_s=given_s)
    chosen = choose(name=assignment.encoder)
    preset = mode.preset_of(chosen.name)
    return chosen if preset is None else choose(name=chosen.name, preset=preset)
