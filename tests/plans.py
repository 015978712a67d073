"""A plan over sources that exist only as values."""

from __future__ import annotations

from engine.geometry import Rect, Size
from engine.timeline.edit import Clip, CropKeyframe, Edit, SpeedSegment, Transition
from engine.timeline.plan import Plan, build_plan
from tests.sources import a_source


def three_clip_plan(*, name: str = "second.mp4", title: str | None = None) -> Plan:
    """Three clips: a pan, slow motion, fast motion; a dissolve and a cut between them."""
    pan = [CropKeyframe(0, Rect(0, 0, 600, 1066)), CropKeyframe(2, Rect(1320, 14, 600, 1066))]
    clips = [
        Clip("first.mp4", pan, 0.5, 3, title="Kick-off"),
        Clip(name, (), 0, 2, [SpeedSegment(0, 1, 0.5)], title=title),
        Clip("first.mp4", (), 0, 1, [SpeedSegment(0, 1, 2)]),
    ]
    edit = Edit(clips, [Transition("dissolve", 0.5), Transition()], 30, Size(1080, 1920))
    return build_plan(edit, [a_source("first.mp4"), a_source(name), a_source("first.mp4")])
