"""Work for workers that goes wrong on order. They import this module, so it loads little."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Iterable, Iterator
from pathlib import Path

from engine.geometry import Framing, Size
from engine.media.encoders import Encoder, choose_encoder
from engine.pipeline.exporter import probe_sources
from engine.pixels.picture import Picture
from engine.source import SourceInfo
from engine.timeline.edit import Clip, Edit, Transition
from engine.timeline.plan import Plan, build_plan
from engine.upscale.stage import FrameCrop, PlainResampler


def planned(folder: Path) -> Plan:
    edit = Edit(
        [Clip("a.mp4"), Clip("b.mp4")], Transition("dissolve", 0.2), target_size=Size(128, 96)
    )
    return build_plan(edit, probe_sources(edit, folder))


def encoder_for(plan: Plan) -> Encoder:
    """Its bytes do not vary."""
    return choose_encoder(
        plan.size, plan.fps, name="libx264", preset="ultrafast", options={"bf": "0"}
    )


class Trapped(PlainResampler):
    """Plain resampling that springs a trap in the tenth frame of a chunk, while there are any.

    A trap is a file, named for the clip it lies in wait for, that says what happens: "hang", a
    signal's name, or the text of an error.
    """

    traps: Path

    def __init__(self, traps: Path) -> None:
        super().__init__("for a test")
        object.__setattr__(self, "traps", traps)

    def pictures(
        self, shots: Iterable[FrameCrop], source: SourceInfo, framing: Framing
    ) -> Iterator[Picture]:
        for number, picture in enumerate(super().pictures(shots, source, framing)):
            if number == 10:
                self.spring(source.location.stem)
            yield picture

    def spring(self, clip: str) -> None:
        for trap in sorted(self.traps.glob(f"trap {clip}*"))[:1]:
            what = trap.read_text()
            trap.unlink()
            if what == "hang":
                (self.traps / "hanging").touch()
                time.sleep(3600)
            elif what.startswith("SIG"):
                os.kill(os.getpid(), signal.Signals[what])
                time.sleep(10)
            else:
                raise ValueError(what)
