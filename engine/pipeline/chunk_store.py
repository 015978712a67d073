"""The folder of finished chunks beside an export: what makes it resumable.

Each chunk is a file and a record beside it, which is written last. A chunk from an earlier run is
found only where the record is whole and fits the file, byte for byte, and the file holds what the
plan says. Otherwise the chunk is rendered again, and file and record are replaced.
What it holds is read once in a run, and goes on to the join in `ChunkRecord.file`.
"""

from __future__ import annotations

import fcntl
import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from engine.errors import ChunkError, EngineError, OutputError
from engine.files import file_hash
from engine.media.chunk_writer import EncodedChunk
from engine.media.encoders import Encoder
from engine.media.inspect import ChunkFile, read_chunk
from engine.records import read_record, write_record
from engine.timeline.chunks import Chunk

_OURS = re.compile(r"\.lock|\.?(sound-)?[0-9a-f]{32}\.(mp4|m4a|json)((\.[0-9a-f]{8})?\.partial)?")
"""Names of the files that an export leaves in its folder."""


@dataclass(frozen=True, slots=True)
class ChunkRecord:
    """What is known of a finished chunk. All but `file` is stored as a record beside the file."""

    digest: str
    frame_count: int
    frame_hash: str | None
    """Hash of the frames given to the encoder, in order; None for a chunk whose packets were
    copied."""
    file_hash: str
    """SHA-256 of the file, in hex."""
    file: ChunkFile
    """What the file held when this process read it."""
    warnings: tuple[str, ...] = ()
    """Raised while it was rendered, and raised again when it is found."""
    render_s: float = 0
    """Wall seconds it took."""
    route: tuple[str, ...] = ()
    """See `EncodedChunk`."""
    stage_s: Mapping[str, float] = field(default_factory=dict)
    """See `EncodedChunk`."""
    decoded_frames: int = 0
    """See `EncodedChunk`."""
    source_bytes_read: int = 0
    """Bytes that were downloaded from a store for it."""

    def to_document(self) -> dict[str, Any]:
        """What is stored as JSON."""
        document = asdict(self)
        del document["file"]
        return document

    @classmethod
    def from_document(cls, document: dict[str, Any], file: ChunkFile) -> ChunkRecord:
        """What `to_document` wrote.

        Raises `LookupError` or `TypeError` for what another version may have written.
        """
        texts = {name: tuple(document[name]) for name in ("warnings", "route")}
        return cls(**document | texts, file=file)


class ChunkStore:
    """The chunks of one export, in one folder. One process at a time works in it (`locked`)."""

    def __init__(self, folder: Path) -> None:
        """`folder` need not exist; `locked` makes it."""
        self.folder = folder
        self.lock_descriptor: int | None = None
        """Set while the folder is locked. A process that works for this one inherits it, so that
        the folder stays locked until both are gone."""

    def __reduce__(self) -> tuple[type[ChunkStore], tuple[Path]]:
        return ChunkStore, (self.folder,)

    @contextmanager
    def locked(self) -> Iterator[None]:
        """Makes the folder, and keeps other exports out of it.

        Raises `EngineError` when another process is in it, `OutputError` when it cannot be made.
        """
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            lock_file = (self.folder / ".lock").open("w")
        except OSError as error:
            raise OutputError(self.folder, error) from error
        with lock_file as lock:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                raise EngineError(f"{self.folder}: another export is working here") from None
            self.lock_descriptor = lock.fileno()
            try:
                yield
            finally:
                self.lock_descriptor = None

    def path(self, chunk: Chunk) -> Path:
        """Where the chunk's file lies, or will."""
        return self.folder / f"{chunk.digest}.mp4"

    def find(self, chunk: Chunk, encoder: Encoder) -> ChunkRecord | None:
        """The record of a chunk that is there and whole, else None."""
        path = self.path(chunk)
        document = read_record(self._record_path(chunk))
        if document is None:
            return None
        try:
            if document["file_hash"] != file_hash(path):
                return None
            record = ChunkRecord.from_document(document, read_chunk(path))
            _check(chunk, record, encoder)
        except (OSError, TypeError, LookupError, ChunkError):
            return None  # the file is lost, torn or another one
        return record

    def accept(
        self,
        chunk: Chunk,
        encoded: EncodedChunk,
        encoder: Encoder,
        *,
        warnings: Sequence[str] = (),
        render_s: float = 0,
        source_bytes_read: int = 0,
    ) -> ChunkRecord:
        """Checks a chunk that was just written to `path`, and records it.

        Raises `ChunkError` where the file does not hold what the plan says.
        """
        path = self.path(chunk)
        record = ChunkRecord(
            digest=chunk.digest,
            frame_count=encoded.frame_count,
            frame_hash=encoded.frame_hash,
            file_hash=file_hash(path),
            file=read_chunk(path),
            warnings=tuple(warnings),
            render_s=render_s,
            route=encoded.route,
            stage_s={name: round(seconds, 6) for name, seconds in encoded.stage_s.items()},
            decoded_frames=encoded.decoded_frames,
            source_bytes_read=source_bytes_read,
        )
        _check(chunk, record, encoder)
        write_record(self._record_path(chunk), record.to_document())
        return record

    def forget(self, chunk: Chunk) -> None:
        """Deletes a chunk and its record."""
        for path in (self._record_path(chunk), self.path(chunk)):
            path.unlink(missing_ok=True)

    def remove(self) -> None:
        """Deletes all chunks and what else the export left, and the folder once it is empty."""
        for path in list(self.folder.iterdir()):
            if _OURS.fullmatch(path.name):
                path.unlink()
        if not any(self.folder.iterdir()):
            self.folder.rmdir()

    def _record_path(self, chunk: Chunk) -> Path:
        return self.folder / f"{chunk.digest}.json"


def _check(chunk: Chunk, record: ChunkRecord, encoder: Encoder) -> None:
    """Raises `ChunkError` unless record and file are the chunk's, as this encoder writes it.

    Where packets were copied, the key frames are those of the film that they are from.
    """
    file, wanted = record.file, len(chunk.frames)
    if record.digest != chunk.digest or not record.frame_count == file.frame_count == wanted:
        raise ChunkError(f"{file.path}: holds {file.frame_count} frames, the plan says {wanted}")
    size, fps = file.parameters.size, file.parameters.fps
    if (size, fps) != (encoder.size, encoder.fps):
        raise ChunkError(f"{file.path}: is {size} at {fps} fps")
    interval = encoder.key_interval
    if not chunk.is_copied and file.key_frames != tuple(range(0, wanted, interval)):
        raise ChunkError(
            f"{file.path}: its key frames are not every {interval} frames from its first on"
        )
