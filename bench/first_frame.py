"""Renders an edit up to its first picture, and prints how long that took since the process began.

    python -m bench.first_frame STARTED_S render EDIT.json --output OUT.mp4

It is the program as users run it, with its arguments. `STARTED_S` is the `time.monotonic()` of
whoever started it. It prints JSON, the seconds to the first decoded frame and to the first picture
that the encoder has taken, and ends there.
"""

from __future__ import annotations

import json
import os
import sys
import time
from collections.abc import Iterable, Iterator
from typing import Any

from engine.cli import main, render

_passed_s: dict[str, float] = {}


def run(started_s: float) -> None:
    """Runs the program, and ends this process at the first picture."""
    export = render.export_with_progress

    def watched(*arguments: Any, **options: Any) -> Any:
        _watch(started_s)
        return export(*arguments, **options)

    render.export_with_progress = watched
    main.main()


def _watch(started_s: float) -> None:
    from engine.media.chunk_writer import ChunkWriter
    from engine.media.video_reader import FrameReader

    surfaces, write = FrameReader.surfaces, ChunkWriter.write

    def read(self: FrameReader, wanted: Iterable[int]) -> Iterator[Any]:
        for frame in surfaces(self, wanted):
            _passed_s.setdefault("decoded_s", time.monotonic() - started_s)
            yield frame

    def written(self: ChunkWriter, picture: Any) -> None:
        write(self, picture)
        _passed_s["encoded_s"] = time.monotonic() - started_s
        sys.stdout.write(json.dumps(_passed_s))
        sys.stdout.flush()
        os._exit(0)

    FrameReader.surfaces, ChunkWriter.write = read, written  # type: ignore[method-assign]


if __name__ == "__main__":
    run(float(sys.argv.pop(1)))
