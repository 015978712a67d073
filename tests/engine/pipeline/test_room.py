"""The room for a film beside its chunks: by hand, and on disks that have too little of it."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from engine.errors import OutputError, is_out_of_space
from engine.geometry import Size
from engine.media.encoders import choose_encoder
from engine.pipeline.exporter import export, probe_sources
from engine.pipeline.report import Report
from engine.pipeline.room import JoinRoom, join_room
from engine.timeline.edit import Clip, Edit
from engine.timeline.plan import Plan, build_plan
from tests.clips import numbered_clip, read_number
from tests.disks import small_disk
from tests.media import needs_ffmpeg
from tests.witness import complaints, luma_frames, samples

PAGE = 4096
FRAMES = 600


def sized(path: Path, size_bytes: int) -> Path:
    with path.open("wb") as file:
        file.truncate(size_bytes)
    return path


def test_room_by_hand(tmp_path: Path) -> None:
    a, b = sized(tmp_path / "a.mp4", 1000), sized(tmp_path / "b.mp4", 2000)
    sound = sized(tmp_path / "sound.m4a", 500)
    # the film: 1.05 x (1000 + 2000), and 1.05 x 500 more with sound
    # in their place: a's copy takes 50, then 1.05 x 3000 less both: 150; the sound's copy 525 more
    assert join_room([a, b], None) == JoinRoom(3150, 150)
    assert join_room([a, b], sound) == JoinRoom(3675, 675)
    # a again: it is deleted after its second copy only, so b's copy is written beside it:
    # 1.05 x 3500 - 2000 = 1675, then 1.05 x 4500 - 3000 = 1725
    assert join_room([a, b, a], sound) == JoinRoom(4725, 1725)
    # a large one, twice in the beginning: 1.05 x 2500 before anything is deleted
    assert join_room([b, b, a], sound) == JoinRoom(5775, 2775)
    assert join_room([b, a, b], None).in_their_place == 2250  # 1.05 x 5000 - 3000


@pytest.fixture(scope="module")
def plan(tmp_path_factory: pytest.TempPathFactory) -> Plan:
    folder = tmp_path_factory.mktemp("clips")
    numbered_clip(folder / "a.mp4", frames=FRAMES, sound="bursts")
    edit = Edit([Clip("a.mp4")], target_size=Size(240, 144))
    return build_plan(edit, probe_sources(edit, folder))


@pytest.fixture(scope="module")
def roomy(plan: Plan, tmp_path_factory: pytest.TempPathFactory) -> tuple[Report, int, int]:
    """The film where there is room, with the bytes of its chunks and of its sound."""
    film = tmp_path_factory.mktemp("roomy") / "film.mp4"
    report = exported(plan, film, keep_parts=True)
    sizes = {path: path.stat().st_size for path in film.with_name("film.mp4.parts").iterdir()}
    return (
        report,
        sum(size for path, size in sizes.items() if path.suffix == ".mp4"),
        sum(size for path, size in sizes.items() if path.suffix == ".m4a"),
    )


def exported(plan: Plan, film: Path, *, keep_parts: bool = False) -> Report:
    encoder = choose_encoder(plan.size, plan.fps, name="libx264", preset="ultrafast")
    return export(plan, film, encoder=encoder, keep_parts=keep_parts)


def hashes(report: Report) -> list[str | None]:
    return [chunk.frame_hash for chunk in report.chunks]


def check_film(film: Path, report: Report, expected: Report) -> None:
    assert complaints(film) == ""
    assert [read_number(luma) for luma in luma_frames(film)] == list(range(FRAMES))
    assert len(samples(film)) == pytest.approx(FRAMES * 1600, abs=1024)
    assert hashes(report) == hashes(expected)


@needs_ffmpeg
def test_a_film_with_sound_takes_the_place_of_its_chunks(
    plan: Plan, roomy: tuple[Report, int, int], tmp_path: Path
) -> None:
    """There is room for a copy of the chunks, but not of the sound as well."""
    expected, chunk_bytes, sound_bytes = roomy
    assert sound_bytes > 0.2 * chunk_bytes  # else the room to spare would hide it
    free_bytes = round(1.05 * chunk_bytes) + sound_bytes // 2
    with small_disk(tmp_path / "disk", chunk_bytes + sound_bytes + free_bytes + 8 * PAGE) as disk:
        report = exported(plan, disk / "film.mp4")
        check_film(disk / "film.mp4", report, expected)
        assert [path.name for path in disk.iterdir()] == ["film.mp4"]
    assert "no room" in " ".join(report.warnings) and not expected.warnings


@needs_ffmpeg
def test_without_room_even_for_that_no_chunk_is_lost(
    plan: Plan, roomy: tuple[Report, int, int], tmp_path: Path
) -> None:
    expected, chunk_bytes, sound_bytes = roomy
    size_bytes = chunk_bytes + sound_bytes + sound_bytes // 2 + 8 * PAGE
    with small_disk(tmp_path / "disk", size_bytes) as disk:
        with pytest.raises(OutputError, match="no space left on device") as raised:
            exported(plan, disk / "film.mp4")
        assert is_out_of_space(raised.value)
        chunks = list((disk / "film.mp4.parts").glob("*.mp4"))
        assert sum(path.stat().st_size for path in chunks) == pytest.approx(chunk_bytes, rel=0.01)
        larger = ["mount", "-o", f"remount,size={2 * size_bytes}", str(disk)]
        subprocess.run(larger, check=True)
        report = exported(plan, disk / "film.mp4")
        assert report.frames_rendered == 0
        check_film(disk / "film.mp4", report, expected)
