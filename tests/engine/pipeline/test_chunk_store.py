"""The folder of finished chunks: what is found again, and what is not trusted."""

from __future__ import annotations

import hashlib
import json
import pickle
from dataclasses import replace
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest

from engine.errors import ChunkError, EngineError, OutputError
from engine.geometry import Size
from engine.media.chunk_writer import ChunkWriter, EncodedChunk
from engine.media.encoders import Encoder, choose_encoder
from engine.media.inspect import read_chunk
from engine.pipeline.chunk_store import ChunkRecord, ChunkStore
from engine.pixels.picture import Picture
from engine.records import record_bytes
from engine.timeline.chunks import Chunk
from engine.timing import FrameRange

SIZE, FPS = Size(64, 48), Fraction(30)


@pytest.fixture(scope="module")
def encoder() -> Encoder:
    return choose_encoder(SIZE, FPS, name="libx264", preset="ultrafast")


@pytest.fixture
def store(tmp_path: Path) -> ChunkStore:
    store = ChunkStore(tmp_path / "out.mp4.parts")
    store.folder.mkdir()
    return store


def a_chunk(name: str = "a", *, frames: int = 4) -> Chunk:
    """A chunk as the plan decides it; its digest stands for all that is in it."""
    content = f"{name}, {frames} frames".encode()
    digest = hashlib.blake2b(content, digest_size=16).hexdigest()
    return Chunk(index=0, frames=FrameRange(0, frames), layers=(), digest=digest)


def rendered(path: Path, encoder: Encoder, frames: int = 4) -> EncodedChunk:
    """A chunk file of `frames` grey pictures, each brighter than the one before."""
    with ChunkWriter(encoder, path) as writer:
        for number in range(frames):
            picture = Picture(encoder.size)
            picture.buffer[:] = np.uint8(100 + number)
            writer.write(picture)
    return writer.result


def accepted(store: ChunkStore, chunk: Chunk, encoder: Encoder) -> ChunkRecord:
    return store.accept(chunk, rendered(store.path(chunk), encoder), encoder)


def test_what_was_accepted_is_found_again(store: ChunkStore, encoder: Encoder) -> None:
    chunk = a_chunk()
    record = accepted(store, chunk, encoder)
    assert (record.digest, record.frame_count) == (chunk.digest, 4)
    assert ChunkStore(store.folder).find(chunk, encoder) == record


def test_nothing_is_found_where_nothing_is(store: ChunkStore, encoder: Encoder) -> None:
    assert store.find(a_chunk(), encoder) is None


def test_a_chunk_of_other_content_is_not_found(store: ChunkStore, encoder: Encoder) -> None:
    accepted(store, a_chunk(), encoder)
    assert store.find(a_chunk("b"), encoder) is None
    assert store.find(a_chunk(frames=5), encoder) is None


@pytest.mark.parametrize("harm", ["torn", "one bit", "file gone", "record gone", "record torn"])
def test_a_chunk_that_is_not_whole_is_not_found(
    harm: str, store: ChunkStore, encoder: Encoder
) -> None:
    chunk = a_chunk()
    accepted(store, chunk, encoder)
    file, record = store.path(chunk), store.path(chunk).with_suffix(".json")
    content = file.read_bytes()
    match harm:
        case "torn":
            file.write_bytes(content[:-10])
        case "one bit":
            file.write_bytes(content[:-10] + bytes([content[-10] ^ 1]) + content[-9:])
        case "file gone":
            file.unlink()
        case "record gone":
            record.unlink()
        case "record torn":
            record.write_text(record.read_text()[:-20])
    assert store.find(chunk, encoder) is None


@pytest.mark.parametrize("text", ["[]", "null", "7", '"text"', '{"digest": 1}', '{"odd": 1}'])
def test_a_foreign_record_is_not_trusted(text: str, store: ChunkStore, encoder: Encoder) -> None:
    chunk = a_chunk()
    accepted(store, chunk, encoder)
    record = store.path(chunk).with_suffix(".json")
    record.write_text(text)
    assert store.find(chunk, encoder) is None
    record.write_bytes(record_bytes({"digest": chunk.digest, "odd": 1}))  # of another version
    assert store.find(chunk, encoder) is None


@pytest.mark.parametrize("name", ["frame_hash", "warnings", "render_s", "route", "decoded_frames"])
def test_a_record_in_which_a_value_was_changed_is_not_believed(
    name: str, store: ChunkStore, encoder: Encoder
) -> None:
    chunk = a_chunk()
    record = accepted(store, chunk, encoder)
    path = store.path(chunk).with_suffix(".json")
    changed = json.loads(path.read_text()) | {name: "0" * 32}
    path.write_text(json.dumps(changed))
    assert store.find(chunk, encoder) is None
    accepted(store, chunk, encoder)
    found = store.find(chunk, encoder)
    assert found is not None and found.frame_hash == record.frame_hash


def test_another_chunk_under_this_name_is_not_trusted(store: ChunkStore, encoder: Encoder) -> None:
    chunk, other = a_chunk(), a_chunk("b")
    accepted(store, other, encoder)
    for suffix in (".mp4", ".json"):
        taken = store.path(other).with_suffix(suffix).read_bytes()
        store.path(chunk).with_suffix(suffix).write_bytes(taken)
    assert store.find(chunk, encoder) is None


def test_a_record_that_promises_too_much_is_not_trusted(
    store: ChunkStore, encoder: Encoder
) -> None:
    """The file is what counts: four frames are not the five of the plan."""
    chunk = a_chunk(frames=5)
    made = rendered(store.path(chunk), encoder, 4)
    with pytest.raises(ChunkError, match="holds 4 frames, the plan says 5"):
        store.accept(chunk, made, encoder)
    record = accepted(store, a_chunk(), encoder)
    lying = record.to_document() | {"digest": chunk.digest, "frame_count": 5}
    store.path(chunk).with_suffix(".json").write_bytes(record_bytes(lying))
    assert store.find(chunk, encoder) is None


def test_what_the_file_holds_goes_on_to_the_join(store: ChunkStore, encoder: Encoder) -> None:
    chunk = a_chunk()
    record = accepted(store, chunk, encoder)
    found = store.find(chunk, encoder)
    assert found is not None
    assert found.file == record.file == read_chunk(store.path(chunk))
    assert pickle.loads(pickle.dumps(record)) == record


def test_a_copied_chunk_has_no_frame_hash(store: ChunkStore, encoder: Encoder) -> None:
    chunk = a_chunk()
    rendered(store.path(chunk), encoder)
    record = store.accept(chunk, EncodedChunk(4, frame_hash=None), encoder)
    assert store.find(chunk, encoder) == record
    assert json.loads(store.path(chunk).with_suffix(".json").read_text())["frame_hash"] is None


def test_a_record_without_a_checksum_is_not_believed(store: ChunkStore, encoder: Encoder) -> None:
    """As version 0.1.0 wrote it."""
    chunk = a_chunk()
    record = accepted(store, chunk, encoder)
    store.path(chunk).with_suffix(".json").write_text(json.dumps(record.to_document(), indent=1))
    assert store.find(chunk, encoder) is None


def test_a_chunk_of_another_size_or_rate_is_not_trusted(
    store: ChunkStore, encoder: Encoder
) -> None:
    chunk = a_chunk()
    accepted(store, chunk, encoder)
    for size, fps in ((Size(48, 64), FPS), (SIZE, Fraction(25))):
        assert store.find(chunk, replace(encoder, size=size, fps=fps)) is None


def test_a_chunk_with_key_frames_in_other_places_is_not_trusted(
    store: ChunkStore, encoder: Encoder
) -> None:
    chunk = a_chunk(frames=6)
    often = replace(encoder, key_interval=2)
    store.accept(chunk, rendered(store.path(chunk), often, 6), often)
    found = store.find(chunk, often)
    assert found is not None and found.file.key_frames == (0, 2, 4)
    for interval in (1, 3, 5, 6):
        assert store.find(chunk, replace(encoder, key_interval=interval)) is None
    with pytest.raises(ChunkError, match="its key frames are not every 3 frames from its first on"):
        store.accept(chunk, rendered(store.path(chunk), often, 6), replace(often, key_interval=3))


def test_a_copied_chunk_has_the_key_frames_of_its_source(
    store: ChunkStore, encoder: Encoder
) -> None:
    chunk = replace(a_chunk(frames=6), is_copied=True)
    rendered(store.path(chunk), replace(encoder, key_interval=4), 6)
    record = store.accept(chunk, EncodedChunk(6, frame_hash=None), encoder)
    assert store.find(chunk, encoder) == record and record.file.key_frames == (0, 4)


def test_one_export_at_a_time(store: ChunkStore) -> None:
    again = ChunkStore(store.folder)
    with (
        store.locked(),
        pytest.raises(EngineError, match="another export is working here"),
        again.locked(),
    ):
        pass
    with again.locked():
        pass


def test_a_folder_that_cannot_be_made_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("not a folder")
    refused = ChunkStore(tmp_path / "file" / "parts")
    with pytest.raises(OutputError, match="file/parts: cannot be written"), refused.locked():
        pass


def test_removing_takes_the_chunks_and_nothing_else(store: ChunkStore, encoder: Encoder) -> None:
    """The folder may be one that the user keeps other things in."""
    chunk = a_chunk()
    with store.locked():
        accepted(store, chunk, encoder)
    (store.folder / f"sound-{chunk.digest}.m4a").write_text("sound")
    for token in (".0123abcd", ""):  # as now, and as version 0.1.0 called it
        (store.folder / f".{chunk.digest}.mp4{token}.partial").write_text("left by a kill")
    kept = [store.folder / name for name in ("thesis.mp4", "notes.json", "photos")]
    kept[0].write_text("mine")
    kept[1].write_text("mine")
    kept[2].mkdir()
    store.remove()
    assert sorted(store.folder.iterdir()) == sorted(kept)


def test_removing_a_folder_of_chunks_only_removes_the_folder(
    store: ChunkStore, encoder: Encoder
) -> None:
    with store.locked():
        accepted(store, a_chunk(), encoder)
    store.remove()
    assert not store.folder.exists()
