"""What happens before what on CUDA's streams, shown on a CPU: see `recorded_streams.py`.

It shows which order the program asks for. It cannot show what a real driver makes of it.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import Tensor

from engine.geometry import Fit, Framing, Size
from engine.gpu.pictures import DevicePicture
from engine.gpu.streams import DeviceStreams
from engine.upscale.inference import Precision, Runner
from engine.upscale.network import Network
from engine.upscale.network_stage import NetworkStage
from engine.upscale.tuning import TUNED, Tuning
from tests.engine.gpu.recorded_streams import RecordedCuda
from tests.engine.upscale.test_stage import TINY, Nearest, crops
from tests.sources import a_source

CPU = torch.device("cpu")
SOURCE, FRAMING = a_source(size=Size(192, 128)), Framing(Size(54, 96), Fit.CONTAIN)


class Logged(Nearest):
    """Tells the recorder when a batch is computed. Batch `overflows` does in half precision."""

    def __init__(self, log: list[str], overflows: int | None = None) -> None:
        super().__init__(4)
        self.log = log
        self.overflows = overflows

    def __deepcopy__(self, memo: object) -> Logged:
        return self

    def forward(self, rgb: Tensor) -> Tensor:
        half = rgb.dtype != torch.float32
        self.log.append(f"compute {len(self.calls)}{'' if half else ' in float32'}")
        made = super().forward(rgb)
        return made * torch.inf if half and len(self.calls) - 1 == self.overflows else made


@pytest.fixture
def cuda() -> Iterator[RecordedCuda]:
    with RecordedCuda() as recorded:
        yield recorded


def recorded_stage(
    cuda: RecordedCuda,
    streams: type[DeviceStreams] = DeviceStreams,
    tuning: Tuning = TUNED,
    overflows: int | None = None,
) -> NetworkStage:
    network = Network(TINY, Logged(cuda.log, overflows))
    runner = Runner(network, CPU, Precision.BF16, tuning=tuning)
    return NetworkStage(runner, batch=2, keep_on_device=True, streams=streams(cuda))


def made_by(upscaler: NetworkStage, count: int = 10) -> list[Tensor]:
    """The pictures, each dropped by the stage before the next is asked for."""
    made = upscaler.pictures(crops(count, pace=0), SOURCE, FRAMING)
    return [picture.buffer for picture in made if isinstance(picture, DevicePicture)]


def host_log(cuda: RecordedCuda) -> list[str]:
    return [entry for entry in cuda.log if entry.startswith(("compute", "host waits"))]


@pytest.mark.parametrize(
    "tuning",
    [TUNED, replace(TUNED, gathered_tables=False), replace(TUNED, banded_resampling=False)],
)
def test_nothing_is_used_before_it_is_there_or_after_it_is_gone(
    cuda: RecordedCuda, tuning: Tuning
) -> None:
    assert len(made_by(recorded_stage(cuda, tuning=tuning))) == 10
    assert cuda.complaints == []


def test_two_batches_are_begun_before_the_first_is_waited_for(cuda: RecordedCuda) -> None:
    """And the host waits for nothing else: once for each of five batches."""
    made_by(recorded_stage(cuda))
    wait = "host waits for compute"
    assert host_log(cuda) == [
        "compute 0", "compute 1", "compute 2", wait,
        "compute 3", wait, "compute 4", wait, wait, wait,
    ]  # fmt: skip
    assert cuda.log.count("event on compute") == 5


def test_a_batch_that_is_not_finite_is_computed_again_in_its_turn(cuda: RecordedCuda) -> None:
    made = made_by(recorded_stage(cuda, overflows=1))
    wait = "host waits for compute"
    assert host_log(cuda) == [
        "compute 0", "compute 1", "compute 2", wait,
        "compute 3", wait, "compute 4 in float32", wait, "compute 5", wait, wait, wait,
    ]  # fmt: skip
    assert cuda.complaints == []
    with RecordedCuda() as another:
        wanted = made_by(recorded_stage(another))
    for again, at_once in zip(made, wanted, strict=True):
        assert int((again.int() - at_once.int()).abs().max()) <= 1


def test_the_tables_of_a_batch_go_up_in_one_copy(cuda: RecordedCuda) -> None:
    """Two pictures and one piece of tables for each of two batches."""
    made_by(recorded_stage(cuda), 4)
    assert cuda.log.count("copy up on upload") == 2 * (2 + 1)
    assert cuda.log.count("copy down on compute") == 2


def test_pictures_of_the_default_stream_are_kept_until_they_are_copied(cuda: RecordedCuda) -> None:
    streams = DeviceStreams(cuda)
    for _ in range(3):
        cut = cuda.on_default_stream(torch.zeros(6, 4, dtype=torch.uint8))
        there = streams.upload([cut])
        del cut
        with streams.computing():
            there.float()
    del there
    torch.zeros(1)
    assert cuda.complaints == []


def test_a_download_is_read_after_its_end(cuda: RecordedCuda) -> None:
    streams = DeviceStreams(cuda)
    with streams.computing():
        made = torch.ones(6, 4)
    streams.computed()()
    copied = streams.download(streams.for_default_stream(made))
    del made
    host = copied()
    cuda.read_by_host(host)
    assert cuda.complaints == [] and torch.equal(host, torch.ones(6, 4))


# The recorder finds what is planted


class Forgetful(DeviceStreams):
    """Does not tell the allocator who uses a batch."""

    def upload(self, pictures: object) -> Tensor:
        assert isinstance(self._cuda, RecordedCuda)
        made = super().upload(pictures)  # type: ignore[arg-type]
        self._cuda._memory[made.untyped_storage()._cdata].known_to.clear()
        return made


class Hasty(DeviceStreams):
    """Computes without a wait for the upload."""

    def computing(self):  # type: ignore[no-untyped-def]
        assert self._cuda is not None
        return self._cuda.on(self._compute)


class Impatient(DeviceStreams):
    """Reads the answer without a wait."""

    def computed(self, *, blocking: bool = True):  # type: ignore[no-untyped-def]
        del blocking
        return lambda: None


@pytest.mark.parametrize(
    ("streams", "complaint"),
    [
        (Forgetful, "memory of upload is freed while compute may be using it"),
        (Hasty, "compute reads memory that upload may still be using"),
        (Impatient, "host reads memory that compute may still be using"),
    ],
)
def test_a_planted_fault_is_found(
    cuda: RecordedCuda, streams: type[DeviceStreams], complaint: str
) -> None:
    made_by(recorded_stage(cuda, streams))
    assert complaint in cuda.complaints


def test_without_pinned_memory_pictures_go_by_way_of_the_usual_kind() -> None:
    class Exhausted(RecordedCuda):  # type: ignore[no-untyped-call]
        def pinned(self, *_: object) -> Tensor:
            raise RuntimeError("CUDA error: out of memory")

    with Exhausted() as cuda:
        made = made_by(recorded_stage(cuda))
    with RecordedCuda() as plenty:
        wanted = made_by(recorded_stage(plenty))
    for ours, theirs in zip(made, wanted, strict=True):
        np.testing.assert_array_equal(ours.numpy(), theirs.numpy())
