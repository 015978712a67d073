"""Records: a damaged one is never believed, and none takes a program down."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from engine.records import MAX_RECORD_BYTES, document_in, read_record, record_bytes, write_record

DOCUMENT = {"digest": "ab12", "frames": 240, "s": 0.1, "warnings": ["é \ud800"], "none": None}

VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(max_size=5),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner, max_size=3)
    ),
    max_leaves=8,
)  # fmt: skip


@given(st.dictionaries(st.text(max_size=5), VALUES, max_size=4))
def test_what_was_written_is_read(document: dict[str, Any]) -> None:
    assert document_in(record_bytes(document)) == document


def test_no_flipped_bit_is_believed() -> None:
    record = record_bytes(DOCUMENT)
    for place in range(len(record)):
        for bit in range(8):
            flipped = record[:place] + bytes([record[place] ^ 1 << bit]) + record[place + 1 :]
            assert document_in(flipped) in (None, DOCUMENT)  # white space may be another one


def test_no_cut_off_record_is_believed() -> None:
    record = record_bytes(DOCUMENT)
    assert not [length for length in range(len(record)) if document_in(record[:length])]


@pytest.mark.parametrize(
    "record",
    [
        b"", b"\xff", b"null", b"7", b'"checksum"', b"[]", b"{}", b'{"checksum": null}',
        b'{"checksum": {"checksum": 1}}', b'{"a": NaN, "checksum": 1}', b'{"a": 1e999}',
        b"[" * 200_000, b"[" * 200_000 + b"]" * 200_000, b'{"a":' * 100_000 + b"1" + b"}" * 100_000,
        b'{"checksum": "", "a": ' + b"[" * 900 + b"]" * 900 + b"}", b"1" * 10_000,
    ],
    ids=lambda record: record[:20],
)  # fmt: skip
def test_what_is_no_record_is_none(record: bytes, tmp_path: Path) -> None:
    assert document_in(record) is None
    (path := tmp_path / "record.json").write_bytes(record)
    assert read_record(path) is None
    write_record(path, DOCUMENT)
    assert read_record(path) == DOCUMENT


def test_a_huge_file_is_not_read(tmp_path: Path) -> None:
    path = tmp_path / "record.json"
    with path.open("wb") as file:
        file.truncate(1 << 40)
    assert read_record(path) is None
    assert document_in(record_bytes({"a": "x" * MAX_RECORD_BYTES})) is None


def test_no_file_and_a_folder_are_no_record(tmp_path: Path) -> None:
    assert read_record(tmp_path / "none") is None
    assert read_record(tmp_path) is None


def test_the_spelling_does_not_matter() -> None:
    """A record may be looked at, and laid out anew, with any tool."""
    record = json.loads(record_bytes(DOCUMENT))
    assert document_in(json.dumps(record, indent=4, sort_keys=True).encode()) == DOCUMENT
