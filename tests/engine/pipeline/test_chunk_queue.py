"""Who takes which chunk: all are given once, nobody idles, and a worker goes on where it was."""

from __future__ import annotations

import heapq
from fractions import Fraction

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from engine.pipeline.chunk_queue import ChunkQueue
from engine.timeline.chunks import Chunk, cut_into_chunks
from engine.timeline.edit import Clip, Edit, Transition
from engine.timeline.plan import build_plan
from tests.sources import a_source


def chunks_of(*lengths: int, dissolve_s: float = 0) -> tuple[Chunk, ...]:
    """Of clips of so many frames, cut as for an export."""
    names = [f"{number}.mp4" for number in range(len(lengths))]
    transition = Transition("dissolve", Fraction(dissolve_s)) if dissolve_s else Transition("cut")
    edit = Edit([Clip(name) for name in names], transition)
    sources = [a_source(name, frames=each) for name, each in zip(names, lengths, strict=True)]
    return cut_into_chunks(build_plan(edit, sources), stage_key=str, encoder_key="")


def taken_by(workers: int, chunks: tuple[Chunk, ...]) -> tuple[list[list[int]], int]:
    """What each worker renders, and when the last one ends, if a frame takes a second."""
    queue, free = ChunkQueue(chunks), [(0, worker) for worker in range(workers)]
    taken: list[list[int]] = [[] for _ in range(workers)]
    end = 0
    while free:
        now, worker = heapq.heappop(free)
        if (chunk := queue.take(worker)) is not None:
            taken[worker].append(chunk.index)
            end = max(end, now + len(chunk.frames))
            heapq.heappush(free, (now + len(chunk.frames), worker))
    return taken, end


def test_a_clip_is_halved_and_each_worker_goes_on_with_its_half() -> None:
    assert taken_by(1, chunks_of(1200))[0] == [[0, 1, 2, 3, 4]]
    assert taken_by(2, chunks_of(1920))[0] == [[0, 1, 2, 3], [4, 5, 6, 7]]
    # the one that is done first takes half of what the other has left
    assert taken_by(2, chunks_of(240 * 5 + 10, 240))[0] == [[0, 1, 2], [3, 4, 5, 6]]


def test_clips_of_a_dissolve_are_one_run_and_those_of_a_cut_are_not() -> None:
    assert taken_by(2, chunks_of(240, 240))[0] == [[0], [1]]
    dissolved = chunks_of(240, 240, dissolve_s=1)
    assert [len(chunk.frames) for chunk in dissolved] == [210, 30, 210]
    assert taken_by(1, dissolved)[0] == [[0, 1, 2]]


def test_what_is_put_back_is_given_again() -> None:
    chunks = chunks_of(480)
    queue = ChunkQueue(chunks)
    assert queue.take("a") is chunks[0]
    queue.put_back(chunks[0])
    assert [queue.take("b"), queue.take("a"), queue.take("b")] == [*chunks, None]


@settings(max_examples=20)
@given(st.lists(st.integers(1, 1500), min_size=1, max_size=8), st.integers(1, 6))
def test_every_chunk_once_and_nobody_idle(lengths: list[int], workers: int) -> None:
    """Graham's bound holds where no worker idles while a chunk waits."""
    chunks = chunks_of(*lengths)
    taken, end = taken_by(workers, chunks)
    assert sorted(index for each in taken for index in each) == list(range(len(chunks)))
    longest = max(len(chunk.frames) for chunk in chunks)
    assert end <= sum(lengths) / workers + (1 - 1 / workers) * longest + 1e-9


@pytest.mark.parametrize("workers", [2, 3, 4])
def test_few_chunks_are_reached_by_a_seek(workers: int) -> None:
    """A worker seeks when it begins a run: each of a long clip's runs is begun once or so."""
    taken, _ = taken_by(workers, chunks_of(240 * 40))
    seeks = sum(
        index not in each[:place] and (place == 0 or each[place - 1] != index - 1)
        for each in taken
        for place, index in enumerate(each)
    )
    assert seeks <= 2 * workers + 2
