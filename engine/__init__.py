"""framestream: an edit in, one finished MP4 out.

    from engine import Edit, build_plan, export, probe_sources

    edit = Edit.load("edit.json")
    plan = build_plan(edit, probe_sources(edit, "."))
    report = export(plan, "out.mp4")

Importing this package opens no device, reads no environment and loads nothing heavy: a name is
imported when it is first used.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from engine.errors import Cancelled as Cancelled
    from engine.errors import EditError as EditError
    from engine.errors import EngineError as EngineError
    from engine.geometry import Fit as Fit
    from engine.geometry import Rect as Rect
    from engine.geometry import Size as Size
    from engine.media.encoders import Encoder as Encoder
    from engine.media.encoders import choose_encoder as choose_encoder
    from engine.pipeline.exporter import Listener as Listener
    from engine.pipeline.exporter import export as export
    from engine.pipeline.exporter import probe_sources as probe_sources
    from engine.pipeline.local import LocalWorkers as LocalWorkers
    from engine.pipeline.processes import LocalProcesses as LocalProcesses
    from engine.pipeline.progress import Progress as Progress
    from engine.pipeline.report import Report as Report
    from engine.timeline.clip import Clip as Clip
    from engine.timeline.clip import CropKeyframe as CropKeyframe
    from engine.timeline.clip import Ease as Ease
    from engine.timeline.clip import SpeedSegment as SpeedSegment
    from engine.timeline.edit import Edit as Edit
    from engine.timeline.plan import Plan as Plan
    from engine.timeline.plan import build_plan as build_plan
    from engine.timeline.transition import Transition as Transition
    from engine.timeline.transition import TransitionType as TransitionType
    from engine.upscale.choice import choose_upscaler as choose_upscaler
    from engine.upscale.stage import Upscaler as Upscaler

_NAMES_BY_MODULE = {
    "engine.timeline.clip": ("Clip", "CropKeyframe", "Ease", "SpeedSegment"),
    "engine.timeline.edit": ("Edit",),
    "engine.timeline.transition": ("Transition", "TransitionType"),
    "engine.media.encoders": ("Encoder", "choose_encoder"),
    "engine.errors": ("Cancelled", "EditError", "EngineError"),
    "engine.pipeline.exporter": ("Listener", "export", "probe_sources"),
    "engine.geometry": ("Fit", "Rect", "Size"),
    "engine.timeline.plan": ("Plan", "build_plan"),
    "engine.pipeline.local": ("LocalWorkers",),
    "engine.pipeline.processes": ("LocalProcesses",),
    "engine.pipeline.progress": ("Progress",),
    "engine.pipeline.report": ("Report",),
    "engine.upscale.choice": ("choose_upscaler",),
    "engine.upscale.stage": ("Upscaler",),
}
_MODULE_OF = {name: module for module, names in _NAMES_BY_MODULE.items() for name in names}

__all__ = sorted(_MODULE_OF)


def __getattr__(name: str) -> object:
    if name not in _MODULE_OF:
        raise AttributeError(f"module 'engine' has no attribute {name!r}")
    return getattr(import_module(_MODULE_OF[name]), name)


def __dir__() -> list[str]:
    return __all__
