"""The folder of finished chunks: what is found again, and what is not trusted."""

from __future__ import annotations

import hashlib
import json
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest

from engine.errors import ChunkError, EngineError, OutputError
from engine.geometry import Size
from engine.media.chunk_writer import ChunkWriter, EncodedChunk
from engine.media.encoders import Encoder, choose_encoder
from engine.pipeline.chunk_store import PartRecord, Parts
from engine.pixels.picture import Picture
from engine.timeline.chunks import Chunk
from engine.timing import FrameRange

SIZE, FPS = Size(64, 48), Fraction(30)


@pytest.fixture(scope="module")
def encoder() -> Encoder:
    return choose_encoder(SIZE, FPS, name="libx264", preset="ultrafast")


@pytest.fixture
def parts(tmp_path: Path) -> Parts:
    parts = Parts(tmp_path / "out.mp4.parts")
    parts.folder.mkdir()
    return parts


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


def accepted(parts: Parts, chunk: Chunk, encoder: Encoder) -> PartRecord:
    return parts.accept(chunk, rendered(parts.path(chunk), encoder), encoder)


def test_what_was_accepted_is_found_again(parts: Parts, encoder: Encoder) -> None:
    chunk = a_chunk()
    record = accepted(parts, chunk, encoder)
    assert (record.digest, record.frame_count) == (chunk.digest, 4)
    assert Parts(parts.folder).find(chunk, encoder) == record


def test_nothing_is_found_where_nothing_is(parts: Parts, encoder: Encoder) -> None:
    assert parts.find(a_chunk(), encoder) is None


def test_a_chunk_of_other_content_is_not_found(parts: Parts, encoder: Encoder) -> None:
    accepted(parts, a_chunk(), encoder)
    assert parts.find(a_chunk("b"), encoder) is None
    assert parts.find(a_chunk(frames=5), encoder) is None


@pytest.mark.parametrize("harm", ["torn", "one bit", "file gone", "record gone", "record torn"])
def test_a_part_that_is_not_whole_is_not_found(harm: str, parts: Parts, encoder: Encoder) -> None:
    chunk = a_chunk()
    accepted(parts, chunk, encoder)
    file, record = parts.path(chunk), parts.path(chunk).with_suffix(".json")
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
    assert parts.find(chunk, encoder) is None


@pytest.mark.parametrize("text", ["[]", "null", "7", '"text"', '{"digest": 1}', '{"odd": 1}'])
def test_a_foreign_record_is_not_believed(text: str, parts: Parts, encoder: Encoder) -> None:
    chunk = a_chunk()
    accepted(parts, chunk, encoder)
    parts.path(chunk).with_suffix(".json").write_text(text)
    assert parts.find(chunk, encoder) is None


def test_another_chunks_part_under_this_name_is_not_believed(
    parts: Parts, encoder: Encoder
) -> None:
    chunk, other = a_chunk(), a_chunk("b")
    accepted(parts, other, encoder)
    for suffix in (".mp4", ".json"):
        taken = parts.path(other).with_suffix(suffix).read_bytes()
        parts.path(chunk).with_suffix(suffix).write_bytes(taken)
    assert parts.find(chunk, encoder) is None


def test_a_record_that_promises_too_much_is_not_believed(parts: Parts, encoder: Encoder) -> None:
    """The file is what counts: four frames are not the five of the plan."""
    chunk = a_chunk(frames=5)
    made = rendered(parts.path(chunk), encoder, 4)
    with pytest.raises(ChunkError, match="holds 4 frames, the plan says 5"):
        parts.accept(chunk, made, encoder)
    record = accepted(parts, a_chunk(), encoder)
    lying = {
        "digest": chunk.digest,
        "frame_count": 5,
        "frame_hash": record.frame_hash,
        "file_hash": record.file_hash,
    }
    parts.path(chunk).with_suffix(".json").write_text(json.dumps(lying))
    assert parts.find(chunk, encoder) is None


def test_a_part_of_another_size_or_rate_is_not_believed(parts: Parts, encoder: Encoder) -> None:
    chunk = a_chunk()
    accepted(parts, chunk, encoder)
    for size, fps in ((Size(48, 64), FPS), (SIZE, Fraction(25))):
        assert parts.find(chunk, Encoder(encoder.name, encoder.options, size, fps)) is None


def test_one_export_at_a_time(parts: Parts) -> None:
    again = Parts(parts.folder)
    with (
        parts.locked(),
        pytest.raises(EngineError, match="another export is working here"),
        again.locked(),
    ):
        pass
    with again.locked():
        pass


def test_a_folder_that_cannot_be_made_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("not a folder")
    refused = Parts(tmp_path / "file" / "parts")
    with pytest.raises(OutputError, match="file/parts: cannot be written"), refused.locked():
        pass


def test_removing_takes_the_parts_and_nothing_else(parts: Parts, encoder: Encoder) -> None:
    """The folder may be one that the user keeps other things in."""
    chunk = a_chunk()
    with parts.locked():
        accepted(parts, chunk, encoder)
    (parts.folder / f"sound-{chunk.digest}.m4a").write_text("sound")
    (parts.folder / f".{chunk.digest}.mp4.partial").write_text("left by a kill")
    kept = [parts.folder / name for name in ("thesis.mp4", "notes.json", "photos")]
    kept[0].write_text("mine")
    kept[1].write_text("mine")
    kept[2].mkdir()
    parts.remove()
    assert sorted(parts.folder.iterdir()) == sorted(kept)


def test_removing_a_folder_of_parts_only_removes_the_folder(parts: Parts, encoder: Encoder) -> None:
    with parts.locked():
        accepted(parts, a_chunk(), encoder)
    parts.remove()
    assert not parts.folder.exists()
