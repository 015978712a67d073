"""Chunks at a time: threads and processes measured here, more processors than here by a model.

    python -m bench.cores RESULTS.json
    python -m bench.cores RESULTS.json --rounds 1

*Measured*: the same export of four chunks with one chunk at a time, with two threads and with two
processes, in turns; with libx264's usual four threads, and with one, so that two chunks on two
processors are what many chunks on many processors are. Each run is an export in a process that has
exported something short before, so that what is timed is the engine and not its imports. Workers
that are processes start within that time, as they do in use.

*Modelled*: how busy 4, 8 and 16 processors are with the number of chunks that `--workers auto`
takes there. The model is that of `engine/pipeline/workers.py`, with what a frame takes as measured.
**No machine with more than two processors was measured for it.**
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from resource import RUSAGE_CHILDREN, RUSAGE_SELF, getrusage
from statistics import median
from typing import Any

from bench.footage import Footage
from bench.machine import Machine, as_typed, this_machine
from bench.measured import usage_of
from bench.tables import table
from engine import Edit, Listener, Progress, build_plan, choose_encoder, export, probe_sources
from engine.geometry import Size
from engine.machine import Machine as Available
from engine.media.chunk_writer import ChunkWriter
from engine.media.encoders import Encoder
from engine.pipeline.local import LocalWorkers
from engine.pipeline.workers import Work, cores_of_a_chunk, decide_workers, rendering_s
from engine.pixels.picture import Picture
from engine.timeline.chunks import MAX_CHUNK_FRAMES
from engine.upscale.choice import choose_upscaler

FULL, SMALL = Size(1080, 1920), Size(64, 64)
CLIPS, CLIP_S, FPS = 4, 3, 30
SHORT_S = 0.5
KINDS = {"one": (1, False), "two threads": (2, False), "two processes": (2, True)}
THREADS = (4, 1)
CORES = (2, 4, 8, 16)
FILMS_S = (20, 60, 300)
BARE_FRAMES = 90


def main() -> None:
    asked = _asked()
    if asked.render:
        print(json.dumps(_rendered(Path(asked.results), *asked.render)))
        return
    kept = os.environ.get("FRAMESTREAM_BENCH_DIR")
    with tempfile.TemporaryDirectory(prefix="cores-") as folder:
        footage = Footage(Path(kept) if kept else Path(folder))
        results = {
            "kind": "cores",
            "machine": this_machine(as_typed("bench.cores")).document(),
            "frames": CLIPS * CLIP_S * FPS,
            "runs": _runs(footage, Path(folder), asked.rounds),
            "bare_s": {threads: _bare_s(Path(folder), threads) for threads in ("1", "2")},
            "small": _run(footage, "minute", SMALL, Path(folder), "one", 4),
        }
    asked.results.write_text(json.dumps(results, indent=1) + "\n")
    for line in tables(results):
        print(line)


def _asked() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m bench.cores", description=__doc__)
    parser.add_argument("results", type=Path, help="JSON file to write")
    parser.add_argument("--rounds", type=int, default=2)
    parser.add_argument("--render", nargs=2, help=argparse.SUPPRESS)
    return parser.parse_args()


# measured


def _runs(footage: Footage, folder: Path, rounds: int) -> dict[str, dict[str, list[Any]]]:
    """By x264's threads and by kind: every run, in turns."""
    runs: dict[str, dict[str, list[Any]]] = {
        str(threads): {kind: [] for kind in KINDS} for threads in THREADS
    }
    for _ in range(rounds):
        for threads in THREADS:
            for kind in KINDS:
                run = _run(footage, "reel", FULL, folder, kind, threads)
                runs[str(threads)][kind].append(run)
    hashes = {
        tuple(run.pop("hashes")) for by in runs.values() for each in by.values() for run in each
    }
    if len(hashes) != 1:
        raise RuntimeError("the frames differ between the runs")
    return runs


def _run(
    footage: Footage, film: str, target: Size, folder: Path, kind: str, threads: int
) -> dict[str, Any]:
    """One export in a process of its own, by `_rendered`; memory and other load from outside."""
    edit, told = folder / "edit.json", folder / "told.json"
    edit.write_text(json.dumps(_document(footage.path(film), target)))
    usage = usage_of(
        *("sh", "-c", f'exec "$0" -m bench.cores "$1" --render "$2" "$3" > "{told}"'),
        *(sys.executable, edit, kind, str(threads)),
    )
    return {**json.loads(told.read_text()), "peak_mib": usage.peak_mib, "others": usage.others}


def _document(film: Path, target: Size) -> dict[str, Any]:
    crop = {"y": 0, "width": 100, "height": 100 * target.height // target.width}
    if target == FULL:
        crop = {"y": 6, "width": 600, "height": 1066}
    return {
        "clips": [
            {
                "fileName": str(film),
                "cropKeyframes": [{"time": 0, "x": 0, **crop}, {"time": 20, "x": 200, **crop}],
                "segmentsData": {"trimRange": {"start": start_s, "end": start_s + CLIP_S}},
            }
            for start_s in range(0, 5 * CLIPS, 5)
        ],
        "targetWidth": target.width,
        "targetHeight": target.height,
        "includeAudio": False,
    }


def _rendered(edit: Path, kind: str, threads: str) -> dict[str, Any]:
    """What the export of an edit takes in this process, once it has made a short one."""
    document = json.loads(edit.read_text())
    short = {**document, "clips": [_shortened(document["clips"][0])]}
    _exported(short, edit.parent, "one", threads)
    return _exported(document, edit.parent, kind, threads)


def _shortened(clip: Mapping[str, Any]) -> dict[str, Any]:
    start_s = clip["segmentsData"]["trimRange"]["start"]
    return {**clip, "segmentsData": {"trimRange": {"start": start_s, "end": start_s + SHORT_S}}}


def _exported(document: dict[str, Any], folder: Path, kind: str, threads: str) -> dict[str, Any]:
    edit = Edit.parse(json.dumps(document))
    plan = build_plan(edit, probe_sources(edit, folder))
    workers, processes = KINDS[kind]
    first: list[float] = []

    def follow(at: Progress) -> None:
        if at.frames_done and not first:
            first.append(time.perf_counter())

    start_s, start_cpu_s = time.perf_counter(), _cpu_s()
    report = export(
        plan,
        folder / "film.mp4",
        upscaler=choose_upscaler("none"),
        encoder=choose_encoder(plan.size, plan.fps, name="libx264", options={"threads": threads}),
        executor=LocalWorkers(workers, processes=processes),
        listener=Listener(on_progress=follow),
    )
    return {
        "wall_s": time.perf_counter() - start_s,
        "cpu_s": _cpu_s() - start_cpu_s,
        "first_s": first[0] - start_s,
        "stage_s": report.stage_s,
        "hashes": [chunk.frame_hash for chunk in report.chunks],
    }


def _cpu_s() -> float:
    """Of this process, and of its children that have ended."""
    used = [getrusage(who) for who in (RUSAGE_SELF, RUSAGE_CHILDREN)]
    return sum(each.ru_utime + each.ru_stime for each in used)


def _bare_s(folder: Path, threads: str) -> float:
    """Seconds of wall time that libx264 takes for a noisy frame from memory, at its best."""
    import numpy as np

    encoder = choose_encoder(FULL, Fraction(FPS), name="libx264", options={"threads": threads})
    random = np.random.default_rng(1)
    pictures = [Picture(FULL) for _ in range(8)]
    rows = np.linspace(0, 200, pictures[0].buffer.size, dtype=np.float32)
    for shift, picture in enumerate(pictures):
        noise = random.integers(0, 12, picture.buffer.size, dtype=np.uint8)
        picture.buffer.reshape(-1)[:] = np.roll(rows, 5000 * shift).astype(np.uint8) + noise
    times = []
    for _ in range(2):
        start_s = time.perf_counter()
        with ChunkWriter(encoder, folder / "bare.mp4") as writer:
            for frame in range(BARE_FRAMES):
                writer.write(pictures[frame % len(pictures)])
        times.append((time.perf_counter() - start_s) / BARE_FRAMES)
    return min(times)


# model


@dataclass(frozen=True, slots=True)
class Parts:
    """What one frame takes, in seconds."""

    cpu_s: float
    """Of all processors together."""
    decode_s: float
    crop_s: float
    encode_s: float
    """Of libx264 with one thread."""
    speedup_of_two: float
    """Of libx264 with two threads on two processors."""
    python_s: float
    """At most this long one thread keeps the others from running Python."""

    @property
    def speedup_of_four(self) -> float:
        """By Amdahl's law, from that of two threads."""
        serial = min(1.0, max(0.0, 2 / self.speedup_of_two - 1))
        return 1 / (serial + (1 - serial) / 4)

    @property
    def chunk_cores(self) -> float:
        """Processors that one chunk keeps busy: its slowest stage sets the pace."""
        slowest_s = max(self.decode_s, self.crop_s, self.encode_s / self.speedup_of_four)
        return self.cpu_s / slowest_s


@dataclass(frozen=True, slots=True)
class Modelled:
    """An export on a machine with so many processors."""

    cores: int
    film_s: int
    chunks: int
    workers: int
    """By `--workers auto`."""
    busy_of_one: float
    """Share of the processors that one chunk at a time keeps busy."""
    busy: float
    """The same with `workers`."""
    to_one: float
    """Wall time over that of one chunk at a time."""


def parts_of(results: Mapping[str, Any]) -> Parts:
    """What a frame takes, from the runs with one chunk at a time."""
    frames = results["frames"]
    single, usual = (results["runs"][threads]["one"] for threads in ("1", "4"))

    def stage_s(name: str) -> float:
        return float(median(run["stage_s"][name] for run in single) / frames)

    return Parts(
        cpu_s=float(median(run["cpu_s"] for run in usual)) / frames,
        decode_s=stage_s("decode"),
        crop_s=stage_s("crop"),
        encode_s=stage_s("encode"),
        speedup_of_two=results["bare_s"]["1"] / results["bare_s"]["2"],
        python_s=results["small"]["cpu_s"] / frames,
    )


def modelled(parts: Parts, cores: int, film_s: int) -> Modelled:
    """A film of one clip, cut into chunks as the engine does."""
    whole, rest = divmod(film_s * FPS, MAX_CHUNK_FRAMES)
    frames = (MAX_CHUNK_FRAMES,) * whole + ((rest,) if rest else ())
    encoder = Encoder("libx264", (), FULL, Fraction(FPS), key_interval=2 * FPS)
    work = Work(frames, (), network=False, device="cpu", encoder=encoder)
    workers = decide_workers(work, Available(cores, 1 << 40)).workers
    chunk_s = [each * parts.cpu_s for each in frames]

    def took_s(at_once: int) -> float:
        python_s = sum(frames) * parts.python_s
        return max(python_s, rendering_s(chunk_s, at_once, cores, parts.chunk_cores))

    one_s, auto_s, all_s = took_s(1), took_s(workers), sum(chunk_s)
    return Modelled(
        cores,
        film_s,
        len(frames),
        workers,
        busy_of_one=all_s / one_s / cores,
        busy=all_s / auto_s / cores,
        to_one=auto_s / one_s,
    )


# report


def tables(results: dict[str, Any]) -> Iterator[str]:
    """The results as Markdown."""
    yield from Machine(**results["machine"]).lines()
    yield ""
    yield from _measured_table(results)
    yield from _model_table(parts_of(results))


def _measured_table(results: dict[str, Any]) -> Iterator[str]:
    cores = results["machine"]["cores"]

    def row(threads: str, kind: str, runs: Sequence[Mapping[str, float]]) -> Iterator[object]:
        def of(figure: str) -> float:
            return median(run[figure] for run in runs)

        one_s = median(run["wall_s"] for run in results["runs"][threads]["one"])
        yield f"{kind}, x264 with {threads}"
        yield f"{of('wall_s'):.1f}"
        yield f"**{of('wall_s') / one_s:.2f}**"
        yield f"{of('cpu_s'):.1f}"
        yield f"{of('cpu_s') / of('wall_s') / cores:.0%}"
        yield f"{of('first_s'):.1f}"
        yield f"{of('peak_mib'):.0f}"
        yield f"{of('others'):.0%}"

    yield (
        f"{results['frames']} frames of 1080x1920 by libx264 without a network, {CLIPS} chunks; "
        "the median of the runs, in turns. The frames are the same in all runs."
    )
    yield ""
    yield from table(
        ("chunks at a time", "export, s", "to one", "CPU, s", "processors busy",
         "to the first frame, s", "peak memory, MiB", "taken by others"),
        [
            tuple(row(threads, kind, runs))
            for threads, by_kind in results["runs"].items()
            for kind, runs in by_kind.items()
        ],
    )  # fmt: skip


def _model_table(parts: Parts) -> Iterator[str]:
    assumed = cores_of_a_chunk(Encoder("libx264", (), FULL, Fraction(FPS), key_interval=2 * FPS))
    yield (
        f"A frame takes {1000 * parts.cpu_s:.1f} ms of processor time. Its stages take, one beside "
        f"the other, {1000 * parts.decode_s:.1f} ms to decode, {1000 * parts.crop_s:.1f} to crop "
        f"and {1000 * parts.encode_s:.1f} to encode with one thread. With two threads libx264 is "
        f"{parts.speedup_of_two:.2f}x as fast, hence {parts.speedup_of_four:.2f}x with four by "
        f"Amdahl's law. So one chunk keeps {parts.chunk_cores:.1f} processors busy, by the model; "
        f"`--workers auto` counts with {assumed:g}. A tiny frame takes "
        f"{1000 * parts.python_s:.1f} ms, most of it Python, so that threads of one process reach "
        f"{1 / parts.python_s:.0f} frames/s at least."
    )
    yield ""
    yield "**Modelled, not measured:**"
    yield ""
    yield from table(
        ("processors", "film, s", "chunks", "at a time", "busy with one at a time",
         "busy", "wall to one at a time"),
        [
            (
                each.cores,
                each.film_s,
                each.chunks,
                each.workers,
                f"{each.busy_of_one:.0%}",
                f"**{each.busy:.0%}**",
                f"{each.to_one:.2f}",
            )
            for each in (modelled(parts, cores, film_s) for cores in CORES for film_s in FILMS_S)
        ],
    )  # fmt: skip


if __name__ == "__main__":
    main()
