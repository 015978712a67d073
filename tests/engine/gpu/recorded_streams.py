"""CUDA's streams on a CPU: everything is computed at once, and what orders it is recorded.

A stream, and the host, is a timeline. Each knows how far it has seen the others: a vector clock
(Mattern, Virtual Time and Global States of Distributed Systems, 1989). Two accesses to the same
memory, one of them a write, must be ordered by what the program asked for: a wait, an event, or the
order of one stream. Where they are not, real streams may swap them, and a complaint is recorded.

Memory is watched, too. torch's allocator gives freed memory to the stream that it was allocated on,
at once. Another stream that still has work on it must be known: `Cuda.used_by`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

HOST = "host"


@dataclass(eq=False)
class Timeline:
    """A stream, or the host."""

    name: str
    seen: dict[str, int] = field(default_factory=dict)
    """The last step of each timeline that surely comes before this one's next."""

    def step(self) -> int:
        self.seen[self.name] = self.seen.get(self.name, 0) + 1
        return self.seen[self.name]

    def learn(self, seen: Mapping[str, int]) -> None:
        for name, step in seen.items():
            self.seen[name] = max(self.seen.get(name, 0), step)

    def knows(self, name: str, step: int) -> bool:
        return self.seen.get(name, 0) >= step

    def wait_stream(self, stream: Timeline) -> None:
        self.learn(stream.seen)


@dataclass(eq=False)
class RecordedEvent:
    cuda: RecordedCuda
    stream: Timeline
    seen: dict[str, int]

    def synchronize(self) -> None:
        self.cuda.log.append(f"host waits for {self.stream.name}")
        self.cuda.host.learn(self.seen)


@dataclass(eq=False)
class Memory:
    """What was done with one piece of memory."""

    storage: torch.UntypedStorage
    made_on: Timeline
    written: tuple[str, int] | None = None
    read: dict[str, int] = field(default_factory=dict)
    known_to: set[str] = field(default_factory=set)
    """Streams that the allocator knows to use it."""

    def uses(self) -> Iterator[tuple[str, int]]:
        yield from self.read.items()
        if self.written is not None:
            yield self.written


class RecordedCuda(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """`engine.gpu.streams.Cuda` for tensors on the CPU. Torch is watched while it is entered."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.log: list[str] = []
        """What happened, as the host gave it."""
        self.complaints: list[str] = []
        self.host = Timeline(HOST)
        self.default = Timeline("default")
        self._names = iter(("upload", "compute", "download"))
        self._current: Timeline | None = None
        self._memory: dict[int, Memory] = {}

    # what the streams ask for

    def new_stream(self) -> Any:
        return Timeline(next(self._names))

    def default_stream(self) -> Any:
        return self.default

    def on(self, stream: Any) -> AbstractContextManager[object]:
        return self._on(stream)

    @contextmanager
    def _on(self, stream: Timeline | None) -> Iterator[None]:
        before, self._current = self._current, stream
        try:
            yield
        finally:
            self._current = before

    def event(self, stream: Any, *, blocking: bool) -> RecordedEvent:
        self.log.append(f"event on {stream.name}{'' if blocking else ', spinning'}")
        return RecordedEvent(self, stream, dict(stream.seen))

    def pinned(self, shape: tuple[int, ...], dtype: torch.dtype) -> Tensor:
        with self._on(None):
            return torch.empty(shape, dtype=dtype)

    def holds(self, tensor: Tensor) -> bool:
        return tensor.untyped_storage()._cdata in self._memory

    def copied_up(self, tensor: Tensor) -> Tensor:
        assert self._current is not None, "a copy outside of any stream"
        self.log.append(f"copy up on {self._current.name}")
        with self._on(None):
            copy = tensor.clone()
        self._touch(tensor, self._current, write=False)
        self._touch(copy, self._current, write=True)
        return copy

    def copy_down(self, host: Tensor, there: Tensor) -> None:
        assert self._current is not None, "a copy outside of any stream"
        self.log.append(f"copy down on {self._current.name}")
        stream = self._current
        with self._on(None):
            self._quiet(lambda: host.copy_(there))
        self._touch(there, stream, write=False)
        self._touch(host, stream, write=True, made_on=self.host)

    def used_by(self, tensor: Tensor, stream: Any) -> None:
        self._memory[tensor.untyped_storage()._cdata].known_to.add(stream.name)

    # what a test asks for

    def on_default_stream(self, tensor: Tensor) -> Tensor:
        """A tensor that FFmpeg, say, has made there."""
        self._touch(tensor, self.default, write=True)
        return tensor

    def read_by_host(self, tensor: Tensor) -> None:
        self._touch(tensor, self.host, write=False)

    # what torch does

    def __torch_dispatch__(
        self, func: Any, types: Sequence[Any], args: Any = (), kwargs: Any = None
    ) -> Any:
        del types
        self._find_freed()
        inputs = [each for each in tree_leaves((args, kwargs or {})) if isinstance(each, Tensor)]
        written = {id(each) for each in _written(func, args, kwargs or {})}
        result = func(*args, **(kwargs or {}))
        self._record(inputs, written, result)
        return result

    def _record(self, inputs: Sequence[Tensor], written: set[int], result: Any) -> None:
        there = any(self.holds(each) for each in inputs)
        stream = self._current
        if there and stream is None:
            stream = (
                self.host if all(self._is_host_memory(each) for each in inputs) else self.default
            )
        if stream is None or (inputs and not there):
            return
        made = [each for each in tree_leaves(result) if isinstance(each, Tensor)]
        of_inputs = {each.untyped_storage()._cdata for each in inputs}
        fresh = [each for each in made if each.untyped_storage()._cdata not in of_inputs]
        if made and not fresh and not written:
            return  # a view
        for each in inputs:
            if self.holds(each):
                self._touch(each, stream, write=id(each) in written)
        for each in fresh:
            self._touch(each, stream, write=True)

    def _is_host_memory(self, tensor: Tensor) -> bool:
        memory = self._memory.get(tensor.untyped_storage()._cdata)
        return memory is None or memory.made_on is self.host

    def _quiet(self, work: Callable[[], object]) -> None:
        with torch._C._DisableTorchDispatch():
            work()

    def _touch(
        self, tensor: Tensor, by: Timeline, *, write: bool, made_on: Timeline | None = None
    ) -> None:
        storage = tensor.untyped_storage()
        memory = self._memory.setdefault(storage._cdata, Memory(storage, made_on or by))
        if by is not self.host:
            by.learn(self.host.seen)  # what the host gives a stream comes after what it waited for
        conflicting = memory.uses() if write else iter([memory.written] if memory.written else [])
        for name, step in conflicting:
            if name != by.name and not by.knows(name, step):
                how = "writes" if write else "reads"
                self.complaints.append(f"{by.name} {how} memory that {name} may still be using")
        step = by.step()
        if write:
            memory.written, memory.read = (by.name, step), {}
        else:
            memory.read[by.name] = step

    def _find_freed(self) -> None:
        """Complains about memory that nobody holds while a stream may still be using it."""
        freed = [
            key
            for key, memory in self._memory.items()
            if torch._C._storage_Use_Count(memory.storage._cdata) == 1
        ]
        for key in freed:
            memory = self._memory.pop(key)
            if memory.made_on is self.host:
                continue  # torch keeps pinned memory until the copies of it are done
            for name, step in memory.uses():
                known = (
                    name == memory.made_on.name
                    or name in memory.known_to
                    or memory.made_on.knows(name, step)
                    or self.host.knows(name, step)
                )
                if not known:
                    self.complaints.append(
                        f"memory of {memory.made_on.name} is freed while {name} may be using it"
                    )


def _written(func: Any, args: Sequence[Any], kwargs: Mapping[str, Any]) -> Iterator[Tensor]:
    """The inputs that an operator writes to, by its schema."""
    for index, argument in enumerate(func._schema.arguments):
        if argument.alias_info is not None and argument.alias_info.is_write:
            value = args[index] if index < len(args) else kwargs.get(argument.name)
            if isinstance(value, Tensor):
                yield value
