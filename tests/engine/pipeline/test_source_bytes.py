"""Three moments of a film of two hours in a store: only they are downloaded, and the index once."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

import pytest

from engine.location import ObjectLocation
from engine.media.encoders import choose_encoder
from engine.media.probe import probe
from engine.pipeline.exporter import export
from engine.storage import LocalStore
from engine.timeline.edit import Edit
from engine.timeline.plan import build_plan
from engine.upscale.choice import choose_upscaler
from tests.clips import read_number
from tests.long_film import FPS, held_bytes, index_bytes, long_film, number_at
from tests.witness import luma_frames

RANGES_S = [(11, 21), (3602, 3609), (7180, 7190)]
KEY = "7/clips/match.mp4"


@dataclass(frozen=True)
class Witness(LocalStore):
    """Notes how many bytes each read has given."""

    lengths: list[int] = field(default_factory=list)

    def read(self, key: str, start: int, length: int, *, etag: str) -> bytes:
        data = super().read(key, start, length, etag=etag)
        self.lengths.append(len(data))
        return data


@pytest.mark.parametrize("index_first", [False, True], ids=["index last", "index first"])
def test_three_ranges_of_a_two_hour_film(tmp_path: Path, index_first: bool) -> None:
    store = Witness(tmp_path / "store")
    film = store.path(KEY)
    film.parent.mkdir(parents=True)
    long_film(film, RANGES_S, index_first=index_first)
    info = store.stat(KEY)
    assert info
    source = probe(ObjectLocation(KEY, info.etag, info.size_bytes), store)
    index = index_bytes(film)
    assert sum(store.lengths) < index + (5 << 20)  # 3 MiB are its fingerprint
    store.lengths.clear()

    clips = [
        {"fileName": "match.mp4", "sourceRange": {"start": start, "end": stop}}
        for start, stop in RANGES_S
    ]
    edit = Edit.parse({"clips": clips, "targetFps": FPS, "targetWidth": 64, "targetHeight": 48})
    plan = build_plan(edit, [source] * len(clips))
    encoder = choose_encoder(plan.size, plan.fps, name="libx264", preset="ultrafast")
    made = tmp_path / "reel.mp4"
    report = export(plan, made, encoder=encoder, upscaler=choose_upscaler("none"), store=store)

    wanted = [frame for start, stop in RANGES_S for frame in range(start * FPS, stop * FPS)]
    assert [read_number(luma) for luma in luma_frames(made)] == [*map(number_at, wanted)]
    assert report.source_frames == len(wanted)
    assert report.source_frames_decoded <= 2 * len(wanted)
    assert report.source_bytes_read == sum(store.lengths)
    held = sum(held_bytes(stop - start) for start, stop in RANGES_S)
    assert held < report.source_bytes_read < 2 * held + index
