"""What key frames cost and gain: the size of a film, and how soon Chromium shows a seek's frame.

    python -m bench.seeking RESULTS.json
    python -m bench.seeking RESULTS.json --intervals 2 8 --seeks 100

framestream renders the same edit with a key frame every 1, 2, 4 and 8 s. The longest is the
reference. The films are open in one page, and are sent to the same random frames, in turns: at each
frame all of them, in an order that is drawn too. That each shows the frame it was asked for, and
that each has its key frames, is checked. Needs chromium and the tests' packages.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict
from fractions import Fraction
from pathlib import Path
from random import Random
from statistics import median, quantiles
from typing import Any

from bench import program
from bench.footage import Footage
from bench.machine import PACKAGES, ROOT, Machine, as_typed, this_machine
from bench.measured import Others, usage_of
from bench.player import player
from bench.tables import table

INTERVALS_S = (1, 2, 4, 8)
SEEKS = 60
CROP, TARGET = (600, 1066), (1080, 1920)
LEFT_PX, MIDDLE_PX, RIGHT_PX = 0, 660, 1320
SCENES: Mapping[str, tuple[str, int, int]] = {
    "a moving camera": ("moving", LEFT_PX, RIGHT_PX),
    "a still camera": ("still_camera", MIDDLE_PX, MIDDLE_PX),
    "a still picture without noise": ("still_picture", MIDDLE_PX, MIDDLE_PX),
}
"""By name: the footage, and the crop's left edge at its start and at its end."""

DURATION_S = 24


def main() -> None:
    asked = _asked()
    kept = os.environ.get("FRAMESTREAM_BENCH_DIR")
    machine = this_machine(as_typed("bench.seeking"), (*PACKAGES, "playwright"))
    document: dict[str, Any] = {"kind": "seeking", "machine": machine.document(), "scenes": []}
    with tempfile.TemporaryDirectory(prefix="seeking-") as folder:
        footage = Footage(Path(kept) if kept else Path(folder))
        warm_up = _edit(footage.path("moving"), LEFT_PX, RIGHT_PX, stop_s=1)
        compared(warm_up, (1,), 1, Path(folder, "warm-up"))  # the first run ever compiles kernels
        for number, (name, (film, *pan)) in enumerate(SCENES.items()):
            edit = _edit(footage.path(film), *pan)
            scene = compared(edit, asked.intervals, asked.seeks, Path(folder, str(number)))
            document["scenes"].append({"name": name, **scene})
            asked.results.write_text(json.dumps(document, indent=1) + "\n")
    for line in tables(document):
        print(line)


def _asked() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m bench.seeking",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("results", type=Path, metavar="RESULTS.json", help="file to write")
    parser.add_argument("--seeks", type=int, default=SEEKS, help=f"in each film ({SEEKS})")
    parser.add_argument(
        "--intervals", type=float, nargs="+", default=INTERVALS_S, help="between key frames, in s"
    )
    return parser.parse_args()


def _edit(film: Path, first_x: int, last_x: int, stop_s: int = DURATION_S) -> dict[str, Any]:
    """The film's start through a crop that moves evenly from one left edge to the other."""
    width, height = CROP
    crop = {"y": 6, "width": width, "height": height}
    path = [{"time": 0, "x": first_x, **crop}, {"time": stop_s, "x": last_x, **crop}]
    trim = {"start": 0, "end": stop_s}
    return {
        "clips": [
            {"fileName": str(film), "cropKeyframes": path, "segmentsData": {"trimRange": trim}}
        ],
        "targetWidth": TARGET[0],
        "targetHeight": TARGET[1],
        "includeAudio": False,
    }


def compared(
    edit: Mapping[str, Any], intervals_s: Sequence[float], seeks: int, folder: Path
) -> dict[str, Any]:
    """The edit's films in a new folder, one for each interval, and what was measured of them.

    Raises RuntimeError where a film has fewer key frames than it must, or a seek shows another
    frame.
    """
    folder.mkdir()
    (folder / "edit.json").write_text(json.dumps(edit))
    films = [_rendered(interval_s, folder) for interval_s in intervals_s]
    (frames,), (fps,) = ({film[fact] for film in films} for fact in ("frames", "fps"))
    random = Random(0)
    warm_up, *places = random.sample(range(1, frames), seeks + 1)  # frame 0 is shown already
    with player(folder, [film["file"] for film in films], Fraction(fps)) as open_films:
        for number, _ in enumerate(films):
            open_films.seek(number, warm_up)
        with Others() as others:
            for place in places:
                for number in random.sample(range(len(films)), len(films)):
                    films[number]["seeks_ms"].append(round(open_films.seek(number, place), 1))
    return {"chromium": open_films.version, "others": others.share, "films": films}


def _rendered(interval_s: float, folder: Path) -> dict[str, Any]:
    """The folder's edit with a key frame at least that often, and what it cost."""
    path = folder / f"{interval_s:g}.mp4"
    print(f"rendering with a key frame every {interval_s:g} s", flush=True)
    usage = usage_of(
        *(sys.executable, "-m", "engine", "render", folder / "edit.json", "--output", path),
        *("--upscaler", "none", "--encoder", "libx264", "--key-interval", f"{interval_s:g}"),
        "--quiet",
        cwd=ROOT,
    )
    facts, keys = program.video_facts(path), program.key_frames(path)
    frames, fps = int(facts["nb_read_packets"]), Fraction(facts["r_frame_rate"])
    if keys[0] != 0 or program.longest_gop(keys, frames) > interval_s * fps:
        raise RuntimeError(f"{path} has no key frame every {interval_s:g} s: they are at {keys}")
    return {
        "key_interval_s": interval_s,
        "file": path.name,
        "frames": frames,
        "fps": str(fps),
        "key_frames": len(keys),
        "size_bytes": path.stat().st_size,
        "render": asdict(usage),
        "seeks_ms": [],
    }


def tables(results: dict[str, Any]) -> Iterator[str]:
    """A table for each scene; ratios are to its longest interval between key frames."""
    yield from Machine(**results["machine"]).lines()
    yield f"- Chromium {results['scenes'][0]['chromium']}, headless, without a GPU"
    yield ""
    for scene in results["scenes"]:
        films = scene["films"]
        reference = max(films, key=lambda film: float(film["key_interval_s"]))
        peer = f"to {reference['key_interval_s']:g} s"
        yield f"### {scene['name'].capitalize()}"
        yield ""
        yield f"{reference['frames']} frames, {len(reference['seeks_ms'])} seeks in each film;"
        yield f"others took {scene['others']:.0%} of the machine meanwhile."
        yield ""
        yield from table(
            ("a key frame every", "key frames", "file, MB", peer, "seek, median, ms", "p90, ms",
             f"median {peer}", f"p90 {peer}", "export, s", "taken by others"),
            [[*_row(film, reference)] for film in films],
        )  # fmt: skip


def _row(film: dict[str, Any], reference: dict[str, Any]) -> Iterator[str]:
    yield f"{film['key_interval_s']:g} s"
    yield str(film["key_frames"])
    yield f"{film['size_bytes'] / 1e6:.2f}"
    yield f"**{film['size_bytes'] / reference['size_bytes']:.2f}**"
    (middle, high), (peer_middle, peer_high) = map(_median_and_p90, (film, reference))
    yield f"{middle:.0f}"
    yield f"{high:.0f}"
    yield f"**{middle / peer_middle:.2f}**"
    yield f"{high / peer_high:.2f}"
    yield f"{film['render']['wall_s']:.1f}"
    yield f"{film['render']['others']:.0%}"


def _median_and_p90(film: dict[str, Any]) -> tuple[float, float]:
    seeks_ms = film["seeks_ms"]
    return median(seeks_ms), quantiles(seeks_ms, n=10, method="inclusive")[-1]


if __name__ == "__main__":
    main()
