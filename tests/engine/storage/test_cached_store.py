"""The cache between the readers of one run and a store: fewer bytes, and never other ones."""

from __future__ import annotations

import pickle
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from random import Random

import pytest

import engine.storage.cached_store
import engine.storage.ranged
from engine.errors import ObjectChangedError, StoreError
from engine.location import ObjectLocation
from engine.storage import CachedStore, LocalStore, ObjectReader, StoredObject
from engine.storage.ranged import RangedReader

BLOCK, KEPT = 1 << 10, 16
SIZE = 200 * BLOCK + 99
KEY = "u/film"


@pytest.fixture(autouse=True)
def small_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    """Sixteen blocks of a KiB are kept, and one is read ahead at least."""
    monkeypatch.setattr(engine.storage.cached_store, "BLOCK_BYTES", BLOCK)
    monkeypatch.setattr(engine.storage.cached_store, "CACHE_BYTES", KEPT * BLOCK)
    monkeypatch.setattr(engine.storage.ranged, "LEAST_AHEAD_BYTES", BLOCK)
    monkeypatch.setattr(engine.storage.ranged, "GOING_ON_BYTES", BLOCK)


@dataclass
class Witness:
    """Notes what is asked of a store. `before` is called first, and may wait or raise."""

    store: LocalStore
    before: Callable[[], None] = lambda: None
    asked: list[range] = field(default_factory=list)

    def read(self, key: str, start: int, length: int, *, etag: str) -> bytes:
        self.asked.append(range(start, start + length))
        self.before()
        return self.store.read(key, start, length, etag=etag)


@pytest.fixture
def content() -> bytes:
    return Random(1).randbytes(SIZE)


@pytest.fixture
def witness(tmp_path: Path, content: bytes) -> Witness:
    store = LocalStore(tmp_path / "store")
    store.put_bytes(KEY, content)
    return Witness(store)


def reader_of(cache: ObjectReader, store: LocalStore) -> RangedReader:
    """A reader of the object's present version."""
    info = store.stat(KEY)
    assert info
    return RangedReader(StoredObject(cache, ObjectLocation(KEY, info.etag, info.size_bytes)))


def test_readers_download_what_they_share_once(witness: Witness, content: bytes) -> None:
    cache = CachedStore(witness)
    for _ in range(3):
        assert reader_of(cache, witness.store).read(10 * BLOCK) == content[: 10 * BLOCK]
    assert witness.asked == [range(11 * BLOCK)]
    assert cache.taken_bytes() == 11 * BLOCK
    assert cache.taken_bytes() == 0


def test_threads_that_need_the_same_bytes_wait_for_one_download(
    witness: Witness, content: bytes
) -> None:
    started, go_on = threading.Event(), threading.Event()

    def wait() -> None:
        started.set()
        assert go_on.wait(30)

    witness.before = wait
    cache = CachedStore(witness)
    with ThreadPoolExecutor(4) as pool:
        first = pool.submit(reader_of(cache, witness.store).read, 3 * BLOCK)
        assert started.wait(30)
        others = [pool.submit(reader_of(cache, witness.store).read, 2 * BLOCK) for _ in range(3)]
        go_on.set()
        assert first.result(30) == content[: 3 * BLOCK]
        assert {each.result(30) for each in others} == {content[: 2 * BLOCK]}
    assert len(witness.asked) == 1


def test_many_threads_read_what_is_there(witness: Witness, content: bytes) -> None:
    cache = CachedStore(witness)

    def check(seed: int) -> None:
        chance, reader = Random(seed), reader_of(cache, witness.store)
        for _ in range(200):
            start, length = chance.randrange(SIZE), chance.randrange(30 * BLOCK)
            assert reader.read_at(start, length) == content[start : start + length]

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(check, range(8)))
    assert cache.taken_bytes() == sum(
        len(content[asked.start : asked.stop]) for asked in witness.asked
    )


def test_the_blocks_used_last_are_kept_and_no_more(witness: Witness) -> None:
    cache = CachedStore(witness)
    location = reader_of(cache, witness.store)._location

    def read(block: int) -> int:
        """How many requests it takes to read in a block."""
        before = len(witness.asked)
        cache.read_ahead(KEY, block * BLOCK + 5, 7, 0, etag=location.etag)
        return len(witness.asked) - before

    assert [read(block) for block in range(KEPT)] == [1] * KEPT
    assert read(0) == 0  # used again, so 1 was used longest ago
    assert read(KEPT) == 1
    assert [read(block) for block in (0, 2, KEPT)] == [0, 0, 0]
    assert read(1) == 1


def test_an_object_that_has_changed_is_not_read_from_the_cache_as_the_new_one(
    witness: Witness, content: bytes
) -> None:
    cache = CachedStore(witness)
    old = reader_of(cache, witness.store)
    assert old.read(BLOCK) == content[:BLOCK]
    witness.store.put_bytes(KEY, content[::-1])
    assert reader_of(cache, witness.store).read(BLOCK) == content[::-1][:BLOCK]
    with pytest.raises(ObjectChangedError):
        old.read(50 * BLOCK)
    with pytest.raises(ObjectChangedError):
        old.read_at(0, BLOCK)  # a demuxer that goes on gets the error again


def test_a_download_that_fails_is_told_to_all_who_wait_and_tried_again_by_the_next(
    witness: Witness, content: bytes
) -> None:
    started, go_on = threading.Event(), threading.Event()

    def fail() -> None:
        started.set()
        assert go_on.wait(30)
        raise StoreError(KEY, "is out of reach")

    witness.before = fail
    cache = CachedStore(witness)
    with ThreadPoolExecutor(2) as pool:
        first = pool.submit(reader_of(cache, witness.store).read, 3 * BLOCK)
        assert started.wait(30)
        second = pool.submit(reader_of(cache, witness.store).read, BLOCK)
        go_on.set()
        for each in (first, second):
            with pytest.raises(StoreError, match="out of reach"):
                each.result(30)
    witness.before = lambda: None
    assert reader_of(cache, witness.store).read(BLOCK) == content[:BLOCK]


def test_a_part_of_the_cache_has_its_own_count_and_another_process_its_own_cache(
    witness: Witness,
) -> None:
    cache = CachedStore(witness.store)
    part = cache.counted_apart()
    reader_of(part, witness.store).read(BLOCK)
    reader_of(cache, witness.store).read(BLOCK)
    there = pickle.loads(pickle.dumps(cache))
    assert (cache.taken_bytes(), part.taken_bytes(), there.taken_bytes()) == (0, 2 * BLOCK, 0)
    reader_of(there, witness.store).read(BLOCK)
    assert there.taken_bytes() == 2 * BLOCK


@pytest.mark.parametrize("blocks", [1, 10, 40, 100])
def test_little_more_than_what_is_read_in_one_go_is_downloaded(
    witness: Witness, monkeypatch: pytest.MonkeyPatch, blocks: int
) -> None:
    monkeypatch.setattr(engine.storage.cached_store, "CACHE_BYTES", SIZE)
    for start in range(0, SIZE - blocks * BLOCK, SIZE // 7):
        witness.asked.clear()
        reader = reader_of(CachedStore(witness), witness.store)
        for place in range(start, start + blocks * BLOCK, 300):
            reader.read_at(place, 300)
        downloaded = sum(map(len, witness.asked))
        assert downloaded <= 1.25 * blocks * BLOCK + 3 * BLOCK
        assert blocks < 40 or len(witness.asked) < blocks / 3
