"""The chapters that a file names. Reads no frame."""

from __future__ import annotations

from fractions import Fraction

from engine.media.container import open_container
from engine.media.join import ChapterMark
from engine.source import SourcePlace


def read_chapters(path: SourcePlace) -> list[ChapterMark]:
    """The chapters of a media file, in its order. Raises SourceError where it cannot be opened."""
    with open_container(path) as container:
        marks = []
        for number, chapter in enumerate(container.chapters(), start=1):
            unit = chapter["time_base"] or Fraction(1)
            title = chapter["metadata"].get("title") or f"Chapter {number}"
            marks.append(ChapterMark(title, chapter["start"] * unit, chapter["end"] * unit))
        return marks
