"""How fast exports were here: a small record of measured runs. Knows no plan.

It serves only estimates. A file that cannot be read, or is damaged, counts as empty. It may be
deleted at any time.
"""

from __future__ import annotations

import fcntl
import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass, fields
from pathlib import Path

from engine.destination import real_file
from engine.errors import EngineError, OutputError
from engine.geometry import Size
from engine.records import read_record, write_record
from engine.user_cache import user_cache

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
    """The runs in one file. Several processes may use it at the same time."""

    def __init__(self, path: Path | None) -> None:
        """Where `path` is None there is no place for a history: it stays empty."""
        self._path = path

    @classmethod
    def of_user(cls) -> History:
        """The history of the program's user, or the file that the environment names."""
        if named := os.environ.get(VARIABLE):
            return cls(Path(named))
        folder = user_cache()
        return cls(folder and folder / "speeds")

    def add(self, run: Run) -> None:
        """Keeps a run. Raises `EngineError` where the file cannot be written."""
        if self._path is None:
            raise EngineError(f"the user has no home for a history; {VARIABLE} may name a file")
        with _one_at_a_time(self._path):
            runs = self.runs()
            alike = [each for each in runs if each.kind == run.kind]
            others = [each for each in runs if each.kind != run.kind]
            kept = [*others, *[*alike, run][-KEPT_PER_KIND:]]
            write_record(self._path, {"runs": [asdict(each) for each in kept]})

    def runs(self) -> list[Run]:
        """Every run that is kept."""
        document = self._path and read_record(self._path)
        try:
            return [_run(each) for each in document["runs"]] if document else []
        except (ValueError, TypeError, LookupError):
            return []

    def alike(self, upscaler: str, encoder: str, size: Size, workers: int) -> Sequence[Run]:
        """The runs of one kind, oldest first."""
        kind = upscaler, encoder, size.width, size.height, workers
        return [each for each in self.runs() if each.kind == kind]


@contextmanager
def _one_at_a_time(path: Path) -> Iterator[None]:
    """Waits until no other process changes the file. Raises `OutputError`."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        real = real_file(path)
        with real.with_name(f".{real.name}.lock").open("w") as lock:
            with suppress(OSError):  # no locks in this file system: then a run may get lost
                fcntl.flock(lock, fcntl.LOCK_EX)
            yield
    except OSError as error:
        raise OutputError(path, error) from error


def _run(document: dict[str, object]) -> Run:
    run = Run(**{field.name: document[field.name] for field in fields(Run)})  # type: ignore[arg-type]
    if not (run.frames > 0 and run.source_frames > 0 and run.wall_s > 0):
        raise ValueError("a run took time")
    return run
