"""Remembers what probed sources are, so that each one is probed once and not in every worker.

Two kinds of records are cached. One maps a version of a file or an object to its fingerprint, the
other holds the document of the source with that fingerprint (`SourceInfo.to_document`). So a clip
that was probed as an uploaded file is known when it is read from the store later. A record that is
damaged is made again.
"""

from __future__ import annotations

import contextlib
from dataclasses import dataclass, replace
from hashlib import sha256
from pathlib import Path
from typing import Any

from backend.file_cache import MAX_BYTES, FileCache
from engine.errors import SourceError
from engine.location import SourceLocation
from engine.media.fingerprint import fingerprint
from engine.media.probe import probe
from engine.records import document_in, record_bytes
from engine.source import SourceInfo
from engine.storage import ObjectReader
from engine.version import VERSION


@dataclass(frozen=True, slots=True)
class SourceCache:
    """The probed sources of one user. Users do not share them: a fingerprint covers a sample only.

    Sources that another version of the engine probed are probed again.
    """

    files: FileCache
    user_id: str

    def source_info(self, location: SourceLocation, store: ObjectReader) -> SourceInfo:
        """What the source is. Probes it unless a source with the same bytes was probed before.

        `store` holds a source that is an object. Raises what `probe` raises.
        """
        try:
            version_name = self._name("version", f"{location}\n{_version(location)}")
            known = self._read(version_name)
            digest = str(known["fingerprint"]) if known else fingerprint(location, store)
        except OSError:
            return probe(location, store)  # raises the error that names the file
        source = self._cached(digest, location)
        if source is None:
            source = probe(location, store)
            self._write(self._document_name(source.fingerprint), source.to_document())
        if digest != source.fingerprint or not known:
            self._write(version_name, {"fingerprint": source.fingerprint})
        return source if isinstance(location, Path) else replace(source, probed_etag=location.etag)

    def _cached(self, digest: str, location: SourceLocation) -> SourceInfo | None:
        """The source with that fingerprint, None if it is not cached or cannot be understood."""
        document = self._read(self._document_name(digest))
        if document is not None:
            with contextlib.suppress(SourceError):
                return SourceInfo.from_document(document, location)
        return None

    def _read(self, name: str) -> dict[str, Any] | None:
        return document_in(self.files.read(name), MAX_BYTES)

    def _write(self, name: str, document: dict[str, Any]) -> None:
        self.files.write(name, record_bytes(document))

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
