"""A renderer that hangs in the middle of a chunk, for a process of its own."""

from __future__ import annotations

import os
import time
from pathlib import Path

from modal_functions import renderer
from modal_functions.protocol import ChunksResponse, FailedChunkResponse
from modal_functions.renderer import RendererState


def render_and_hang(
    job_id: str, bundle_key: str, bundle_sha256: str, digests: list[str]
) -> ChunksResponse | FailedChunkResponse:
    """Renders five frames, creates the file FRAMESTREAM_TEST_MARKER, and hangs."""
    counted = renderer._CallProgress.frames

    def hang(call: renderer._CallProgress, count: int) -> None:
        counted(call, count)
        if call._frames == 5:
            Path(os.environ["FRAMESTREAM_TEST_MARKER"]).touch()
            time.sleep(60)

    renderer._CallProgress.frames = hang  # type: ignore[assignment, method-assign]
    return RendererState().render_chunks(job_id, bundle_key, bundle_sha256, digests)
