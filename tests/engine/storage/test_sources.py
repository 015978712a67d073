"""Clips that lie in a store: the same frames and sound, and only what is looked at is moved."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, fields, replace
from fractions import Fraction
from functools import partial
from pathlib import Path
from random import Random
from typing import Any

import av
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import engine.storage.cached_store
import engine.storage.ranged
from engine.audio.reader import SoundReader
from engine.errors import ObjectChangedError, SourceError, StoreError
from engine.geometry import Size
from engine.location import ObjectLocation
from engine.media.encoders import Encoder, choose_encoder
from engine.media.fingerprint import fingerprint
from engine.media.mp4_index import SkimmingReader
from engine.media.probe import probe
from engine.pipeline.executors import Executor, InProcess
from engine.pipeline.exporter import export
from engine.pipeline.processes import LocalProcesses
from engine.source import SourceInfo
from engine.storage import LocalStore, S3Store, Store, StoredObject
from engine.storage.ranged import RangedReader
from engine.timeline.edit import Clip, Edit
from engine.timeline.plan import Plan, build_plan
from engine.timing import SAMPLE_RATE_HZ
from engine.upscale.choice import choose_upscaler
from tests.clips import burst_samples, numbered_clip
from tests.media import MEDIA_FOLDER, real_media
from tests.s3 import Asked, Cut, Fault, FaultyProxy, Refuse, Reset
from tests.sources import a_source

BLOCK_BYTES = 1 << 13


@pytest.fixture(scope="module", autouse=True)
def small_blocks() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(engine.storage.cached_store, "BLOCK_BYTES", BLOCK_BYTES)
        patch.setattr(engine.storage.ranged, "LEAST_AHEAD_BYTES", BLOCK_BYTES)
        yield


@pytest.fixture
def store(store_behind_proxy: Callable[[int], S3Store]) -> S3Store:
    return store_behind_proxy(3)


def stored(folder: Path, file: Path) -> StoredObject:
    """A copy of the file as an object of a local store that is read by ranges."""
    store = LocalStore(folder / "store")
    store.put_file("u/clip" + file.suffix, file)
    return pinned(store, "u/clip" + file.suffix)


def pinned(store: Store, key: str) -> StoredObject:
    """An object of any store, read by ranges."""
    info = store.stat(key)
    assert info
    return StoredObject(store, ObjectLocation(info.key, info.etag, info.size_bytes))


def probed(file: StoredObject) -> SourceInfo:
    return probe(file.location, file.store)


def assert_same(one: SourceInfo, other: SourceInfo) -> None:
    for each in fields(SourceInfo):
        if each.name not in ("location", "probed_etag"):
            a, b = getattr(one, each.name), getattr(other, each.name)
            assert np.array_equal(a, b), each.name


def moved_by_readers(proxy: FaultyProxy, size: int) -> int:
    """Bytes that were asked for, but for those of a fingerprint: of a small file, all `size`."""
    ranges = [each.headers["Range"].removeprefix("bytes=") for each in proxy.requests_of("GET")]
    lengths = [int(stop) + 1 - int(start) for start, stop in (each.split("-") for each in ranges)]
    return sum(length for length in lengths if length != size)


@pytest.fixture(scope="module")
def long_clip(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Twenty seconds that do not compress, with sound; some 3 MB."""
    path = tmp_path_factory.mktemp("long") / "clip.mp4"
    noise = np.random.default_rng(7)
    with av.open(str(path), "w", options={"movflags": "faststart"}) as container:
        video = container.add_stream("libx264", rate=30, options={"preset": "ultrafast", "qp": "8"})
        voice = container.add_stream("aac", rate=48_000, layout="stereo")
        assert isinstance(video, av.VideoStream) and isinstance(voice, av.AudioStream)
        video.width, video.height, video.codec_context.gop_size = 64, 64, 15
        packets: list[av.Packet[Any]] = []
        for _ in range(600):
            luma = noise.integers(16, 235, (64, 64), np.uint8)
            packets += video.encode(
                av.VideoFrame.from_ndarray(luma, "gray").reformat(format="yuv420p")
            )
        mono = burst_samples(Fraction(0), Fraction(20))
        sound = av.AudioFrame.from_ndarray(np.stack([mono, mono]), "fltp", "stereo")
        sound.sample_rate = 48_000
        packets += [*video.encode(None), *voice.encode(sound), *voice.encode(None)]
        packets.sort(key=lambda packet: (packet.dts or 0) * packet.time_base)
        container.mux(packets)
    return path


def second_of(source: SourceInfo) -> tuple[Plan, Encoder]:
    """One second out of the middle, with sound."""
    clip = Clip("clip.mp4", trim_start_s=9.5, trim_stop_s=10.5)
    plan = build_plan(Edit([clip], target_size=Size(64, 64)), [source])
    options = {"bf": "0"}
    encoder = choose_encoder(
        plan.size, plan.fps, name="libx264", preset="ultrafast", options=options
    )
    return plan, encoder


def rendered(
    source: SourceInfo, destination: Path, store: Store | None = None
) -> tuple[list[str | None], bytes]:
    """Hashes of the frames given to the encoder, and the finished file."""
    plan, encoder = second_of(source)
    report = export(
        plan, destination, encoder=encoder, upscaler=choose_upscaler("none"), store=store
    )
    return [chunk.frame_hash for chunk in report.chunks], destination.read_bytes()


def test_a_second_of_a_long_clip_moves_a_small_part_of_it(
    store: S3Store, proxy: FaultyProxy, long_clip: Path, tmp_path: Path
) -> None:
    store.put_file("u/clip.mp4", long_clip)
    here = probe(long_clip)
    proxy.forget()
    there = probe(store.source("u/clip.mp4"), store)
    assert_same(there, here)
    size = long_clip.stat().st_size
    assert 0 < moved_by_readers(proxy, size) < size / 10
    version = store.source("u/clip.mp4")
    assert isinstance(version, ObjectLocation)
    again = SourceInfo.from_document(json.loads(json.dumps(there.to_document())), version)
    assert (again.probed_etag, here.probed_etag) == (version.etag, None)
    document = json.loads(json.dumps(here.to_document()))
    described = SourceInfo.from_document(document, there.location)
    proxy.forget()
    assert rendered(described, tmp_path / "there.mp4", store) == rendered(
        here, tmp_path / "here.mp4"
    )
    assert (
        0 < moved_by_readers(proxy, size) < size / 3
    )  # the picture, and a second before the sound


@pytest.mark.parametrize("executor", [InProcess(), LocalProcesses(2)], ids=["one", "two"])
def test_the_report_counts_what_the_store_has_sent(
    store: S3Store, proxy: FaultyProxy, long_clip: Path, tmp_path: Path, executor: Executor
) -> None:
    """In this process, in workers, for the sound, and for the check of the source."""
    store.put_file("u/clip.mp4", long_clip)
    here = probe(long_clip)
    for source in (
        probe(store.source("u/clip.mp4"), store),
        replace(here, location=store.source("u/clip.mp4")),  # its fingerprint is taken again
    ):
        plan, encoder = second_of(source)
        proxy.forget()
        report = export(
            plan,
            tmp_path / "film.mp4",
            encoder=encoder,
            upscaler=choose_upscaler("none"),
            executor=executor,
            store=store,
        )
        assert 0 < report.source_bytes_read == proxy.body_bytes
    plan, encoder = second_of(here)
    report = export(plan, tmp_path / "b.mp4", encoder=encoder, upscaler=choose_upscaler("none"))
    assert report.source_bytes_read == 0


@pytest.mark.parametrize("faults", range(2))
def test_faults_while_a_clip_is_read_change_nothing(
    store: S3Store, proxy: FaultyProxy, long_clip: Path, tmp_path: Path, faults: int
) -> None:
    store.put_file("u/clip.mp4", long_clip)
    store = S3Store(replace(store.settings, attempts=10))
    chance = Random(faults)
    wrong: list[Fault] = [Refuse(500, "InternalError"), Reset(), Cut(0), Cut(100), Cut(9000)]
    proxy.fault = lambda _: chance.choice(wrong) if chance.random() < 0.3 else None
    source = probe(store.source("u/clip.mp4"), store)
    assert_same(source, probe(long_clip))
    assert rendered(source, tmp_path / "a.mp4", store) == rendered(
        probe(long_clip), tmp_path / "b.mp4"
    )


@pytest.mark.parametrize("after", [0, 1, 3])
@pytest.mark.parametrize("error", [StoreError, ObjectChangedError])
def test_a_store_that_is_lost_while_a_clip_is_read_is_an_error(
    store: S3Store,
    proxy: FaultyProxy,
    long_clip: Path,
    tmp_path: Path,
    error: type[StoreError],
    after: int,
) -> None:
    """Never a shorter clip, nor other pictures, and never half a file."""
    store.put_file("u/clip.mp4", long_clip)
    source = replace(probe(long_clip), location=store.source("u/clip.mp4"))
    plan, encoder = second_of(source)
    reads = 0

    def lost(asked: Asked) -> Fault | None:
        nonlocal reads
        reads += asked.method == "GET"
        if reads <= after + 1:  # the first is the fingerprint's
            return None
        if error is StoreError:
            return Reset()
        S3Store(replace(store.settings, endpoint_url=proxy.server)).put_bytes("u/clip.mp4", b"new")
        return None

    proxy.fault = lost
    with pytest.raises(error, match=r"u/clip\.mp4"):
        export(
            plan,
            tmp_path / "out.mp4",
            encoder=encoder,
            upscaler=choose_upscaler("none"),
            store=store,
        )
    assert not (tmp_path / "out.mp4").exists()


def test_a_clip_that_changed_since_the_plan_is_refused(
    store: S3Store, long_clip: Path, tmp_path: Path
) -> None:
    store.put_file("u/clip.mp4", long_clip)
    clip = probe(store.source("u/clip.mp4"), store)
    plan, encoder = second_of(clip)
    store.put_bytes("u/clip.mp4", long_clip.read_bytes()[::-1])
    with pytest.raises(ObjectChangedError):
        export(plan, tmp_path / "out.mp4", encoder=encoder, store=store)
    store.put_file("u/other.mp4", numbered_clip(tmp_path / "other.mp4", 40))
    for described in (clip, probe(long_clip)):
        other = replace(described, location=store.source("u/other.mp4"))
        plan, encoder = second_of(other)
        with pytest.raises(SourceError, match="has changed since the export was planned"):
            export(plan, tmp_path / "out.mp4", encoder=encoder, store=store)


# Probing

SYNTHETIC: dict[str, dict[str, Any]] = {
    "h264.mp4": {},
    "fragments.mp4": {"container_options": {"movflags": "frag_keyframe+empty_moov"}},
    "faststart.mp4": {"container_options": {"movflags": "faststart"}},
    "open gop.mp4": {"options": {"bf": "3", "x264-params": "open-gop=1:keyint=10"}},
    "interlaced.mp4": {"options": {"flags": "+ildct+ilme", "x264-params": "tff=1"}},
    "444.mov": {"pix_fmt": "yuv444p"},
    "vp9.mp4": {"codec": "libvpx-vp9", "options": {"deadline": "realtime", "cpu-used": "8"}},
    "mpeg4.mp4": {"codec": "mpeg4", "options": {"bf": "2"}},
    "mjpeg.mov": {"codec": "mjpeg", "pix_fmt": "yuvj420p"},
    "variable.mp4": {"pts": [Fraction(n * n % 7 + 40 * n, 1000) for n in range(300)]},
    "late.mp4": {"pts": [8 + Fraction(n, 30) for n in range(300)]},
    "sound.mp4": {"sound": "bursts"},
    "clip.mkv": {"sound": "bursts"},
    "clip.ts": {},
}


@pytest.mark.parametrize("name", SYNTHETIC)
def test_what_is_skimmed_is_what_is_read(tmp_path: Path, name: str) -> None:
    clip = numbered_clip(tmp_path / name, 300, **SYNTHETIC[name])
    assert_same(probed(stored(tmp_path, clip)), probe(clip))


@pytest.mark.parametrize(
    "name",
    sorted(path.name for path in MEDIA_FOLDER.glob("*.m*") if path.suffix != ".md") or ["any"],
)
def test_a_real_file_that_is_skimmed_is_what_is_read(tmp_path: Path, name: str) -> None:
    clip = real_media(name)
    assert_same(probed(stored(tmp_path, clip)), probe(clip))


def test_a_file_cut_short_is_skimmed_as_it_is_read(tmp_path: Path, long_clip: Path) -> None:
    data = long_clip.read_bytes()
    (tmp_path / "cut.mp4").write_bytes(data[: len(data) // 3])
    assert_same(probed(stored(tmp_path, tmp_path / "cut.mp4")), probe(tmp_path / "cut.mp4"))


@pytest.mark.parametrize("tail_index", [False, True])
def test_skimming_moves_the_index_and_the_first_frames(
    tmp_path: Path, long_clip: Path, tail_index: bool
) -> None:
    clip = long_clip
    if tail_index:
        clip = tmp_path / "tail.mp4"
        with av.open(str(long_clip)) as source, av.open(str(clip), "w") as target:
            stream = target.add_stream_from_template(source.streams.video[0])
            for packet in source.demux(source.streams.video[0]):
                if packet.dts is not None:
                    packet.stream = stream
                    target.mux(packet)
    store = Counting(tmp_path / "store")
    store.put_file("u/clip.mp4", clip)
    assert_same(probed(pinned(store, "u/clip.mp4")), probe(clip))
    size = clip.stat().st_size
    assert 0 < sum(length for length in store.lengths if length != size) < size / 5


def test_sound_in_the_middle_of_matroska_moves_a_small_part_of_the_file(
    tmp_path: Path, long_clip: Path
) -> None:
    clip = tmp_path / "clip.mkv"
    with av.open(str(long_clip)) as given, av.open(str(clip), "w") as container:
        streams = {each: container.add_stream_from_template(each) for each in given.streams}
        for packet in given.demux():
            if packet.size:
                packet.stream = streams[packet.stream]
                container.mux(packet)
    store = Counting(tmp_path / "store")
    store.put_file("u/clip.mkv", clip)
    there = pinned(store, "u/clip.mkv")
    source = probed(there)
    store.lengths.clear()
    start, stop = 15 * SAMPLE_RATE_HZ, 16 * SAMPLE_RATE_HZ
    warnings: list[str] = []
    reader = SoundReader(source, start, stop, on_warning=warnings.append, store=store)
    heard = reader.read(start, stop)
    reader.close()
    assert 0 < sum(store.lengths) < clip.stat().st_size / 4
    here = SoundReader(probe(clip), start, stop, on_warning=warnings.append)
    assert np.array_equal(heard, here.read(start, stop)) and np.abs(heard).max() > 0.4
    here.close()
    assert not warnings


@dataclass(frozen=True)
class Counting(LocalStore):
    """Notes how much is asked for."""

    lengths: list[int] = field(default_factory=list)

    def read(self, key: str, start: int, length: int, *, etag: str) -> bytes:
        self.lengths.append(length)
        return super().read(key, start, length, etag=etag)


def test_what_is_no_video_is_told_of_an_object_too(tmp_path: Path) -> None:
    for data, reason in [
        (b"", "is empty"),
        (b"It was a dark night.\n" * 99, "not a video file"),
        (b"\0\0\0\x18ftypisom" + bytes(99), "moov"),
    ]:
        (tmp_path / "x.mp4").write_bytes(data)
        with pytest.raises(SourceError, match=f"^u/clip.mp4: .*{reason}"):
            probed(stored(tmp_path, tmp_path / "x.mp4"))


@pytest.mark.parametrize("size", [0, 1, 1 << 20, (3 << 20) + 1, 5 << 20])
def test_a_fingerprint_is_of_the_bytes_wherever_they_lie(tmp_path: Path, size: int) -> None:
    (tmp_path / "x").write_bytes(Random(size).randbytes(size))
    there = stored(tmp_path, tmp_path / "x")
    assert fingerprint(there.location, there.store) == fingerprint(tmp_path / "x")


# Readers


@given(
    st.lists(
        st.tuples(st.sampled_from(["read", "set", "cur", "end"]), st.integers(-99, 40_000)),
        max_size=12,
    )
)
def test_a_ranged_reader_is_a_file(
    tmp_path_factory: pytest.TempPathFactory, steps: list[tuple[str, int]]
) -> None:
    path = tmp_path_factory.getbasetemp() / "bytes"
    if not path.exists():
        path.write_bytes(Random(1).randbytes(2 * BLOCK_BYTES + 99))
        stored(path.parent, path)
    store = LocalStore(path.parent / "store")
    reader = RangedReader(pinned(store, "u/clip"))
    with path.open("rb") as file:
        for what, number in steps:
            if what == "read":
                assert reader.read(number) == file.read(max(number, -1))
                continue
            whence = {"set": os.SEEK_SET, "cur": os.SEEK_CUR, "end": os.SEEK_END}[what]
            try:
                place = file.seek(number, whence)
            except (OSError, ValueError):
                with pytest.raises(ValueError, match="no byte"):
                    reader.seek(number, whence)
                continue
            assert reader.seek(number, whence) == place == reader.tell()


def test_samples_read_as_zeros_and_all_else_as_it_is(tmp_path: Path) -> None:
    def box(name: bytes, content: bytes, *, wide: bool = False) -> bytes:
        head = (1).to_bytes(4) + name + (16 + len(content)).to_bytes(8)
        return (head if wide else (8 + len(content)).to_bytes(4) + name) + content

    noise = Random(3).randbytes(40_000)
    boxes = [
        (box(b"ftyp", b"isom"), False),
        (box(b"mdat", noise), True),
        (box(b"moof", noise[:999]), False),
        (box(b"mdat", noise[::-1], wide=True), True),
        (box(b"moov", noise[:99]), False),
        ((0).to_bytes(4) + b"mdat" + noise[:500], True),
    ]
    expected = b"".join(
        (data[:head] + bytes(len(data) - head) if hidden else data)
        for data, hidden in boxes
        for head in [16 if data[:4] == (1).to_bytes(4) else 8]
    )
    (tmp_path / "x.mp4").write_bytes(b"".join(data for data, _ in boxes))
    source = stored(tmp_path, tmp_path / "x.mp4")
    for step in (1 << 20, 4096, 37):
        reader = SkimmingReader(source)
        assert reader.read(30) == (tmp_path / "x.mp4").read_bytes()[:30]
        reader.skim()
        reader.seek(0)
        assert b"".join(iter(partial(reader.read, step), b"")) == expected
    reader.seek(len(expected) - 700)
    assert reader.read(50) == expected[-700:-650]


# Descriptions


@pytest.mark.parametrize("name", ["h264.mp4", "variable.mp4", "sound.mp4", "clip.ts"])
def test_a_description_is_the_file_again(tmp_path: Path, name: str) -> None:
    info = probe(numbered_clip(tmp_path / name, 50, **SYNTHETIC[name] | {"pts": None}))
    text = json.dumps(info.to_document())
    assert len(text) < 2000
    again = SourceInfo.from_document(json.loads(text), info.location)
    assert_same(again, info)
    assert again.frame_pts.dtype == again.keyframe_pts.dtype == np.dtype(np.int64)
    assert again.location == info.location


@given(st.lists(st.integers(-(2**40), 2**40), unique=True).map(sorted))
def test_timestamps_in_a_description(ticks: list[int]) -> None:
    info = replace(a_source(), frame_pts=np.array(ticks, np.int64))
    document = json.loads(json.dumps(info.to_document()))
    assert SourceInfo.from_document(document, Path("a")).frame_pts.tolist() == ticks


@pytest.mark.parametrize(
    "change",
    [{"version": 0}, {"framePts": 5}, {"colour": None}, {"timeBase": "x"}, {"codedSize": [1]}],
    ids=str,
)
def test_a_description_of_another_kind_is_refused(change: dict[str, Any]) -> None:
    document = a_source().to_document() | change
    with pytest.raises(SourceError, match=r"^a\.mp4: is described in a way not known here"):
        SourceInfo.from_document(document, Path("a.mp4"))
    with pytest.raises(SourceError):
        SourceInfo.from_document({}, Path("a.mp4"))
