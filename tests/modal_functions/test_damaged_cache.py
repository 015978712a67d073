"""Records in the bucket that were damaged: they are made again, and no export fails over them."""

from __future__ import annotations

import json

import pytest

from engine.records import document_in
from tests.modal_functions.control_plane import ControlPlane
from tests.modal_functions.test_export_job import exported
from tests.modal_functions.world import USER, World, job_of

NESTED = b'{"a":' * 100_000 + b"1" + b"}" * 100_000


@pytest.fixture
def world(s3_address: str, control_plane: ControlPlane, monkeypatch: pytest.MonkeyPatch) -> World:
    return World.made(s3_address, control_plane, monkeypatch)


@pytest.mark.parametrize("harm", ["nested", "changed"])
def test_an_export_replaces_what_is_damaged(world: World, harm: str) -> None:
    source = world.footage()
    first = exported(job_of(source), world.store)
    records = [key for key in world.keys("cache") if key.endswith(".json")]
    assert len(records) == 3 + 1  # of the chunks, and of what a renderer chose to render with
    for key in records:
        record = world.store.get_bytes(key)
        changed = json.dumps(json.loads(record) | {"frame_hash": "0" * 32, "status": "odd"})
        damaged = {"nested": NESTED, "changed": changed.encode()}[harm]
        world.store.put_bytes(key, damaged)
    job = job_of(source, job_id="job-2", output_key=f"{USER}/working_videos/second.mp4")
    second = exported(job, world.store)
    assert second["report"]["frames_resumed"] == 0
    hashes = [[each["frame_hash"] for each in it["report"]["chunks"]] for it in (first, second)]
    assert hashes[0] == hashes[1]
    assert [key for key in world.keys("cache") if key.endswith(".json")] == records
    assert all(document_in(world.store.get_bytes(key)) for key in records)
