"""The folder of finished chunks beside an export: what makes it resumable.

A part is a chunk file and a record beside it, written last. One is accepted only when the record
fits the file, byte for byte, and the file holds what the plan says.
"""

from __future__ import annotations

import fcntl
import hashlib
import json
import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path

from engine.errors import ChunkError, EngineError, OutputError
from engine.files import whole_file
from engine.media.chunk_writer import EncodedChunk
from engine.media.encoders import Encoder
from engine.media.join import chunk_facts
from engine.timeline.chunks import Chunk

_OURS = re.compile(r"\.lock|\.?(sound-)?[0-9a-f]{32}\.(mp4|m4a|json)(\.partial)?")
"""Names of the files that an export leaves in its folder."""


@dataclass(frozen=True, slots=True)
class ChunkRecord:
    """What is known of a finished chunk."""

    digest: str
    frame_count: int
    frame_hash: str
    """Hash of the frames given to the encoder, in order."""
    file_hash: str
    warnings: tuple[str, ...] = ()
    """What was told while it was rendered; told again when it is found."""
    render_s: float = 0
    """Wall seconds it took."""
    route: tuple[str, ...] = ()
    """See `EncodedChunk`."""


class ChunkStore:
    """The parts of one export, in one folder. One process at a time works in it (`locked`)."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.lock_descriptor: int | None = None
        """While it is locked. A process that works for this one inherits it, so that the folder
        stays locked until both are gone."""

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
        """The record of a part that is there and whole, else None."""
        try:
            fields = json.loads(self._record_path(chunk).read_text())
            told = {name: tuple(fields[name]) for name in ("warnings", "route")}
            record = ChunkRecord(**fields | told)
            if record.file_hash != _file_hash(self.path(chunk)):
                return None
            _check(chunk, record, self.path(chunk), encoder)
        except (OSError, ValueError, TypeError, LookupError, ChunkError):
            return None  # lost, torn or foreign: it is rendered again
        return record

    def accept(
        self,
        chunk: Chunk,
        encoded: EncodedChunk,
        encoder: Encoder,
        *,
        warnings: Sequence[str] = (),
        render_s: float = 0,
    ) -> ChunkRecord:
        """Checks a chunk that was just written to `path` and records it. Raises `ChunkError`."""
        path = self.path(chunk)
        record = ChunkRecord(
            digest=chunk.digest,
            frame_count=encoded.frame_count,
            frame_hash=encoded.frame_hash,
            file_hash=_file_hash(path),
            warnings=tuple(warnings),
            render_s=render_s,
            route=encoded.route,
        )
        _check(chunk, record, path, encoder)
        with whole_file(self._record_path(chunk)) as unfinished:
            unfinished.write_text(json.dumps(asdict(record), indent=1))
        return record

    def remove(self) -> None:
        """Deletes all parts, and the folder unless something else lies in it."""
        for path in list(self.folder.iterdir()):
            if _OURS.fullmatch(path.name):
                path.unlink()
        if not any(self.folder.iterdir()):
            self.folder.rmdir()

    def _record_path(self, chunk: Chunk) -> Path:
        return self.folder / f"{chunk.digest}.json"


def _check(chunk: Chunk, record: ChunkRecord, path: Path, encoder: Encoder) -> None:
    facts = chunk_facts(path)
    wanted = len(chunk.frames)
    if record.digest != chunk.digest or not record.frame_count == facts.frame_count == wanted:
        raise ChunkError(f"{path}: holds {facts.frame_count} frames, the plan says {wanted}")
    if (facts.size, facts.fps) != (encoder.size, encoder.fps):
        raise ChunkError(f"{path}: is {facts.size} at {facts.fps} fps")


def _file_hash(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
