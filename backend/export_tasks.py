"""What a worker does for a job: renders or cuts, and puts the result into the store."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any, TypeAlias

from backend.assignment import Assignment
from backend.planning import encoder_for, plan_task, task_source
from backend.tasks import ExtractTask, RenderTask
from engine.errors import EngineError
from engine.pipeline.estimate import measured
from engine.pipeline.exporter import Listener, export
from engine.pipeline.extract import extract
from engine.pipeline.history import History
from engine.pipeline.local import LocalWorkers
from engine.pipeline.report import Report
from engine.timeline.plan import Plan
from engine.upscale.choice import choose_upscaler

OUTPUT_FILE = "out.mp4"
PARTS_FOLDER = "parts"

_REPORT_INTERVAL_S = 0.2

SendEvent: TypeAlias = Callable[..., None]
"""Called with an event's name and its fields by keyword; `worker.py` sends it to the server."""


def run_export(assignment: Assignment, send_event: SendEvent) -> dict[str, Any]:
    """Does the assignment's task: `duration_s`, `details` and `report` of what was made."""
    if isinstance(assignment.task, ExtractTask):
        return _extract(assignment, assignment.task, send_event)
    assert assignment.task is not None
    return _render(assignment, assignment.task, send_event)


def _render(assignment: Assignment, task: RenderTask, send_event: SendEvent) -> dict[str, Any]:
    plan = plan_task(assignment, task)
    output = assignment.folder / OUTPUT_FILE
    report = export(
        plan,
        output,
        upscaler=choose_upscaler(assignment.upscaler),
        encoder=encoder_for(assignment, plan, task.mode),
        executor=LocalWorkers(assignment.workers, exports=assignment.local_jobs),
        work_dir=assignment.folder / PARTS_FOLDER,
        keep_parts=True,  # until the job's row says that it is done
        listener=Listener(on_progress=lambda at: send_event("progress", **asdict(at))),
        store=assignment.sources,
    )
    _record_history(plan, report)
    _upload(assignment, output, send_event)
    return {
        "duration_s": report.duration_s,
        "details": {"frames": report.frames, "warnings": list(report.warnings)},
        "report": {**asdict(report), "output": output.name},
    }


def _record_history(plan: Plan, report: Report) -> None:
    """Adds the export's speed to the history of estimates. An export never fails because of it."""
    with contextlib.suppress(OSError, EngineError):
        if (run := measured(plan, report)) is not None:
            History.of_user().add(run)


def _extract(assignment: Assignment, task: ExtractTask, send_event: SendEvent) -> dict[str, Any]:
    output = assignment.folder / OUTPUT_FILE
    made = extract(
        task_source(assignment, task.file_name),
        task.start_s,
        task.stop_s,
        output,
        store=assignment.sources,
        on_progress=_rate_limited(
            lambda done, total: send_event(
                "progress", phase="frames", frames_done=done, frames_total=total
            )
        ),
        key_interval_s=assignment.key_interval_s,
    )
    _upload(assignment, output, send_event)
    document = {**asdict(made), "warnings": [*task.warnings, *made.warnings]}
    return {"duration_s": float(made.duration_s), "details": document, "report": document}


def _upload(assignment: Assignment, output: Path, send_event: SendEvent) -> None:
    size = output.stat().st_size
    send_event("upload", share=0)
    on_bytes = _rate_limited(lambda done: send_event("upload", share=done / size))
    assignment.store.put_file(assignment.output_key, output, on_bytes=on_bytes)


def _rate_limited(call: Callable[..., None]) -> Callable[..., None]:
    """Passes a call on if the last one passed on was `_REPORT_INTERVAL_S` ago or longer."""
    last_s = 0.0

    def limited(*numbers: int) -> None:
        nonlocal last_s
        if time.monotonic() - last_s >= _REPORT_INTERVAL_S:
            last_s = time.monotonic()
            call(*numbers)

    return limited
