"""Files of machine code: torn, for something else, or where nothing can be written."""

from __future__ import annotations

import threading
from pathlib import Path

import pytest

from engine.code_files import code_files, make_code, read_code
from tests.disks import fill, small_disk


def unexpected() -> bytes:
    raise AssertionError("it is there already")


def test_code_is_made_once(tmp_path: Path) -> None:
    files = [tmp_path / "new" / "a.code", tmp_path / "b.code"]
    assert read_code(files, "key") is None
    assert make_code(files, "key", lambda: b"code") == b"code"
    assert read_code(files, "key") == b"code"
    assert make_code(files, "key", unexpected) == b"code"
    assert not files[1].exists()


def test_a_torn_file_and_one_for_another_key_are_made_again(tmp_path: Path) -> None:
    path = tmp_path / "a.code"
    make_code([path], "key", lambda: b"code")
    whole = path.read_bytes()
    for content in (whole[:-1], whole[:-1] + b"?", whole + b"?", whole[:9], b""):
        path.write_bytes(content)
        assert read_code([path], "key") is None
        assert make_code([path], "key", lambda: b"code") == b"code"
        assert path.read_bytes() == whole
    assert read_code([path], "ke") is None
    assert make_code([path], "other", lambda: b"longer code") == b"longer code"
    assert read_code([path], "other") == b"longer code"


def test_the_next_place_is_taken_where_the_first_cannot_be_written(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    files = [tmp_path / "file" / "a.code", tmp_path / "b.code"]
    assert make_code(files, "key", lambda: b"code") == b"code"
    assert read_code(files, "key") == b"code" == read_code(files[1:], "key")
    assert make_code(files[:1], "key", lambda: b"code") == b"code"


def test_a_full_disk_costs_only_the_file(tmp_path: Path) -> None:
    with small_disk(tmp_path / "disk", 1 << 20) as disk:
        fill(disk)
        path = disk / "a.code"
        assert make_code([path], "key", lambda: b"code" * 9999) == b"code" * 9999
        assert read_code([path], "key") is None


def test_of_two_that_want_the_same_one_makes_it(tmp_path: Path) -> None:
    path = tmp_path / "a.code"
    found: list[bytes | None] = []

    def make() -> bytes:
        second.start()
        return b"code"

    def wait_for_it() -> None:
        found.append(make_code([path], "key", unexpected))

    second = threading.Thread(target=wait_for_it)
    assert make_code([path], "key", make) == b"code"
    second.join(timeout=30)
    assert found == [b"code"]


def test_where_code_lies(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.delenv("NUMBA_CACHE_DIR", raising=False)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert list(code_files(Path("/lib/a.py"), "a.code")) == [
        Path("/lib/__pycache__/a.code"),
        tmp_path / "framestream" / "kernels" / "a.code",
    ]
    monkeypatch.setenv("NUMBA_CACHE_DIR", str(tmp_path))
    assert list(code_files(Path("/lib/a.py"), "a.code")) == [tmp_path / "a.code"]
