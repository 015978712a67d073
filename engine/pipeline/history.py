"""How fast exports were here: a small JSON file of measured runs. Knows no plan.

It serves only estimates. A file that cannot be read counts as empty. It may be deleted at any time.
"""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from dataclasses import asdict, dataclass, fields
from pathlib import Path

import platformdirs

from engine.files import whole_file
from engine.geometry import Size

VARIABLE = "FRAMESTREAM_HISTORY"
"""The environment variable that names another file than the user's own."""

KEPT_PER_KIND = 8
"""How many runs of one kind are kept: the latest."""


@dataclass(frozen=True, slots=True)
class Run:
    """One measured export that rendered every frame."""

    upscaler: str
    encoder: str
    width: int
    height: int
    workers: int
    frames: int
    source_frames: int
    wall_s: float

    @property
    def kind(self) -> tuple[str, str, int, int, int]:
        """Runs of one kind are as fast as each other, per frame."""
        return self.upscaler, self.encoder, self.width, self.height, self.workers


class History:
    """The runs in one file."""

    def __init__(self, path: Path) -> None:
        self._path = path

    @classmethod
    def of_user(cls) -> History:
        """The history of the program's user, or the file that the environment names."""
        named = os.environ.get(VARIABLE)
        return cls(Path(named) if named else platformdirs.user_cache_path("framestream") / "speeds")

    def add(self, run: Run) -> None:
        """Keeps a run. Raises OSError or OutputError where the file cannot be written."""
        alike = [each for each in self.runs() if each.kind == run.kind]
        others = [each for each in self.runs() if each.kind != run.kind]
        kept = [*others, *[*alike, run][-KEPT_PER_KIND:]]
        self._path.parent.mkdir(parents=True, exist_ok=True)
        with whole_file(self._path) as unfinished:
            unfinished.write_text(json.dumps([asdict(each) for each in kept], indent=1))

    def runs(self) -> list[Run]:
        """Every run that is kept."""
        try:
            return [_run(each) for each in json.loads(self._path.read_text())]
        except (OSError, ValueError, TypeError, LookupError):
            return []

    def alike(self, upscaler: str, encoder: str, size: Size, workers: int) -> Sequence[Run]:
        """The runs of one kind, oldest first."""
        kind = upscaler, encoder, size.width, size.height, workers
        return [each for each in self.runs() if each.kind == kind]


def _run(document: dict[str, object]) -> Run:
    run = Run(**{field.name: document[field.name] for field in fields(Run)})  # type: ignore[arg-type]
    if not (run.frames > 0 and run.source_frames > 0 and run.wall_s > 0):
        raise ValueError("a run took time")
    return run
