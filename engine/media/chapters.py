"""The chapters of a file, read and written. Reads no frame."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction

from av.container import OutputContainer

from engine.location import SourceLocation
from engine.media.container import open_container
from engine.storage.objects import ObjectReader


@dataclass(frozen=True, slots=True)
class ChapterMark:
    """A chapter of a file, from `start_s` to `stop_s`."""

    title: str
    start_s: Fraction
    stop_s: Fraction


def read_chapters(location: SourceLocation, store: ObjectReader | None = None) -> list[ChapterMark]:
    """The chapters of a media file, in its order. An object is read from `store`.

    A chapter without a title is called by its number. Raises `SourceError` where the file cannot be
    opened.
    """
    with open_container(location, store) as container:
        marks = []
        for number, chapter in enumerate(container.chapters(), start=1):
            unit = chapter["time_base"] or Fraction(1)
            title = chapter["metadata"].get("title") or f"Chapter {number}"
            marks.append(ChapterMark(title, chapter["start"] * unit, chapter["end"] * unit))
        return marks


def write_chapters(container: OutputContainer, chapters: Sequence[ChapterMark]) -> None:
    """Gives the chapters to a file before its first packet is written.

    FFmpeg stores their times in milliseconds. They are rounded up, so that a seek to a chapter
    lands on its first frame and not on the frame before.
    """
    milli = Fraction(1, 1000)
    container.set_chapters(
        [
            {
                "id": number,
                "start": math.ceil(chapter.start_s / milli),
                "end": math.ceil(chapter.stop_s / milli),
                "time_base": milli,
                "metadata": {"title": chapter.title},
            }
            for number, chapter in enumerate(chapters)
        ]
    )
