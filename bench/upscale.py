"""How near the stream comes to the bare network, and both to Real-ESRGAN's own script.

    python -m bench.upscale RESULTS.json                      # what this machine has: CUDA or CPU
    python -m bench.upscale RESULTS.json --device cuda --batches 1 2 4 8 --no-compiled

For each model, on the same region, in turns in one run: the bare network (a batch in its own
precision that is already on the device), the stage of an export (planes of decoded frames in host
memory in, finished 1080x1920 pictures in host memory out), and `RealESRGANer.enhance` where the
reference is installed (see reference/README.md). Then a whole export, from one H.264 file to
another: by NVDEC and NVENC where they open. Weights are seeded, since speed does not depend on
them. Needs no source, no weights and no network.
"""

from __future__ import annotations

import argparse
import json
import platform
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from statistics import median
from typing import Any

import av
import numpy as np
import torch
from av.video.reformatter import Colorspace
from torch import Tensor

from bench.noise import shots_of_noise
from bench.upscale_tables import tables
from engine import Clip, CropKeyframe, Ease, Edit, Listener, build_plan, export, probe_sources
from engine.errors import UpscalerError
from engine.geometry import Fit, Framing, Rect, Size
from engine.pixels.picture import Picture
from engine.upscale.devices import choose_device
from engine.upscale.inference import Precision, Runner, best_precision, torch_compiled
from engine.upscale.load import runner_on
from engine.upscale.models import MODELS, Model
from engine.upscale.network import Network, Shape
from engine.upscale.network_stage import NetworkStage
from engine.upscale.options import NetworkOptions
from engine.upscale.regions import covering
from engine.upscale.stage import FrameCrop, StageSpec
from tests.engine.upscale.material import SHAPES
from tests.engine.upscale.original import NotInstalledError, original_network, original_upscaler
from tests.sources import a_source

FRAME, TARGET = Size(1920, 1080), Size(1080, 1920)
MATMUL_SIDE = {"cuda": 8192, "cpu": 2048}
EXPORT_S, LEAST_FRAMES, MOST_FRAMES = 5, 12, 240
"""About how long an export runs, and of how many frames it is."""


def main(arguments: Sequence[str]) -> None:
    asked = _asked(arguments)
    device = torch.device(asked.device)
    crop = Size(*(int(side) for side in asked.crop.split("x")))
    results = {
        "machine": _machine(device),
        "command": "python -m bench.upscale " + " ".join(arguments),
        "crop": str(crop),
        "precision": str(best_precision(device)),
        "matmul_tflops": _matmul_tflops(device),
        "models": [_measured(MODELS[name], device, crop, asked) for name in asked.models],
    }
    Path(asked.results).write_text(json.dumps(results, indent=1) + "\n")
    for line in tables(results):
        print(line)


class Asked(argparse.Namespace):
    """The command line."""

    results: str
    device: str
    crop: str
    models: list[str]
    batches: list[int]
    rounds: int
    frames: int | None
    compiled: bool
    openvino: bool


def _asked(arguments: Sequence[str]) -> Asked:
    cuda = torch.cuda.is_available()
    parser = argparse.ArgumentParser(prog="python -m bench.upscale", description=__doc__)
    parser.add_argument("results", help="JSON file to write")
    parser.add_argument("--device", default="cuda" if cuda else "cpu", choices=["cpu", "cuda"])
    parser.add_argument("--crop", default="600x1066" if cuda else "160x284", help="of the source")
    names = list(SHAPES) if cuda else ["realesr-general-x4v3", "realesr-animevideov3"]
    parser.add_argument("--models", nargs="+", default=names, choices=list(SHAPES))
    parser.add_argument("--batches", nargs="+", type=int, default=[1, 2, 4, 8] if cuda else [1])
    parser.add_argument("--rounds", type=int, default=5)
    frames = "of each export; by default some seconds' worth"
    parser.add_argument("--frames", type=int, help=frames)
    compiled = "measure the networks compiled by torch, too, at their best batch size"
    on_or_off = argparse.BooleanOptionalAction
    parser.add_argument("--compiled", action=on_or_off, default=cuda, help=compiled)
    openvino = "measure the networks by OpenVINO, too; by default where --device auto takes it"
    parser.add_argument(
        "--openvino",
        action=on_or_off,
        default=choose_device("auto").name == "openvino",
        help=openvino,
    )
    return parser.parse_args(arguments, Asked())


def _measured(model: Model, device: torch.device, crop: Size, asked: Asked) -> dict[str, Any]:
    torch.manual_seed(0)
    shape = SHAPES[model.name]
    network = Network(shape, shape.build().eval().requires_grad_(False))
    bench = _Bench(network, device)
    rows = [_batch(model, bench, crop, batch, asked.rounds) for batch in asked.batches]
    fitting = [row for row in rows if "bare_fps" in row]
    if not fitting:
        return {"model": model.name, "batches": rows}
    best = max(fitting, key=lambda row: float(row["bare_fps"]))
    if asked.compiled:
        compiled = replace(bench, how="compiled")
        rows.append(_batch(model, compiled, crop, best["batch"], asked.rounds))
    ways = [bench]
    if asked.openvino:
        ways.append(replace(bench, how="OpenVINO"))
        rows.append(_batch(model, ways[-1], crop, best["batch"], asked.rounds))
    stage = bench.stage(best["batch"])
    shots = shots_of_noise(FRAME, crop, best["batch"], 200)
    turns: dict[str, Callable[[], object]] = {"stage": lambda: _drained(stage, shots)}
    if enhance := _enhance(shape, crop, device):
        turns["enhance"] = enhance
    try:
        seconds = _in_turns(turns, asked.rounds, device)
    except torch.OutOfMemoryError:  # the script's: it does not tile unless told to
        seconds = _in_turns({"stage": turns["stage"]}, asked.rounds, device)
    return {
        "model": model.name,
        "batches": rows,
        "stage_fps": len(shots) / seconds["stage"],
        "enhance_fps": 1 / seconds["enhance"] if "enhance" in seconds else None,
        "exports": _exports_in_turns(ways, crop, best, asked),
    }


@dataclass(frozen=True, slots=True)
class _Bench:
    """A network on the device, bare and in a stage."""

    network: Network
    device: torch.device
    how: str = "eager"
    """eager, compiled, OpenVINO."""

    @property
    def precision(self) -> Precision:
        return best_precision(self.device)

    def runner(self) -> Runner:
        if self.how == "compiled":
            how = (self.network, self.device, self.precision)
            return Runner(*how, compiled=torch_compiled(*how))
        name = "openvino" if self.how == "OpenVINO" else str(self.device)
        return runner_on(self.network, name, self.precision, NetworkOptions())

    def stage(self, batch: int) -> NetworkStage:
        return NetworkStage(self.runner(), batch=batch)

    def bare(self) -> Callable[[Tensor], Tensor]:
        if self.how == "OpenVINO":
            return self.runner()
        copy = self.network.to(self.device, self.precision.dtype)
        if self.how == "eager":
            return copy
        compiled: Callable[[Tensor], Tensor] = torch.compile(copy.module, dynamic=False)
        return torch.inference_mode()(compiled)


def _batch(model: Model, bench: _Bench, crop: Size, batch: int, rounds: int) -> dict[str, Any]:
    """The bare network and the stage with batches of that size, in turns."""
    device, shots = bench.device, shots_of_noise(FRAME, crop, 2 * batch, 200)
    row: dict[str, Any] = {"batch": batch, "how": bench.how}
    region = _region(shots, bench.network.shape.multiple)
    images = torch.rand(batch, 3, region.height, region.width, device=device)
    images = images.to(bench.precision.dtype, memory_format=torch.channels_last)
    if device.type == "cuda":
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats()
    bare, stage = bench.bare(), bench.stage(batch)
    try:
        seconds = _in_turns(
            {"bare": lambda: bare(images), "stage": lambda: _drained(stage, shots)}, rounds, device
        )
    except (torch.OutOfMemoryError, UpscalerError):
        return {**row, "out_of_memory": True}
    except RuntimeError as error:
        if bench.how != "compiled":
            raise
        return {**row, "does_not_compile": str(error).splitlines()[0]}
    if stage.events:  # it made do with smaller batches, of which this row would not be
        return {**row, "out_of_memory": True}
    flops = model.flops_per_pixel * region.width * region.height * batch
    return {
        **row,
        "region": str(region),
        "bare_fps": batch / seconds["bare"],
        "stage_fps": len(shots) / seconds["stage"],
        "tflops": flops / seconds["bare"] / 1e12,
        "peak_gib": torch.cuda.max_memory_allocated() / 2**30 if device.type == "cuda" else None,
    }


@dataclass(frozen=True, slots=True)
class _Only:
    """An upscaler that sends every clip through one stage."""

    stage: NetworkStage
    name: str = "benchmark"
    why: str = "benchmark"

    @property
    def device(self) -> str:
        return str(self.stage.frames_on or "cpu")

    def stage_for(self, scale: float) -> StageSpec:  # noqa: ARG002 - the same for all
        return _Loaded(self.stage)


@dataclass(frozen=True, slots=True, eq=False)
class _Loaded:
    """The spec of a stage that is there already."""

    stage: NetworkStage
    key: str = "benchmark"

    def load(self) -> NetworkStage:
        return self.stage


def _exports_in_turns(
    ways: Sequence[_Bench], crop: Size, best: dict[str, Any], asked: Asked
) -> list[dict[str, Any]]:
    """Of each way, the export that was in the middle by its rate against the bare network."""
    some = round(min(max(EXPORT_S * best["bare_fps"], LEAST_FRAMES), MOST_FRAMES))
    frames = asked.frames or some
    turns = [[_export(way, crop, best, frames) for way in ways] for _ in range(asked.rounds)]
    return [
        sorted(of_way, key=lambda done: float(done["of_bare"]))[asked.rounds // 2]
        for of_way in zip(*turns, strict=True)
    ]


def _export(bench: _Bench, crop: Size, best: dict[str, Any], frames: int) -> dict[str, Any]:
    """A whole export: its rate once it runs, and how busy each part of it was.

    The bare network is that of torch, measured anew before and after the export.
    """
    stage, bare = bench.stage(best["batch"]), _bare_fps(bench, crop, best["batch"])
    reached: list[tuple[float, int]] = []
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        _film(folder / "film.mp4", frames)
        pan = [CropKeyframe(0, Rect(200, 5, crop.width, crop.height), Ease.LINEAR)]
        pan.append(CropKeyframe(frames / 30, Rect(230, 5, crop.width, crop.height), Ease.LINEAR))
        edit = Edit(
            [Clip("film.mp4", pan)], target_size=TARGET, fit=Fit.STRETCH, include_audio=False
        )
        start_core_s = time.process_time()
        report = export(
            build_plan(edit, probe_sources(edit, folder)),
            folder / "out.mp4",
            upscaler=_Only(stage),
            listener=Listener(lambda at: reached.append((time.perf_counter(), at.frames_done))),
        )
        core_s = time.process_time() - start_core_s
    begun = [(at_s, done) for at_s, done in reached if done >= frames / 4]
    (start_s, first), (end_s, last) = begun[0], begun[-1]
    rate = (last - first) / (end_s - start_s) if last > first else report.frames_per_s
    bare_fps = (bare + _bare_fps(bench, crop, best["batch"])) / 2
    return {
        "how": bench.how,
        "frames": report.frames,
        "fps": rate,
        "of_bare": rate / bare_fps,
        "core_s": core_s / report.frames,
        "batch": best["batch"],
        "encoder": report.encoder,
        "route": report.chunks[0].route,
        "busy": {stage: took_s / report.wall_s for stage, took_s in report.stage_s.items()},
    }


def _bare_fps(bench: _Bench, crop: Size, batch: int) -> float:
    """Pictures a second that torch computes on the device."""
    shots = shots_of_noise(FRAME, crop, 1, 200)
    region = _region(shots, bench.network.shape.multiple)
    images = torch.rand(batch, 3, region.height, region.width, device=bench.device)
    images = images.to(bench.precision.dtype, memory_format=torch.channels_last)
    bare = replace(bench, how="eager").bare()
    return batch / _in_turns({"bare": lambda: bare(images)}, 5, bench.device)["bare"]


def _film(path: Path, frames: int) -> None:
    """1080p at 30 fps: something detailed that moves, in many bits."""
    random = np.random.default_rng(1)
    coarse = random.integers(40, 215, (FRAME.height // 4, FRAME.width // 4), np.uint8)
    fine = random.integers(0, 9, (FRAME.height, FRAME.width), np.uint8)
    scene = coarse.repeat(4, 0).repeat(4, 1)
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=30, options={"preset": "veryfast"})
        assert isinstance(stream, av.VideoStream)
        stream.width, stream.height, stream.pix_fmt = FRAME.width, FRAME.height, "yuv420p"
        stream.codec_context.gop_size = 60
        stream.codec_context.colorspace = Colorspace.ITU709
        for index in range(frames):
            picture = Picture(FRAME)
            picture.fill_black()
            picture.y[:] = np.roll(scene, 3 * index, 1) + np.roll(fine, 401 * index, 1)
            frame = av.VideoFrame.from_ndarray(picture.buffer, "yuv420p")
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))


def _in_turns(
    jobs: dict[str, Callable[[], object]], rounds: int, device: torch.device
) -> dict[str, float]:
    """Median seconds of each job; they take turns, after one of each to warm up."""
    taken: dict[str, list[float]] = {name: [] for name in jobs}
    if device.type == "cuda":
        torch.cuda.synchronize()
    for turn in range(rounds + 1):
        for name, job in jobs.items():
            start_s = time.perf_counter()
            job()
            if device.type == "cuda":
                torch.cuda.synchronize()
            if turn:
                taken[name].append(time.perf_counter() - start_s)
    return {name: median(seconds) for name, seconds in taken.items()}


def _drained(stage: NetworkStage, shots: Sequence[FrameCrop]) -> int:
    made = stage.pictures(shots, a_source(size=FRAME), Framing(TARGET, Fit.STRETCH))
    return sum(picture.on_host().size == TARGET for picture in made)


def _region(shots: Sequence[FrameCrop], multiple: int) -> Size:
    return covering(np.array([shots[0].rect]), FRAME, multiple).size


def _enhance(shape: Shape, crop: Size, device: torch.device) -> Callable[[], object] | None:
    """Real-ESRGAN's own class on one picture of the crop, or None where it is not installed."""
    try:
        enhancer_class = original_upscaler()
        module = original_network(shape)
    except (NotInstalledError, ImportError):
        return None
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "seeded.pth"
        torch.save({"params": module.state_dict()}, path)
        enhancer = enhancer_class(
            scale=shape.scale,
            model_path=str(path),
            model=module,
            half=device.type == "cuda",
            device=device,
        )
    picture = np.random.default_rng(0).integers(0, 255, (crop.height, crop.width, 3), np.uint8)
    return lambda: enhancer.enhance(picture, outscale=TARGET.height / crop.height)


def _matmul_tflops(device: torch.device) -> float:
    """What the device does at its best: a large matrix product in the precision of the networks."""
    side, dtype = MATMUL_SIDE[device.type], best_precision(device).dtype
    a = torch.rand(side, side, device=device, dtype=dtype)
    seconds = _in_turns({"matmul": lambda: a @ a}, 10, device)["matmul"]
    return 2 * side**3 / seconds / 1e12


def _machine(device: torch.device) -> dict[str, str]:
    cuda = device.type == "cuda"
    commit = ""
    with suppress(OSError):
        done = subprocess.run(
            ["git", "describe", "--always", "--dirty"], capture_output=True, text=True
        )
        commit = done.stdout.strip()
    return {
        "device": torch.cuda.get_device_name() if cuda else platform.processor() or "CPU",
        "threads": str(torch.get_num_threads()),
        "torch": torch.__version__,
        "cuda": torch.version.cuda or "",
        "python": platform.python_version(),
        "commit": commit,
    }


if __name__ == "__main__":
    main(sys.argv[1:])
