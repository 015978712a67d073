"""How many chunks this machine renders at the same time, and why. Arithmetic only.

x264 has four threads, so that its bytes do not depend on the machine. With decoding and cropping
beside it, one chunk keeps about four processors busy at most, and the more a machine has, the more
chunks it needs at once. The model is a fluid: chunks that are rendered at the same time share the
processors equally, and each takes at most `CHUNK_CORES`. What its stages wait for each other, and
at its start and end, is `IDLE`; other chunks use some of it. Figures are those of `bench/cores.py`.
"""

from __future__ import annotations

import heapq
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import count

from engine.geometry import Size
from engine.machine import Machine
from engine.media.encoders import Encoder
from engine.pipeline.capacity import longest_first
from engine.timeline.plan import PlannedClip

SOFTWARE = "libx264"
"""The encoder that takes processors."""

CHUNK_CORES = 3.0
"""Processors that one chunk keeps busy at most, less than modelled to be on the safe side."""

IDLE = 0.06
"""The part of the processors that one chunk leaves idle. Of two it is half of that, as measured on
two processors, and so on."""

LEAST_FRAMES = 60
"""A thread is worth its start from so many frames on: it opens the files again, and decodes from a
key frame to its first frame."""

LEAST_PROCESS_FRAMES = 240
"""The same for a process on a GPU, which loads torch and the network."""

GAIN = 0.02
"""One more worker must save this share of the time, since it takes memory."""

MEMORY_SHARE = 0.5
"""The part of the available memory that is planned with."""

WORKER_BYTES = 20 << 20
TARGET_BYTES_PER_PX = 125
"""Finished pictures that wait, and those that x264 holds."""
SOURCE_BYTES_PER_SAMPLE = 14
"""Decoded pictures that wait, or that others refer to. A pixel of 4:2:0 has 1.5 samples."""
MOST_DECODER_THREADS = 16
"""FFmpeg's limit; each of them holds two pictures."""


@dataclass(frozen=True, slots=True)
class Work:
    """What is to be rendered."""

    chunk_frames: tuple[int, ...]
    """Output frames of each chunk."""
    sources: tuple[tuple[Size, int], ...]
    """Coded size of each clip's source, and the bytes of one sample."""
    network: bool
    """Whether a clip goes through a network."""
    device: str
    """Where that runs, as torch spells it."""
    encoder: Encoder


@dataclass(frozen=True, slots=True)
class WorkerDecision:
    """How many chunks at a time, and why not more."""

    workers: int
    why: str


def work_of(
    chunk_frames: Iterable[int],
    clips: Iterable[PlannedClip],
    *,
    network: bool,
    device: str,
    encoder: Encoder,
) -> Work:
    """The work of rendering chunks of so many frames that show `clips`."""
    sources = [clip.source for clip in clips]
    return Work(
        tuple(chunk_frames),
        tuple((source.coded_size, sample_bytes(source.pixel_format)) for source in sources),
        network,
        device,
        encoder,
    )


def decide_workers(work: Work, machine: Machine, *, gpus: int = 0) -> WorkerDecision:
    """As many chunks at a time as processors, memory and GPUs carry; one where one is best.

    `gpus` is how many there are for the network.
    """
    frames = work.chunk_frames
    if len(frames) < 2:
        return WorkerDecision(1, "there is one chunk" if frames else "there is nothing to render")
    if work.network and work.device.startswith("cuda"):
        return _one_per_gpu(frames, gpus)
    if work.network:
        return WorkerDecision(1, f"one chunk keeps the network on {work.device} busy")
    if work.encoder.name != SOFTWARE:
        return WorkerDecision(1, f"{work.encoder.name} is one device for all chunks")
    return _one_per_cores(work, machine)


def _one_per_gpu(frames: Sequence[int], gpus: int) -> WorkerDecision:
    enough = max(1, sum(frames) // LEAST_PROCESS_FRAMES)
    workers = max(1, min(gpus, len(frames), enough))
    if workers == gpus:
        return WorkerDecision(workers, "one per GPU" if gpus > 1 else "there is one GPU")
    return WorkerDecision(workers, f"the work is too short for all of {gpus} GPUs")


def _one_per_cores(work: Work, machine: Machine) -> WorkerDecision:
    frames, chunk_cores = work.chunk_frames, cores_of_a_chunk(work.encoder)
    each_bytes = worker_bytes(work.encoder.size, work.sources, machine.cores)
    limits = {
        f"the processors carry no more, {machine.cores:g} of them": int(machine.cores),
        f"{machine.memory_bytes >> 20} MiB of memory carry no more, {each_bytes >> 20} MiB each": (
            int(MEMORY_SHARE * machine.memory_bytes) // each_bytes
        ),
        f"there are {len(frames)} chunks": len(frames),
        f"{sum(frames)} frames are not worth more": sum(frames) // LEAST_FRAMES,
    }
    why, most = min(limits.items(), key=lambda limit: limit[1])
    best, best_s = 1, rendering_s(frames, 1, machine.cores, chunk_cores)
    for more in range(2, most + 1):
        seconds = rendering_s(frames, more, machine.cores, chunk_cores)
        if seconds < best_s * (1 - GAIN):
            best, best_s = more, seconds
    if best < most:
        why = f"more would not be faster on {machine.cores:g} processors"
    return WorkerDecision(best, why)


def cores_of_a_chunk(encoder: Encoder) -> float:
    """Processors that one chunk keeps busy at most; fewer where x264 was given fewer threads."""
    threads = dict(encoder.options).get("threads")
    few = threads is not None and threads.isdecimal() and 0 < int(threads) < CHUNK_CORES
    return float(threads) if few and threads else CHUNK_CORES


def rendering_s(
    chunk_s: Sequence[float], workers: int, cores: float, chunk_cores: float = CHUNK_CORES
) -> float:
    """How long `workers` take for chunks that one processor would take `chunk_s` for.

    The longest go first, each to the worker that is free first. Chunks at work share `cores`
    equally but for what is `IDLE`, and none uses more than `chunk_cores`. Raises `ValueError` for
    no workers.
    """
    if workers < 1:
        raise ValueError(f"chunks cannot be rendered by {workers} workers")
    waiting = iter(chunk_s[place] for place in longest_first(chunk_s))
    order = count()
    at_work: list[tuple[float, int]] = []
    now_s = done = 0.0
    """`done`: what a chunk has got that is at work since the beginning, in seconds of one core."""
    while True:
        for seconds in waiting:
            heapq.heappush(at_work, (done + seconds, next(order)))
            if len(at_work) == workers:
                break
        if not at_work:
            return now_s
        chunks = len(at_work)
        pace = min(chunk_cores, cores * (1 - IDLE / chunks) / chunks)
        until, _ = heapq.heappop(at_work)
        now_s, done = now_s + (until - done) / pace, until


def worker_bytes(target: Size, sources: Iterable[tuple[Size, int]], cores: float) -> int:
    """Memory of one more worker: of its decoders, of the pictures that wait, and of x264.

    `sources` are coded sizes with the bytes of a sample. A transition shows two clips at a time,
    so the two largest count.
    """
    held = SOURCE_BYTES_PER_SAMPLE + 2 * min(MOST_DECODER_THREADS, int(cores) + 1)
    decoded = sorted(size.width * size.height * each * 3 // 2 for size, each in sources)
    return (
        WORKER_BYTES + target.width * target.height * TARGET_BYTES_PER_PX + sum(decoded[-2:]) * held
    )


def sample_bytes(pixel_format: str) -> int:
    """Bytes of one sample, by FFmpeg's name of the format."""
    return 2 if any(depth in pixel_format for depth in ("10", "12", "14", "16")) else 1
