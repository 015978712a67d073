"""A full disk: every step that writes says so, and a caller can tell it from other faults."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest

from engine.audio.mix import write_sound
from engine.errors import EngineError, is_out_of_space
from engine.files import whole_file
from engine.geometry import Size
from engine.media.chunk_writer import ChunkWriter
from engine.media.encoders import choose_encoder
from engine.media.inspect import read_chunk
from engine.media.join import join
from engine.media.probe import probe
from engine.pipeline.executors import InProcess
from engine.pipeline.exporter import export, probe_sources
from engine.pipeline.extract import extract
from engine.pipeline.processes import LocalProcesses
from engine.pixels.picture import Picture
from engine.storage import LocalStore
from engine.timeline.edit import Clip, Edit
from engine.timeline.plan import build_plan
from tests.clips import numbered_clip
from tests.disks import fill, small_disk

SIZE, FPS = Size(128, 96), Fraction(30)
NOISE = np.random.default_rng(1).integers(0, 256, (144, 128), np.uint8)
DISK_BYTES = 1 << 20


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Path]:
    with small_disk(tmp_path / "disk", DISK_BYTES) as folder:
        yield folder


def write_chunk(path: Path) -> None:
    encoder = choose_encoder(SIZE, FPS, name="libx264", preset="ultrafast")
    with whole_file(path) as unfinished, ChunkWriter(encoder, unfinished) as writer:
        for _ in range(12):  # of noise: some 200 kB
            picture = Picture(SIZE)
            picture.buffer[:] = NOISE
            writer.write(picture)


def sound(path: Path) -> None:
    write_sound([], [], 480_000, path, on_warning=print, on_step=lambda: None)


def join_chunk(tmp_path: Path, destination: Path) -> None:
    write_chunk(tmp_path / "chunk.mp4")
    join(
        [read_chunk(tmp_path / "chunk.mp4")],
        None,
        [],
        destination,
        frame_count=12,
        sample_count=0,
        fps=FPS,
        size=SIZE,
        on_step=lambda: None,
    )


def cut(tmp_path: Path, destination: Path) -> None:
    source = probe(numbered_clip(tmp_path / "n.mp4", 60, size=(SIZE.width, SIZE.height)))
    extract(source, "0.2", "1.7", destination, on_progress=lambda *_: None)


def fetch(tmp_path: Path, destination: Path) -> None:
    LocalStore(tmp_path / "store").put_bytes("a", bytes(100_000))
    LocalStore(tmp_path / "store").get_file("a", destination)


def put(_: Path, destination: Path) -> None:
    LocalStore(destination.parent).put_bytes(destination.name, bytes(100_000))


WRITERS: dict[str, Callable[[Path, Path], None]] = {
    "encode": lambda _, destination: write_chunk(destination),
    "sound": lambda _, destination: sound(destination),
    "join": join_chunk,
    "extract": cut,
    "fetch": fetch,
    "store": put,
}


@pytest.mark.parametrize("free_bytes", [0, 4096])
@pytest.mark.parametrize("writer", WRITERS)
def test_a_full_disk_is_told_from_other_faults(
    writer: str, free_bytes: int, tmp_path: Path, disk: Path
) -> None:
    destination = disk / "out.mp4"
    ballast = fill(disk, free_bytes)
    with pytest.raises(EngineError, match=r"(?i)no space left on device") as raised:
        WRITERS[writer](tmp_path, destination)
    assert is_out_of_space(raised.value)
    left = {path for path in disk.rglob("*") if path.is_file()}
    assert left <= {ballast, disk / ".incoming" / "lock"}


@pytest.mark.parametrize("workers", [1, 2])
def test_an_export_goes_on_once_there_is_room(workers: int, tmp_path: Path, disk: Path) -> None:
    """In several processes as well: the reason comes from the worker."""
    numbered_clip(tmp_path / "a.mp4", 20)
    edit = Edit([Clip("a.mp4")], target_size=SIZE)
    plan = build_plan(edit, probe_sources(edit, tmp_path))
    encoder = choose_encoder(SIZE, plan.fps, name="libx264", preset="ultrafast")
    executor = InProcess() if workers == 1 else LocalProcesses(workers)
    ballast = fill(disk)
    with pytest.raises(EngineError, match=r"(?i)no space left on device") as raised:
        export(plan, disk / "out.mp4", encoder=encoder, executor=executor)
    assert is_out_of_space(raised.value)
    ballast.unlink()
    assert export(plan, disk / "out.mp4", encoder=encoder, executor=executor).frames == 20
    assert [path.name for path in disk.iterdir()] == ["out.mp4"]
