"""Guards of whole exports, against the ffmpeg program and against bare libx264, in turns.

The ffmpeg program gets the same work as one filter graph and the same encoder settings, which is
checked from what libx264 wrote into both files. It is the peer of the whole process, start-up
included; bare libx264 (`bare.py`) is the peer of the engine alone, by its own report.

On a machine with two cores decoding and cropping take their time from libx264: the ffmpeg program
itself needs up to 1.4 of bare libx264 there. The aims are tighter than the limits: no slower than
the ffmpeg program, within 1.15 of bare libx264.
"""

from __future__ import annotations

import json
import sys
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import median
from typing import Any

import pytest

from bench import program
from bench.footage import Footage
from bench.guard import Guard
from bench.machine import ROOT
from bench.measured import usage_of

ROUNDS = 3
CROP_WIDTH, CROP_HEIGHT, CROP_Y = 600, 1066, 6
PAN_FROM_PX, PAN_PX_PER_S, STILL_PX = 100, 50, 660
PAN_STOP_S = 20
AAC = ("-c:a", "aac", "-b:a", "192k", "-ar", "48000")


@dataclass(frozen=True, slots=True)
class Case:
    """One export: a 600x1066 crop of each clip to 1080x1920 at 30 fps."""

    name: str
    clips: tuple[str, ...]
    pans: bool = True
    sound: bool = False
    first_clip_s: int = 20
    dissolve_s: float = 0.0
    """0: one clip only."""

    def document(self, footage: Footage) -> dict[str, Any]:
        """The edit for the engine."""
        rect = {"y": CROP_Y, "width": CROP_WIDTH, "height": CROP_HEIGHT}
        stop_px = PAN_FROM_PX + PAN_PX_PER_S * PAN_STOP_S
        pan = [
            {"time": 0, "x": PAN_FROM_PX, **rect},
            {"time": PAN_STOP_S, "x": stop_px, **rect},
        ]
        keyframes = pan if self.pans else [{"time": 0, "x": STILL_PX, **rect}]
        return {
            "clips": [
                {"fileName": str(footage.path(name)), "cropKeyframes": keyframes}
                for name in self.clips
            ],
            "transition": {"type": "dissolve", "duration": self.dissolve_s},
            "includeAudio": self.sound,
        }

    def ffmpeg(self, footage: Footage, output: Path) -> list[str | Path]:
        """The same as a command of the ffmpeg program; its crop moves by whole pixels."""
        inputs = [word for name in self.clips for word in ("-i", footage.path(name))]
        x = f"{PAN_FROM_PX}+{PAN_PX_PER_S}*t" if self.pans else f"{STILL_PX}"
        crop = f"crop={CROP_WIDTH}:{CROP_HEIGHT}:'{x}':{CROP_Y},scale=1080:1920:flags=bicubic"
        if self.dissolve_s:
            offset = f"duration={self.dissolve_s}:offset={self.first_clip_s - self.dissolve_s}"
            graph = f"[0:v]{crop}[a];[1:v]{crop}[b];[a][b]xfade=transition=fade:{offset}[out]"
        else:
            graph = f"[0:v]{crop}[out]"
        sound = ("-map", "0:a", *AAC) if self.sound else ()
        return [
            "ffmpeg", "-v", "error", "-y", *inputs, "-filter_complex", graph, "-map", "[out]",
            *program.X264, "-movflags", "+faststart", *sound, output,
        ]  # fmt: skip


CASES = (
    Case("two clips, dissolve", ("first", "second"), first_clip_s=10, dissolve_s=0.5),
    Case("one clip, moving crop, sound", ("reel_with_sound",), sound=True),
)


class Race:
    """The contenders of one case, each with the figures of its runs."""

    def __init__(self, case: Case, footage: Footage, folder: Path) -> None:
        self._edit = folder / "edit.json"
        self._edit.write_text(json.dumps(case.document(footage)))
        self.ours, self.theirs, self.bare = (
            folder / f"{name}.mp4" for name in ("framestream", "ffmpeg", "bare")
        )
        self._ffmpeg = case.ffmpeg(footage, self.theirs)
        self._result = folder / "result.json"
        self.report: dict[str, Any] = {}
        self.runs: dict[str, list[dict[str, Any]]] = {
            "framestream": [],
            "ffmpeg": [],
            "engine": [],
            "bare libx264": [],
        }

    def run_peers(self) -> None:
        """One run of the ffmpeg program, and one of bare libx264."""
        self.runs["ffmpeg"].append(asdict(usage_of(*self._ffmpeg)))
        usage = usage_of(
            *(sys.executable, "-m", "bench.bare", self._edit, self.bare, self._result), cwd=ROOT
        )
        figures = json.loads(self._result.read_text())
        self.frame_hashes = figures.pop("frame_hashes")
        self.runs["bare libx264"].append({**figures, "others": usage.others})

    def run_framestream(self) -> None:
        """One run of the program as its users start it, and the engine's share of it."""
        usage = usage_of(
            *(sys.executable, "-m", "engine", "render", self._edit, "--output", self.ours),
            *("--upscaler", "none", "--encoder", "libx264", "--report", self._result, "--quiet"),
            cwd=ROOT,
        )
        self.report = json.loads(self._result.read_text())
        self.runs["framestream"].append(asdict(usage))
        self.runs["engine"].append({"wall_s": self.report["wall_s"], "others": usage.others})

    def ratio(self, name: str, peer: str) -> float:
        """The median wall time of one contender over that of another."""
        ours_s, theirs_s = (
            median(float(run["wall_s"]) for run in self.runs[each]) for each in (name, peer)
        )
        return ours_s / theirs_s


@pytest.fixture(scope="session", autouse=True)
def kernels_compiled(footage: Footage, tmp_path_factory: pytest.TempPathFactory) -> None:
    """The first export ever compiles the kernels into a cache, which no later one does again."""
    for case in CASES:
        document = case.document(footage)
        for clip in document["clips"]:
            clip["segmentsData"] = {"trimRange": {"start": 0, "end": 1}}
        folder = tmp_path_factory.mktemp("warm_up")
        edit = folder / "edit.json"
        edit.write_text(json.dumps(document))
        output = folder / "out.mp4"
        usage_of(sys.executable, "-m", "engine", "render", edit, "--output", output, cwd=ROOT)


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name.replace(", ", "-"))
@pytest.mark.benchmark(group="exports")
def test_export(benchmark: Any, guard: Guard, footage: Footage, tmp_path: Path, case: Case) -> None:
    race = Race(case, footage, tmp_path)
    benchmark.pedantic(race.run_framestream, setup=race.run_peers, rounds=ROUNDS)

    ours, theirs = program.x264_of(race.ours), program.x264_of(race.theirs)
    assert ours["options"] == theirs["options"]
    assert race.frame_hashes == [chunk["frame_hash"] for chunk in race.report["chunks"]]
    benchmark.extra_info.update(
        case=case.name,
        runs=race.runs,
        frames=race.report["frames"],
        stage_s=race.report["stage_s"],
        size_bytes={"framestream": race.ours.stat().st_size, "ffmpeg": race.theirs.stat().st_size,
                    "bare libx264": race.bare.stat().st_size},
        x264={"framestream": ours["version"], "ffmpeg": theirs["version"]},
        psnr_y_db=program.likeness(race.ours, race.theirs).psnr_y_db,
    )  # fmt: skip
    to_ffmpeg, to_bare = race.ratio("framestream", "ffmpeg"), race.ratio("engine", "bare libx264")
    guard.hold(f"export to ffmpeg, {case.name}", to_ffmpeg, "the ffmpeg program")
    guard.hold(f"export to bare libx264, {case.name}", to_bare, "bare libx264")
