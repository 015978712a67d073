"""What more workers gain: measured on this machine, predicted for containers with a T4.

    python -m bench.scale RESULTS.json
    python -m bench.scale RESULTS.json --rounds 1 --startup-s 11 48

Three parts. *Processes*: the same export with 1 and with 2 local processes, in turns. *Join*: the
packet copy at the end, of chunks of that export repeated to films of 10, 60 and 600 s. *Model*:
what `engine/pipeline/capacity.py`, which decides how many containers an export gets, predicts for
1 to 64 of them. **No T4 was measured for it**: its assumptions are in `ASSUMED`, each with its
source, and are printed above its table.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from fractions import Fraction
from pathlib import Path
from statistics import median
from typing import Any

from bench.footage import Footage
from bench.machine import Machine, as_typed, this_machine
from bench.measured import usage_of
from bench.tables import table
from engine.geometry import Size
from engine.media.chapters import ChapterMark
from engine.media.inspect import read_chunk
from engine.media.join import join
from engine.pipeline.capacity import MOST_STARTUP_SHARE, Costs, decide, predict
from engine.pipeline.estimate import t4_frame_parts_s
from engine.timeline.chunks import Chunk, cut_into_chunks
from engine.timeline.edit import Clip, Edit
from engine.timeline.plan import build_plan
from engine.timing import SAMPLE_RATE_HZ
from engine.upscale.models import GENERAL, X4PLUS, Model
from tests.sources import a_source

WORKERS = (1, 2)
CLIP_S, CLIPS = 5, 4
CROP = {"y": 6, "width": 600, "height": 1066}
FILM_S = (10, 60, 600)
CONTAINERS = (1, 2, 4, 8, 16, 32, 64)
FPS = 30
FULL = Size(1080, 1920)

APP_FPS, APP_USD_PER_MINUTE = 1.47, 0.20
"""The app's own measurement on Modal, T4, realesr-general-x4v3, January 2026."""


@dataclass(frozen=True, slots=True)
class Assumed:
    """A number of the model that was not measured here: the best case, the worst, where from."""

    what: str
    best: float
    worst: float
    source: str


ASSUMED = {
    "startup_s": Assumed(
        "seconds until a container renders: cold start, imports, model",
        11,
        48,
        "the app's own containers (7 s, and 4 s for the model); 44 s seen by others, and the model",
    ),
    "transfer_s": Assumed(
        "seconds a chunk is read and stored", 1, 3, "about 10 MB each way; a guess"
    ),
    "publish_s": Assumed(
        "seconds of plan, upload and publishing, per minute of film", 2, 6, "a guess"
    ),
    "idle_s": Assumed(
        "seconds a container is billed after its last chunk", 2, 60, "Modal's default is 60 s"
    ),
    "usd_per_h": Assumed(
        "US$ an hour of a T4 with 4 cores and 8 GiB", 0.84, 0.84, "a price list of August 2026"
    ),
    "orchestrator_usd_per_h": Assumed(
        "US$ an hour of the orchestrator, 2 cores and 4 GiB",
        0.125,
        0.125,
        "half of what 4 cores and 8 GiB add to the price of a T4 in that list",
    ),
}

CROP_PX = 600 * 1066
SPREAD = 0.25
"""How far the speed of a T4 may be from the estimate's, either way."""


def _frames_per_s(model: Model) -> Assumed:
    frame_s = sum(t4_frame_parts_s(model, CROP_PX, FULL.width * FULL.height).values())
    return Assumed(
        "frames/s of a container",
        round((1 + SPREAD) / frame_s, 2),
        round((1 - SPREAD) / frame_s, 2),
        f"{1000 * frame_s:.0f} ms a frame by the model of `engine/pipeline/estimate.py`, "
        f"and as a guess {SPREAD:.0%} either way",
    )


NETWORKS = {model.name: _frames_per_s(model) for model in (GENERAL, X4PLUS)}
"""At a crop of 600x1066 and with every frame shown once."""

PLANS = {"8 clips of 15 s": (8, 15), "40 clips of 15 s": (40, 15)}
"""The first is the longest the app has published: 42 minutes, US$ 0.41."""


def main() -> None:
    asked = _asked()
    kept = os.environ.get("FRAMESTREAM_BENCH_DIR")
    with tempfile.TemporaryDirectory(prefix="scale-") as folder:
        place = Path(folder)
        footage = Footage(Path(kept) if kept else place)
        local = _local(footage.path("reel"), place, asked.rounds)
        joins = _joins(sorted(place.glob("parts/*.mp4")), place, asked.rounds)
    results = {
        "kind": "scale",
        "machine": this_machine(as_typed("bench.scale")).document(),
        "local": local,
        "joins": joins,
        "model": _model(asked.startup_s, max(each["s"] / each["film_s"] for each in joins)),
    }
    asked.results.write_text(json.dumps(results, indent=1) + "\n")
    for line in tables(results):
        print(line)


def _asked() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m bench.scale", description=__doc__)
    parser.add_argument("results", type=Path, help="JSON file to write")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument(
        "--startup-s",
        type=float,
        nargs=2,
        metavar=("BEST", "WORST"),
        default=(ASSUMED["startup_s"].best, ASSUMED["startup_s"].worst),
        help="of a container, where it was measured",
    )
    return parser.parse_args()


# processes


def _local(reel: Path, place: Path, rounds: int) -> dict[str, Any]:
    """Four clips of five seconds, a chunk each, with 1 and with 2 processes, in turns."""
    edit = place / "edit.json"
    edit.write_text(json.dumps(_document(reel)))
    runs: dict[int, list[dict[str, Any]]] = {workers: [] for workers in WORKERS}
    for turn in range(rounds + 1):
        for workers in WORKERS:
            run = _exported(edit, place, workers)
            if turn:  # the first compiles kernels and reads the footage from disk
                runs[workers].append(run)
    hashes = {tuple(run.pop("hashes")) for each in runs.values() for run in each}
    if len(hashes) != 1:
        raise RuntimeError("the frames differ between the runs")
    return {
        "film_s": CLIP_S * CLIPS,
        "frames": CLIP_S * CLIPS * FPS,
        "chunks": CLIPS,
        "runs": {str(workers): each for workers, each in runs.items()},
    }


def _document(reel: Path) -> dict[str, Any]:
    return {
        "clips": [
            {
                "fileName": str(reel),
                "cropKeyframes": [
                    {"time": 0, "x": 100, **CROP},
                    {"time": CLIP_S * CLIPS, "x": 1100, **CROP},
                ],
                "segmentsData": {"trimRange": {"start": start_s, "end": start_s + CLIP_S}},
            }
            for start_s in range(0, CLIP_S * CLIPS, CLIP_S)
        ],
        "includeAudio": False,
    }


def _exported(edit: Path, place: Path, workers: int) -> dict[str, Any]:
    report, parts = place / "report.json", place / "parts"
    for part in parts.glob("*"):
        part.unlink()
    usage = usage_of(
        *(sys.executable, "-m", "engine", "render", edit, "-o", place / "film.mp4"),
        *("--workers", str(workers), *(("--processes",) if workers > 1 else ())),
        *("--upscaler", "none", "--encoder", "libx264"),
        *("--work-dir", parts, "--keep-parts", "--report", report, "--quiet"),
    )
    told = json.loads(report.read_text())
    return {
        **asdict(usage),
        "engine_s": told["wall_s"],
        "chunk_s": [chunk["render_s"] for chunk in told["chunks"]],
        "hashes": [chunk["frame_hash"] for chunk in told["chunks"]],
    }


# join


def _joins(parts: Sequence[Path], place: Path, rounds: int) -> list[dict[str, Any]]:
    """Packet copies of the measured chunks, repeated, with a sound track beside them."""
    return [{"film_s": film_s, **_joined(parts, film_s, place, rounds)} for film_s in FILM_S]


def _joined(parts: Sequence[Path], film_s: int, place: Path, rounds: int) -> dict[str, Any]:
    sound, film = place / f"{film_s}.m4a", place / "joined.mp4"
    subprocess.run(
        ["ffmpeg", "-v", "error", "-y", "-f", "lavfi", "-i",
         f"anoisesrc=sample_rate={SAMPLE_RATE_HZ}:amplitude=0.3:duration={film_s}",
         "-ac", "2", "-c:a", "aac", "-b:a", "192k", sound],
        check=True,
    )  # fmt: skip
    chunks = [parts[place % len(parts)] for place in range(film_s // CLIP_S)]

    def joined() -> None:
        join(
            [read_chunk(path) for path in chunks],
            sound,
            [ChapterMark("film", Fraction(0), Fraction(film_s))],
            film,
            frame_count=film_s * FPS,
            sample_count=film_s * SAMPLE_RATE_HZ,
            fps=Fraction(FPS),
            size=FULL,
            on_step=lambda: None,
        )

    seconds = [_seconds(joined) for _ in range(rounds)]
    return {"chunks": len(chunks), "s": median(seconds), "size_bytes": film.stat().st_size}


def _seconds(job: Callable[[], None]) -> float:
    start_s = time.perf_counter()
    job()
    return time.perf_counter() - start_s


# model


def _model(startup_s: tuple[float, float], join_s_per_s: float) -> dict[str, Any]:
    """What is predicted for each plan, network and number of containers, at best and at worst."""
    started = replace(ASSUMED["startup_s"], best=startup_s[0], worst=startup_s[1])
    assumed = ASSUMED | {"startup_s": started}
    rows = []
    for plan, (clips, clip_s) in PLANS.items():
        frames = [len(chunk.frames) for chunk in _chunks(clips, clip_s)]
        for network, rate in NETWORKS.items():
            best = _predicted(frames, rate.best, startup_s[0], join_s_per_s, "best")
            worst = _predicted(frames, rate.worst, startup_s[1], join_s_per_s, "worst")
            rows.append(
                {
                    "plan": plan,
                    "network": network,
                    "frames": sum(frames),
                    "chunk_frames": frames,
                    "best": best,
                    "worst": worst,
                }
            )
    return {
        "assumed": [
            *(asdict(each) for each in assumed.values()),
            *({**asdict(each), "what": f"{each.what}, {name}"} for name, each in NETWORKS.items()),
        ],
        "join_s_per_film_s": join_s_per_s,
        "most_startup_share": MOST_STARTUP_SHARE,
        "exports": rows,
    }


def _chunks(clips: int, clip_s: int) -> tuple[Chunk, ...]:
    """As the engine cuts such an edit; no file is needed for that."""
    names = [f"{number}.mp4" for number in range(clips)]
    edit = Edit([Clip(name) for name in names])
    plan = build_plan(edit, [a_source(name, frames=clip_s * FPS) for name in names])
    return cut_into_chunks(plan, stage_key=lambda _: "network", encoder_key="h264_nvenc")


def _predicted(
    frames: Sequence[int], fps: float, startup_s: float, join_s_per_s: float, case: str
) -> dict[str, Any]:
    def assumed(name: str) -> float:
        return float(getattr(ASSUMED[name], case))

    film_s = sum(frames) / FPS
    costs = Costs(
        startup_s=startup_s,
        serial_s=assumed("publish_s") * film_s / 60 + join_s_per_s * film_s,
        idle_s=assumed("idle_s"),
        usd_per_container_s=assumed("usd_per_h") / 3600,
        usd_per_orchestrator_s=assumed("orchestrator_usd_per_h") / 3600,
    )
    work_s = [each / fps + assumed("transfer_s") for each in frames]
    chosen = decide(work_s, startup_s=startup_s, max_containers=max(CONTAINERS))
    return {
        "fps": fps,
        "costs": asdict(costs),
        "predicted": {
            str(containers): asdict(predict(work_s, containers, costs)) for containers in CONTAINERS
        },
        "chosen": asdict(chosen)
        | {"prediction": asdict(predict(work_s, chosen.containers, costs))},
    }


# report


def tables(results: dict[str, Any]) -> Iterator[str]:
    """The results as Markdown: what was measured, what was assumed, what follows from it."""
    yield from Machine(**results["machine"]).lines()
    yield ""
    yield from _local_table(results["local"])
    yield from _join_table(results["joins"], results["local"])
    yield from _model_tables(results["model"])


def _local_table(local: dict[str, Any]) -> Iterator[str]:
    def of(workers: str, figure: str) -> float:
        return float(median(run[figure] for run in local["runs"][workers]))

    yield (
        f"{local['film_s']} s of 1080x1920 by libx264 without a network, {local['chunks']} chunks; "
        f"the median of {len(local['runs']['1'])} in turns. The frames are the same in all runs."
    )
    yield ""
    yield from table(
        ("workers", "wall, s", "to 1", "CPU, s", "peak memory, MiB", "taken by others",
         "predicted by the model, s"),
        [
            (
                workers,
                f"{of(workers, 'wall_s'):.1f}",
                f"**{of(workers, 'wall_s') / of('1', 'wall_s'):.2f}**",
                f"{of(workers, 'cpu_s'):.1f}",
                f"{of(workers, 'peak_mib'):.0f}",
                f"{of(workers, 'others'):.0%}",
                f"{_local_prediction(local, int(workers)):.1f}",
            )
            for workers in local["runs"]
        ],
    )  # fmt: skip
    yield (
        "The model gives every worker cores of its own, as containers have them; two processes on "
        "the same two cores share what libx264 already fills with one."
    )
    yield ""


def _local_prediction(local: dict[str, Any], workers: int) -> float:
    """From the chunk times of the runs with one worker; what else those took is paid once."""
    runs = local["runs"]["1"]
    chunk_s = [median(each) for each in zip(*(run["chunk_s"] for run in runs), strict=True)]
    rest_s = max(0.0, median(run["wall_s"] for run in runs) - sum(chunk_s))
    return predict(chunk_s, workers, Costs(0, rest_s, 0, 0, 0)).wall_s


def _join_table(joins: Sequence[dict[str, Any]], local: dict[str, Any]) -> Iterator[str]:
    rendered_s = median(run["engine_s"] for run in local["runs"]["1"]) / local["film_s"]
    yield "The join, with sound, after a render by one worker of this machine."
    yield ""
    yield from table(
        ("film, s", "chunks", "MB", "join, s", "of the export"),
        [
            (
                each["film_s"],
                each["chunks"],
                f"{each['size_bytes'] / 1e6:.0f}",
                f"{each['s']:.2f}",
                f"{each['s'] / (each['s'] + rendered_s * each['film_s']):.1%}",
            )
            for each in joins
        ],
    )


def _model_tables(model: dict[str, Any]) -> Iterator[str]:
    yield "**No T4 was measured.** What is assumed, at best and at worst:"
    yield ""
    yield from table(
        ("", "best", "worst", "from"),
        [
            (each["what"], f"{each['best']:g}", f"{each['worst']:g}", each["source"])
            for each in model["assumed"]
        ],
    )
    yield (
        f"Beside that, the join takes {1000 * model['join_s_per_film_s']:.0f} ms per second of "
        "film, as measured above. Chunks are those of the plan, the longest first, each to the "
        "container that is free first."
    )
    yield ""
    for export in model["exports"]:
        yield from _export_table(export)


def _export_table(export: dict[str, Any]) -> Iterator[str]:
    minutes = export["frames"] / FPS / 60
    best, worst = export["best"], export["worst"]
    yield (
        f"{export['plan']}, {export['network']}: {minutes:g} min of film, "
        f"{len(export['chunk_frames'])} chunks."
    )
    yield ""
    rows = [
        _row(
            f"{containers}", best["predicted"][containers], worst["predicted"][containers], minutes
        )
        for containers in best["predicted"]
    ]
    if export["network"] == "realesr-general-x4v3":
        app_s, app_usd = export["frames"] / APP_FPS, APP_USD_PER_MINUTE * minutes
        rows.insert(
            0, ("the app today, 1", f"{app_s:.0f}", f"{app_usd:.2f}", f"{APP_USD_PER_MINUTE}", "")
        )
    yield from table(("containers", "export, s", "US$", "US$ a minute", "start-up / work"), rows)
    yield (
        f"Chosen: {best['chosen']['containers']} at best ({best['chosen']['why']}), "
        f"{worst['chosen']['containers']} at worst ({worst['chosen']['why']})."
    )
    yield ""


def _row(
    containers: str, best: dict[str, Any], worst: dict[str, Any], minutes: float
) -> tuple[str, ...]:
    used = best["containers"]
    return (
        containers if used == int(containers) else f"{containers} ({used} used)",
        f"{best['wall_s']:.0f}-{worst['wall_s']:.0f}",
        f"{best['cost_usd']:.2f}-{worst['cost_usd']:.2f}",
        f"{best['cost_usd'] / minutes:.3f}-{worst['cost_usd'] / minutes:.3f}",
        f"{best['startup_share']:.0%}-{worst['startup_share']:.0%}",
    )


if __name__ == "__main__":
    main()
