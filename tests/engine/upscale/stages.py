"""Upscalers of tests, around stages that are loaded already."""

from __future__ import annotations

from dataclasses import dataclass

from engine.upscale.stage import Stage, StageSpec


@dataclass(frozen=True, eq=False)
class Loaded:
    """The `StageSpec` of a stage that is there already."""

    stage: Stage
    key: str = "loaded"

    def load(self) -> Stage:
        return self.stage


@dataclass(frozen=True)
class PerClip:
    """An upscaler with a stage for crops that are enlarged, and one for the others."""

    above: Stage
    below: Stage
    name: str = "test"
    why: str = "test"
    device: str = "cpu"

    def stage_for(self, scale: float) -> StageSpec:
        return Loaded(self.above, "above") if scale > 1 else Loaded(self.below, "below")
