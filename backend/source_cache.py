"""Remembers what probed sources are, so that each one is probed once and not in every worker.

Two kinds of small files are cached. One maps a version of a file or an object to its fingerprint,
the other holds the document of the source with that fingerprint (`SourceInfo.to_document`). So a
clip that was probed as an uploaded file is known when it is read from the store later.
"""

from __future__ import annotations

import contextlib
import json
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path

from backend.file_cache import FileCache
from engine.errors import SourceError
from engine.location import SourceLocation
from engine.media.fingerprint import fingerprint
from engine.media.probe import probe
from engine.source import SourceInfo
from engine.storage import Store
from engine.version import VERSION


@dataclass(frozen=True, slots=True)
class SourceCache:
    """The probed sources of one user. Users do not share them: a fingerprint covers a sample only.

    Sources that another version of the engine probed are probed again.
    """

    files: FileCache
    user_id: str

    def source_info(self, location: SourceLocation, store: Store) -> SourceInfo:
        """What the source is. Probes it unless a source with the same bytes was probed before.

        `store` holds a source that is an object. Raises what `probe` raises.
        """
        try:
            version_name = self._name("version", f"{location}\n{_version(location)}")
            known = self.files.read(version_name)
            digest = known.decode("ascii", "replace") if known else fingerprint(location, store)
        except OSError:
            return probe(location, store)  # raises the error that names the file
        source = self._cached(digest, location)
        if source is None:
            source = probe(location, store)
            document = json.dumps(source.to_document(), separators=(",", ":"))
            self.files.write(self._document_name(source.fingerprint), document.encode())
        if known != source.fingerprint.encode():
            self.files.write(version_name, source.fingerprint.encode())
        return source

    def _cached(self, digest: str, location: SourceLocation) -> SourceInfo | None:
        """The source with that fingerprint, None if it is not cached or cannot be understood."""
        data = self.files.read(self._document_name(digest))
        if data is None:
            return None
        with contextlib.suppress(ValueError, SourceError):
            return SourceInfo.from_document(json.loads(data), location)
        return None

    def _document_name(self, digest: str) -> str:
        return self._name("document", f"{VERSION}\n{digest}")

    def _name(self, kind: str, identity: str) -> str:
        digest = sha256(f"{self.user_id}\n{identity}".encode()).hexdigest()
        return f"{digest[:40]}.{kind}"


def _version(location: SourceLocation) -> str:
    """Changes whenever the content does. Raises `OSError`."""
    if not isinstance(location, Path):
        return location.etag
    stat = location.stat()
    return f"{stat.st_ino:x}-{stat.st_mtime_ns:x}-{stat.st_size:x}"
