"""Where a source is, as a pure value. It holds no open file and no secret."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import TypeAlias


@dataclass(frozen=True, slots=True)
class ObjectLocation:
    """One version of one object, in the store that its reader is given. Holds no secret."""

    key: str
    etag: str
    """Names the version; see `storage.objects.ObjectInfo`."""
    size_bytes: int

    @property
    def name(self) -> str:
        """The last part of the key."""
        return PurePosixPath(self.key).name

    @property
    def stem(self) -> str:
        """The name without its suffix."""
        return PurePosixPath(self.key).stem

    def __str__(self) -> str:
        return self.key


SourceLocation: TypeAlias = Path | ObjectLocation
"""A source's location: a file, or an object that is read without a copy on disk."""
