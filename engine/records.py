"""Records: small JSON documents that are read back later, each with a checksum of itself.

A record that was torn, lost a bit or was never one counts as absent: whoever reads it makes it
again and puts the new one in its place. The checksum finds accidents. It is no signature: whoever
may write records may also write a false one that fits.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from engine.files import whole_file

MAX_RECORD_BYTES = 1 << 20
"""Size of the largest record. What is larger is not even parsed."""

_CHECKSUM = "checksum"


def record_bytes(document: Mapping[str, Any]) -> bytes:
    """The document as JSON with its checksum. Raises `ValueError` for NaN and infinity."""
    return json.dumps({**document, _CHECKSUM: _checksum(document)}).encode()


def document_in(record: bytes | None, max_bytes: int = MAX_RECORD_BYTES) -> dict[str, Any] | None:
    """The document that `record_bytes` was given, None for anything else."""
    if record is None or len(record) > max_bytes:
        return None
    try:
        document: dict[str, Any] = json.loads(record)
        checksum = document.pop(_CHECKSUM)
        return document if checksum == _checksum(document) else None
    except (ValueError, LookupError, TypeError, AttributeError, RecursionError):
        return None


def write_record(path: Path, document: Mapping[str, Any]) -> None:
    """Writes a record, whole or not at all. Raises `OutputError`."""
    with whole_file(path) as unfinished:
        unfinished.write_bytes(record_bytes(document))


def read_record(path: Path) -> dict[str, Any] | None:
    """The document of the record in a file, None where there is none that is whole."""
    try:
        with path.open("rb") as file:
            return document_in(file.read(MAX_RECORD_BYTES + 1))
    except OSError:
        return None


def _checksum(document: Mapping[str, Any]) -> str:
    """SHA-256 of the document as JSON in one canonical spelling, in hex."""
    text = json.dumps(document, sort_keys=True, separators=(",", ":"), allow_nan=False)
    return hashlib.sha256(text.encode()).hexdigest()
