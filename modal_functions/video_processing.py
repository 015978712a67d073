"""The functions that `modal deploy -m modal_functions.video_processing` deploys.

Thin shells around the modules beside this one. Arguments and responses are plain values, for which
see `protocol.py`. A function does not raise: it returns `{"status": "error", "error"}`, where the
error is one line for the user.
"""

from __future__ import annotations

from typing import Any

import modal

from modal_functions import clips, export_job
from modal_functions.app import (
    CHUNKS_S,
    CLIP_S,
    CONCATENATE_S,
    CPU_CORES,
    CPU_IMAGE,
    CPU_MEMORY_MIB,
    EXPORT_S,
    GPU,
    GPU_CORES,
    GPU_IMAGE,
    GPU_MEMORY_MIB,
    IDLE_S,
    app,
)
from modal_functions.protocol import (
    ChoiceResponse,
    ChunksResponse,
    ErrorResponse,
    FailedChunkResponse,
    VideoResponse,
    check_version,
)
from modal_functions.renderer import RendererState, load_modules
from modal_functions.responses import errors_to_responses


@app.function(image=GPU_IMAGE, gpu=GPU, cpu=GPU_CORES, memory=GPU_MEMORY_MIB, timeout=CLIP_S)
@errors_to_responses
def process_multi_clip_item(
    job_id: str,
    clip_index: int,
    user_id: str,
    input_key: str,
    output_key: str,
    crop_keyframes: list[dict[str, Any]],
    segments_data: dict[str, Any] | None,
    target_fps: float | str = 30,
    target_width: int = 1080,
    target_height: int = 1920,
    engine_version: str | None = None,
    key_interval_s: float | None = None,
) -> VideoResponse | ErrorResponse:
    """Renders one clip: crop, Real-ESRGAN, trim, speed and scaling, with its sound.

    Keys are whole, or relative to the user's folder. `key_interval_s` is from one key frame to the
    next, by default the engine's. Called again, it goes on where it was stopped. Returns
    `{"status": "success", "output_key", "duration", "frames", "warnings", "report"}`.
    """
    check_version(engine_version)
    return clips.process_clip(
        job_id=job_id,
        clip_index=clip_index,
        user_id=user_id,
        input_key=input_key,
        output_key=output_key,
        clip={"cropKeyframes": crop_keyframes, "segmentsData": segments_data},
        target={
            "targetFps": target_fps,
            "targetWidth": target_width,
            "targetHeight": target_height,
            "keyInterval": key_interval_s,
        },
    )


@app.function(image=CPU_IMAGE, cpu=CPU_CORES, memory=CPU_MEMORY_MIB, timeout=CONCATENATE_S)
@errors_to_responses
def concatenate_clips_modal(
    job_id: str,
    user_id: str,
    clip_keys: list[str],
    output_key: str,
    transition_type: str = "cut",
    transition_duration: float | None = None,
    clip_info: list[dict[str, Any]] | None = None,
    engine_version: str | None = None,
    key_interval_s: float | None = None,
) -> VideoResponse | ErrorResponse:
    """Joins clips: cuts by packet copy, other transitions by encoding only what they touch.

    `clip_info[i]` may name the chapter of clip i by `title`, `name` or `fileName`. Keys,
    `key_interval_s` of what is encoded, what a second call does, and the response are as for
    `process_multi_clip_item`.
    """
    check_version(engine_version)
    return clips.concatenate_clips(
        job_id=job_id,
        user_id=user_id,
        clip_keys=clip_keys,
        output_key=output_key,
        transition=(transition_type, transition_duration),
        titles=[clips.title_of(info) for info in clip_info or [{}] * len(clip_keys)],
        key_interval_s=key_interval_s,
    )


@app.cls(
    image=GPU_IMAGE,
    gpu=GPU,
    cpu=GPU_CORES,
    memory=GPU_MEMORY_MIB,
    timeout=CHUNKS_S,
    scaledown_window=IDLE_S,
    enable_memory_snapshot=True,
)
class Renderer:
    """Renders chunks of edits. Each container loads its network once."""

    @modal.enter(snap=True)
    def load_modules(self) -> None:
        """Imports torch and the rest, once for all containers: they begin with a copy of memory."""
        load_modules()

    @modal.enter()
    def start(self) -> None:
        """Loads the network that most exports use."""
        self.state = RendererState.loaded()

    @modal.method()
    @errors_to_responses
    def choose(self, upscaler: str, scales: list[float]) -> ChoiceResponse | ErrorResponse:
        """Chooses what this machine enlarges with; see `RendererState.choose`.

        Returns `{"status": "success", "upscaler", "stages"}`, with a stage for each of `scales`.
        """
        return self.state.choose(upscaler, scales)

    @modal.method()
    @errors_to_responses
    def render_chunks(
        self, job_id: str, bundle_key: str, bundle_sha256: str, digests: list[str]
    ) -> ChunksResponse | FailedChunkResponse | ErrorResponse:
        """Renders chunks of a bundle in the order of `digests`. Those in the cache are skipped.

        Returns `{"status": "success", "chunks"}` with the records of what it rendered. Where a
        chunk fails, returns `{"status": "error", "error", "digest", "attempts", "chunks"}`.
        """
        return self.state.render_chunks(job_id, bundle_key, bundle_sha256, digests)


@app.function(image=CPU_IMAGE, cpu=CPU_CORES, memory=CPU_MEMORY_MIB, timeout=EXPORT_S)
@errors_to_responses
def export_multi_clip(
    job_id: str,
    user_id: str,
    output_key: str,
    job_key: str,
    job_sha256: str,
    engine_version: str,
) -> VideoResponse | ErrorResponse:
    """Exports a whole edit: plans, has it rendered, mixes the sound, joins, uploads, clears away.

    The document of an `ExportJob` lies in the store under `job_key`. Keys are whole. Called again,
    it goes on where it was. Returns what `process_multi_clip_item` does, and `"containers"`.
    """
    check_version(engine_version)
    return export_job.export(job_id, user_id, output_key, job_key, job_sha256)
