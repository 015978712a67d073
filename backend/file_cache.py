"""A folder of cached files that several processes use at the same time."""

from __future__ import annotations

import contextlib
import os
import time
from dataclasses import dataclass
from pathlib import Path

from engine.errors import OutputError
from engine.files import remove_unfinished, whole_file

LIFETIME_S = 30 * 86_400.0
"""How long a file is kept after it was last read or written."""

MAX_BYTES = 64 << 20
"""Size of the largest file. What is larger counts as absent, and is not read into memory."""


@dataclass(frozen=True, slots=True)
class FileCache:
    """Small files by name in `folder`, which is created when it is first needed."""

    folder: Path
    lifetime_s: float = LIFETIME_S

    def read(self, name: str) -> bytes | None:
        """The file's content, None if there is none that can be read. Reading renews its age."""
        path = self.folder / name
        try:
            os.utime(path)
            with path.open("rb") as file:
                data = file.read(MAX_BYTES + 1)
        except OSError:
            return None
        return data if len(data) <= MAX_BYTES else None

    def write(self, name: str, data: bytes) -> None:
        """Writes or replaces a file. Readers see the old content or all of the new.

        A folder that cannot be written is not an error: the file is then not cached.
        """
        with contextlib.suppress(OSError, OutputError):
            self.folder.mkdir(parents=True, exist_ok=True)
            with whole_file(self.folder / name) as unfinished:
                unfinished.write_bytes(data)

    def sweep(self) -> None:
        """Removes files that were not used for `lifetime_s`, and what killed writers have left."""
        remove_unfinished(self.folder)
        oldest = time.time() - self.lifetime_s
        for path in self.folder.glob("*"):
            with contextlib.suppress(OSError):  # removed by another process, or not to be removed
                if path.stat().st_mtime < oldest:
                    path.unlink()
