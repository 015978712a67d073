"""Renders chunks in several processes of this machine: one per GPU, or some per CPU.

    chunks ─▶ whichever worker is free ─▶ chunk store

Workers are fresh interpreters (see `process_worker.py`): forks would inherit the threads and the
CUDA context of this process, and `multiprocessing` would run the caller's script again. Each worker
loads its own network and keeps its sources open. A chunk that fails, or takes its process with it,
is rendered once more.
"""

from __future__ import annotations

import os
import pickle
import time
from collections.abc import Generator, Mapping, Sequence
from contextlib import ExitStack, suppress
from dataclasses import dataclass, field
from multiprocessing.connection import Connection, wait

from engine.child_process import start_interpreter
from engine.errors import ChunkError, EngineError
from engine.machine import this_machine
from engine.pipeline.chunk_queue import ChunkQueue
from engine.pipeline.executors import (
    RenderContext,
    RenderedChunk,
    RenderObserver,
    check_workers,
)
from engine.pipeline.process_worker import (
    END_S,
    Failed,
    Finished,
    Frames,
    Warned,
    WorkerEvent,
    serve,
)
from engine.timeline.chunks import Chunk

POLL_S = 0.1
ATTEMPTS = 2


@dataclass(frozen=True, slots=True)
class LocalProcesses:
    """An `Executor` that renders as many chunks at the same time as it has workers.

    Where the network runs on CUDA, worker i has GPU i modulo their number, for decoding and
    encoding too. On the CPU, each gets its share of the cores for a network.
    """

    workers: int
    why: str = "asked for"
    name = "local processes"

    def __post_init__(self) -> None:
        check_workers(self.workers)

    def render(
        self, context: RenderContext, observer: RenderObserver
    ) -> Generator[RenderedChunk, None, None]:
        """See `Executor`. Raises `ChunkError` for a chunk that failed twice, with both reasons."""
        chunks = context.job.chunks
        if not chunks:
            return
        with _ProcessPool(min(self.workers, len(chunks)), context, observer) as pool:
            yield from pool.results()


@dataclass(slots=True)
class _Task:
    """A chunk that a worker has to render."""

    index: int
    chunk: Chunk
    counted: int = 0
    """Frames reported to the observer, over all attempts."""
    failures: list[str] = field(default_factory=list)

    def __str__(self) -> str:
        clips = " and ".join(
            f"clips[{layer.clip.index}] ({layer.clip.source.location})"
            for layer in self.chunk.layers
        )
        return f"frames {self.chunk.frames} of {clips}"


class _Process:
    """A worker's process, its connection, and the task it is at."""

    def __init__(self, work: bytes, environment: Mapping[str, str], lock: int | None) -> None:
        self._child = start_interpreter(
            serve, environment=environment, descriptors=[] if lock is None else [lock]
        )
        self.connection = Connection(self._child.channel.detach())
        self.task: _Task | None = None
        self.frames = 0
        """Rendered of the task, in this attempt."""
        self._work = work

    def brief(self) -> None:
        """Tells it what all tasks are. A process that is gone already is noticed later."""
        with suppress(OSError):
            self.connection.send_bytes(self._work)

    def give(self, task: _Task) -> None:
        self.task, self.frames = task, 0
        with suppress(OSError):
            self.connection.send(task.index)

    def next_event(self) -> WorkerEvent | None:
        """The next event of its task, None when the process is gone."""
        try:
            event: WorkerEvent = self.connection.recv()
        except (EOFError, OSError):
            return None
        return event

    def end(self, within_s: float) -> str:
        """Ends it, by force where it does not by itself, and says how it ended."""
        self.connection.close()
        idle = self.task is None  # it has nothing to put away
        ended = self._child.end(0 if idle else within_s)
        how = "was ended by" if ended.by_signal else "ended with"
        return f"its process {how} {ended}"


class _ProcessPool:
    """The processes of one rendering, and the tasks that wait for them."""

    def __init__(self, size: int, context: RenderContext, observer: RenderObserver) -> None:
        chunks = context.job.chunks
        self._work = _pickled(context)
        self._lock = context.chunk_store.lock_descriptor
        self._environments = _environments(size, cuda_devices(context.job.upscaler.device))
        self._tasks = {chunk: _Task(place, chunk) for place, chunk in enumerate(chunks)}
        self._waiting = ChunkQueue(chunks)
        self._observer = observer
        self._processes: list[_Process] = []

    def __enter__(self) -> _ProcessPool:
        with ExitStack() as undo:
            undo.callback(self._end)
            for environment in self._environments:
                self._processes.append(_Process(self._work, environment, self._lock))
            for process in self._processes:  # all of them are starting meanwhile
                process.brief()
            undo.pop_all()
        return self

    def __exit__(self, *_: object) -> None:
        self._end()

    def _end(self) -> None:
        for process in self._processes:
            process.connection.close()
        until_s = time.monotonic() + END_S
        for process in self._processes:
            process.end(max(0, until_s - time.monotonic()))

    def results(self) -> Generator[RenderedChunk, None, None]:
        while True:
            for place, process in enumerate(self._processes):
                if process.task is None and (chunk := self._waiting.take(place)) is not None:
                    process.give(self._tasks[chunk])
            busy = [process for process in self._processes if process.task is not None]
            if not busy:
                return
            ready = wait([process.connection for process in busy], POLL_S)
            for process in busy:
                if process.connection in ready:
                    yield from self._hear(process)
            self._observer.step()

    def _hear(self, process: _Process) -> Generator[RenderedChunk, None, None]:
        task = process.task
        assert task is not None
        match process.next_event():
            case Frames(count):
                process.frames += count
                self._count(task, process.frames)
            case Warned(warning):
                self._observer.warn(warning)
            case Finished(record):
                process.task = None
                self._count(task, len(task.chunk.frames))
                yield RenderedChunk(task.chunk, record, tuple(task.failures))
            case Failed(error, trace):
                process.task = None
                self._try_again(task, error, trace)
            case None:
                place = self._processes.index(process)
                how = process.end(END_S)
                self._processes[place] = _Process(self._work, self._environments[place], self._lock)
                self._processes[place].brief()
                self._try_again(task, EngineError(how), "")

    def _count(self, task: _Task, rendered: int) -> None:
        """Reports frames that no earlier attempt has rendered."""
        if rendered > task.counted:
            self._observer.frames(rendered - task.counted)
            task.counted = rendered

    def _try_again(self, task: _Task, cause: EngineError, trace: str) -> None:
        task.failures.append(str(cause))
        if len(task.failures) == ATTEMPTS:
            first, last = task.failures
            reasons = f"both times: {first}" if first == last else f"first: {first}; then: {last}"
            error = ChunkError(f"{task} failed twice; {reasons}")
            if trace:
                error.add_note(f"In the worker:\n{trace}")
            raise error from cause
        self._observer.warn(f"{task} failed and is rendered once more: {cause}")
        self._waiting.put_back(task.chunk)


def _pickled(context: RenderContext) -> bytes:
    try:
        return pickle.dumps(context)
    except (pickle.PicklingError, TypeError, AttributeError) as error:
        raise EngineError(f"the job cannot go to another process: {error}") from error


def cuda_devices(device: str) -> list[str]:
    """The GPUs to share out, as `CUDA_VISIBLE_DEVICES` spells them. Empty for another device."""
    if device != "cuda":
        return []
    import torch

    count = torch.cuda.device_count()
    visible = os.environ.get("CUDA_VISIBLE_DEVICES")
    return visible.split(",")[:count] if visible else [str(device) for device in range(count)]


def _environments(workers: int, devices: Sequence[str]) -> list[dict[str, str]]:
    """The environment of each worker: this one's, its GPU, its threads."""
    threads = max(1, int(this_machine().cores) // workers)
    common = {"OMP_NUM_THREADS": str(threads), **os.environ}
    return [
        common | ({"CUDA_VISIBLE_DEVICES": devices[place % len(devices)]} if devices else {})
        for place in range(workers)
    ]
