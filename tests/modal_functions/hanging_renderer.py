"""A renderer, for a process of its own, that gets stuck in the middle of a chunk."""

from __future__ import annotations

import os
import time
from pathlib import Path
from typing import Any

from modal_functions import renderer
from modal_functions.renderer import RendererState


def render_and_hang(
    job_id: str, bundle_key: str, bundle_sha256: str, digests: list[str]
) -> dict[str, Any]:
    """Renders five frames and says so by the file FRAMESTREAM_TEST_MARKER; then waits."""
    counted = renderer._CallProgress.frames

    def hang(turn: renderer._CallProgress, count: int) -> None:
        counted(turn, count)
        if turn._frames == 5:
            Path(os.environ["FRAMESTREAM_TEST_MARKER"]).touch()
            time.sleep(60)

    renderer._CallProgress.frames = hang  # type: ignore[assignment, method-assign]
    return RendererState().render_chunks(job_id, bundle_key, bundle_sha256, digests)
