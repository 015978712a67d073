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
    from engine.edit import Clip as Clip
    from engine.edit import CropKeyframe as CropKeyframe
    from engine.edit import Ease as Ease
    from engine.edit import Edit as Edit
    from engine.edit import SpeedSegment as SpeedSegment
    from engine.edit import Transition as Transition
    from engine.edit import TransitionType as TransitionType
    from engine.encode import Encoder as Encoder
    from engine.encode import choose_encoder as choose_encoder
    from engine.errors import Cancelled as Cancelled
    from engine.errors import EditError as EditError
    from engine.errors import EngineError as EngineError
    from engine.exporter import Listener as Listener
    from engine.exporter import export as export
    from engine.exporter import probe_sources as probe_sources
    from engine.geometry import Fit as Fit
    from engine.geometry import Rect as Rect
    from engine.geometry import Size as Size
    from engine.plan import Plan as Plan
    from engine.plan import build_plan as build_plan
    from engine.processes import LocalProcesses as LocalProcesses
    from engine.progress import Progress as Progress
    from engine.report import Report as Report
    from engine.upscale.choice import choose_upscaler as choose_upscaler
    from engine.upscale.upscaler import Upscaler as Upscaler

_HOMES = {
    "engine.edit": (
        "Clip",
        "CropKeyframe",
        "Ease",
        "Edit",
        "SpeedSegment",
        "Transition",
        "TransitionType",
    ),
    "engine.encode": ("Encoder", "choose_encoder"),
    "engine.errors": ("Cancelled", "EditError", "EngineError"),
    "engine.exporter": ("Listener", "export", "probe_sources"),
    "engine.geometry": ("Fit", "Rect", "Size"),
    "engine.plan": ("Plan", "build_plan"),
    "engine.processes": ("LocalProcesses",),
    "engine.progress": ("Progress",),
    "engine.report": ("Report",),
    "engine.upscale.choice": ("choose_upscaler",),
    "engine.upscale.upscaler": ("Upscaler",),
}
_HOME_OF = {name: home for home, names in _HOMES.items() for name in names}

__all__ = sorted(_HOME_OF)


def __getattr__(name: str) -> object:
    if name not in _HOME_OF:
        raise AttributeError(f"module 'engine' has no attribute {name!r}")
    return getattr(import_module(_HOME_OF[name]), name)


def __dir__() -> list[str]:
    return __all__
