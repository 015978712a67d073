"""How many chunks at a time: arithmetic by hand, and what holds for every machine."""

from __future__ import annotations

from dataclasses import replace
from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from engine.geometry import Size
from engine.machine import Machine
from engine.media.encoders import Encoder
from engine.pipeline.workers import (
    CHUNK_CORES,
    IDLE,
    LEAST_FRAMES,
    MEMORY_SHARE,
    Work,
    decide_workers,
    rendering_s,
    sample_bytes,
    worker_bytes,
)

GIB = 1 << 30
FULL = Size(1080, 1920)
X264 = Encoder("libx264", (), FULL, Fraction(30), key_interval=60)
WORK = Work((240,) * 8, ((Size(1920, 1080), 1),), network=False, device="cpu", encoder=X264)


def decided(work: Work, cores: float = 8, memory: int = 64 * GIB, gpus: int = 0) -> tuple[int, str]:
    decision = decide_workers(work, Machine(cores, memory), gpus=gpus)
    return decision.workers, decision.why


def test_chunks_share_the_processors() -> None:
    """One chunk takes three of them at most. One alone leaves 6 % of them idle, two leave 3 %."""
    assert rendering_s([12], 1, 8, 3) == 4
    assert rendering_s([12], 1, 2, 3) == pytest.approx(12 / (2 * 0.94))
    # three have 98 % of eight
    assert rendering_s([8, 8, 8], 3, 8, 3) == pytest.approx(24 / (8 * 0.98))
    # two at a time have three each, then the third has three alone
    assert rendering_s([8, 8, 8], 2, 8, 3) == pytest.approx(8 / 3 + 8 / 3)
    # the shorter one ends after 4 / 0.97, and the longer has 8 left for 1.88
    assert rendering_s([4, 12], 2, 2, 3) == pytest.approx(4 / 0.97 + 8 / 1.88)
    assert rendering_s([], 3, 8, 3) == 0
    with pytest.raises(ValueError, match="0 workers"):
        rendering_s([1], 0, 8)


def test_one_on_a_small_machine() -> None:
    assert decided(WORK, cores=1) == (1, "the processors carry no more, 1 of them")
    assert decided(WORK, cores=0.5)[0] == 1
    assert decided(WORK, cores=1.9)[0] == 1
    assert decided(WORK, cores=2) == (2, "the processors carry no more, 2 of them")
    assert decided(WORK, cores=4)[0] == 2
    assert decided(WORK, cores=6) == (2, "more would not be faster on 6 processors")
    assert decided(WORK, cores=16) == (8, "there are 8 chunks")


def test_one_thread_of_x264_wants_more_chunks() -> None:
    single = replace(WORK, encoder=replace(X264, options=(("threads", "1"),)))
    assert decided(single, cores=2) == (2, "the processors carry no more, 2 of them")
    many = replace(WORK, encoder=replace(X264, options=(("threads", "16"),)))
    assert decided(many, cores=6) == decided(WORK, cores=6)
    assert decided(single, cores=6)[0] > decided(WORK, cores=6)[0]


def test_what_is_one_at_a_time() -> None:
    assert decided(replace(WORK, chunk_frames=())) == (1, "there is nothing to render")
    assert decided(replace(WORK, chunk_frames=(240,))) == (1, "there is one chunk")
    assert decided(replace(WORK, chunk_frames=(50, 50, 19))) == (
        1,
        "119 frames are not worth more",
    )
    on_cpu = replace(WORK, network=True)
    assert decided(on_cpu) == (1, "one chunk keeps the network on cpu busy")
    assert decided(replace(WORK, device="cuda"))[0] > 1  # no clip goes through the network
    nvenc = replace(WORK, encoder=replace(X264, name="h264_nvenc"))
    assert decided(nvenc) == (1, "h264_nvenc is one device for all chunks")


def test_one_per_gpu() -> None:
    network = replace(WORK, network=True, device="cuda")
    assert decided(network, cores=2, gpus=1) == (1, "there is one GPU")
    assert decided(network, cores=2, gpus=4) == (4, "one per GPU")
    assert decided(network, gpus=16) == (8, "the work is too short for all of 16 GPUs")
    short = replace(network, chunk_frames=(100, 100, 100))
    assert decided(short, gpus=3) == (1, "the work is too short for all of 3 GPUs")
    assert decided(network, gpus=0)[0] == 1


def test_memory_by_hand() -> None:
    """20 MiB, 125 bytes a pixel of the target, 14 + 2 * 5 pictures of each source."""
    each = (20 << 20) + 1080 * 1920 * 125 + 1920 * 1080 * 3 // 2 * 24
    assert worker_bytes(FULL, [(Size(1920, 1080), 1)], 4) == each
    hdr = [(Size(1920, 1080), 1), (Size(3840, 2160), 2), (Size(320, 180), 1)]
    largest = (3840 * 2160 * 2 + 1920 * 1080) * 3 // 2
    more = (20 << 20) + 1080 * 1920 * 125 + largest * (14 + 2 * 16)
    assert worker_bytes(FULL, hdr, 64) == more
    assert [sample_bytes(each) for each in ("yuv420p", "yuv420p10le", "p010le")] == [1, 2, 2]
    memory = int(3.5 * worker_bytes(FULL, WORK.sources, 16) / MEMORY_SHARE)
    workers, why = decided(WORK, cores=16, memory=memory)
    assert workers == 3 and "MiB of memory carry no more" in why
    assert decided(WORK, cores=16, memory=0)[0] == 1


frames = st.lists(st.integers(1, 240), max_size=40)
machines = st.builds(Machine, st.floats(0.25, 64), st.integers(0, 64 * GIB))


@given(frames, machines, st.booleans(), st.sampled_from(["cpu", "cuda"]), st.integers(0, 8))
def test_never_more_than_anything_carries(
    chunk_frames: list[int], machine: Machine, network: bool, device: str, gpus: int
) -> None:
    work = replace(WORK, chunk_frames=tuple(chunk_frames), network=network, device=device)
    workers, why = decided(work, machine.cores, machine.memory_bytes, gpus)
    assert why and "\n" not in why
    assert 1 <= workers <= max(1, len(chunk_frames))
    if not network and workers > 1:
        each = worker_bytes(FULL, WORK.sources, machine.cores)
        assert workers <= machine.cores
        assert workers * each <= machine.memory_bytes * MEMORY_SHARE
        assert workers * LEAST_FRAMES <= sum(chunk_frames)
    if network:
        assert workers <= max(1, gpus if device == "cuda" else 1)


@given(frames, st.integers(1, 64), st.integers(1, 40))
def test_a_fluid_keeps_within_its_bounds(chunk_frames: list[int], cores: int, workers: int) -> None:
    took_s = rendering_s(chunk_frames, workers, cores)
    work_s = sum(chunk_frames)
    assert took_s <= work_s / min(CHUNK_CORES, cores * (1 - IDLE)) + 1e-6
    assert took_s >= work_s / min(cores, CHUNK_CORES * workers) - 1e-6
    assert took_s >= max(chunk_frames, default=0) / min(CHUNK_CORES, cores) - 1e-6


@given(st.integers(1, 60), st.sampled_from([4, 8, 16, 32]))
def test_long_films_keep_the_processors_busy(chunks: int, cores: int) -> None:
    """Where there are twice as many chunks as processors, nine tenths of these at least."""
    work = replace(WORK, chunk_frames=(240,) * (chunks + 2 * cores))
    workers, _ = decided(work, cores)
    busy = sum(work.chunk_frames) / rendering_s(work.chunk_frames, workers, cores) / cores
    assert busy >= 0.9
