"""How near the stream comes to the bare network, and both to Real-ESRGAN's own script.

    python -m bench.upscale RESULTS.json                      # what this machine has: CUDA or CPU
    python -m bench.upscale RESULTS.json --device cuda --batches 1 2 4 8

For each model, on the same region, in turns in one run: the bare network (a batch that is already
on the device), the stage of an export (planes of decoded frames in, finished 1080x1920 pictures
out), and `RealESRGANer.enhance` where the reference is installed (see reference/README.md). Weights
are seeded, since speed does not depend on them. Needs no source, no weights and no network.
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
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
import torch

from engine.geometry import Fit, Size
from engine.picture import SourceFrame
from engine.upscale.models import MODELS, Model
from engine.upscale.network import Network, Shape
from engine.upscale.realesrgan import RealESRGAN
from engine.upscale.regions import covering
from engine.upscale.runner import Runner, best_precision
from engine.upscale.upscaler import Shot
from tests.engine.upscale.material import SHAPES
from tests.engine.upscale.original import NotInstalledError, original_network, original_upscaler
from tests.sources import a_source

FRAME, TARGET = Size(1920, 1080), Size(1080, 1920)
MATMUL_SIDE = {"cuda": 8192, "cpu": 2048}


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
        "models": [
            _measured(MODELS[name], device, crop, asked.batches, asked.rounds)
            for name in asked.models
        ],
    }
    Path(asked.results).write_text(json.dumps(results, indent=1) + "\n")
    for line in _table(results):
        print(line)


def _asked(arguments: Sequence[str]) -> argparse.Namespace:
    cuda = torch.cuda.is_available()
    parser = argparse.ArgumentParser(prog="python -m bench.upscale", description=__doc__)
    parser.add_argument("results", help="JSON file to write")
    parser.add_argument("--device", default="cuda" if cuda else "cpu", choices=["cpu", "cuda"])
    parser.add_argument("--crop", default="600x1066" if cuda else "160x284", help="of the source")
    names = list(SHAPES) if cuda else ["realesr-general-x4v3", "realesr-animevideov3"]
    parser.add_argument("--models", nargs="+", default=names, choices=list(SHAPES))
    parser.add_argument("--batches", nargs="+", type=int, default=[1, 2, 4, 8] if cuda else [1])
    parser.add_argument("--rounds", type=int, default=5)
    return parser.parse_args(arguments)


def _measured(
    model: Model, device: torch.device, crop: Size, batches: Sequence[int], rounds: int
) -> dict[str, Any]:
    torch.manual_seed(0)
    shape = SHAPES[model.name]
    network = Network(shape, shape.build().eval().requires_grad_(False))
    runner = Runner(network, device, best_precision(device))
    per_batch = [_batch(model, runner, crop, batch, rounds, device) for batch in batches]
    enhance = _enhance(network.shape, crop, device)
    peers = {"enhance": enhance} if enhance else {}
    stage = RealESRGAN(runner, weights="seeded", batch=max(batches))
    one = _shots(crop, max(batches))
    turns = {"stage": lambda: _drained(stage, one), **peers}
    seconds = _in_turns(turns, rounds, device)
    return {
        "model": model.name,
        "batches": per_batch,
        "stage_fps": len(one) / seconds["stage"],
        "enhance_fps": 1 / seconds["enhance"] if enhance else None,
    }


def _batch(
    model: Model, runner: Runner, crop: Size, batch: int, rounds: int, device: torch.device
) -> dict[str, Any]:
    """The bare network and the stage with batches of that size, in turns."""
    shots = _shots(crop, 2 * batch)
    stage = RealESRGAN(runner, weights="seeded", batch=batch)
    region = _region(shots, runner.shape.multiple)
    images = torch.rand(batch, 3, region.height, region.width, device=device)
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats()
    try:
        seconds = _in_turns(
            {"bare": lambda: runner(images), "stage": lambda: _drained(stage, shots)},
            rounds,
            device,
        )
    except torch.OutOfMemoryError:
        return {"batch": batch, "out_of_memory": True}
    flops = model.flops_per_pixel * region.width * region.height * batch
    return {
        "batch": batch,
        "region": str(region),
        "bare_fps": batch / seconds["bare"],
        "stage_fps": len(shots) / seconds["stage"],
        "tflops": flops / seconds["bare"] / 1e12,
        "peak_gib": torch.cuda.max_memory_allocated() / 2**30 if device.type == "cuda" else None,
    }


def _in_turns(
    jobs: dict[str, Callable[[], object]], rounds: int, device: torch.device
) -> dict[str, float]:
    """Median seconds of each job; they take turns, after one of each to warm up."""
    taken: dict[str, list[float]] = {name: [] for name in jobs}
    for turn in range(rounds + 1):
        for name, job in jobs.items():
            start_s = time.perf_counter()
            job()
            if device.type == "cuda":
                torch.cuda.synchronize()
            if turn:
                taken[name].append(time.perf_counter() - start_s)
    return {name: median(seconds) for name, seconds in taken.items()}


def _drained(stage: RealESRGAN, shots: Sequence[Shot]) -> int:
    return sum(1 for _ in stage.pictures(shots, a_source(size=FRAME), TARGET, Fit.STRETCH))


def _shots(crop: Size, count: int) -> list[Shot]:
    """A slow pan over `count` frames of noise."""
    random = np.random.default_rng(0)
    half = (FRAME.height // 2, FRAME.width // 2)
    planes = (
        random.integers(16, 235, (FRAME.height, FRAME.width), np.uint8),
        random.integers(90, 166, half, np.uint8),
        random.integers(90, 166, half, np.uint8),
    )
    return [
        Shot(
            SourceFrame(index, planes, 8, (2, 2), (0.0, 0.5), None),
            np.array([200 + 0.1 * index, 5.0, crop.width, crop.height]),
        )
        for index in range(count)
    ]


def _region(shots: Sequence[Shot], multiple: int) -> Size:
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
    side = MATMUL_SIDE[device.type]
    dtype = torch.float16 if device.type == "cuda" else torch.float32
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


def _table(results: dict[str, Any]) -> list[str]:
    machine = results["machine"]
    lines = [
        f"{machine['device']}, torch {machine['torch']}, {results['precision']}, crop "
        f"{results['crop']}, commit {machine['commit']}; a matrix product does "
        f"{results['matmul_tflops']:.2f} TFLOP/s. `{results['command']}`",
        "",
        "| model | batch | bare frames/s | TFLOP/s | of a matrix product | stage frames/s "
        "| stage / bare | peak GiB | stage / `enhance` |",
        "| --- | ---: | ---: | ---: | ---: | ---: | ---: | ---: | ---: |",
    ]
    for each in results["models"]:
        best = each["stage_fps"] / each["enhance_fps"] if each["enhance_fps"] else None
        for row in each["batches"]:
            if row.get("out_of_memory"):
                lines.append(f"| {each['model']} | {row['batch']} | out of memory | | | | | | |")
                continue
            peak = "" if row["peak_gib"] is None else f"{row['peak_gib']:.1f}"
            lines.append(
                f"| {each['model']} | {row['batch']} | {row['bare_fps']:.2f} | {row['tflops']:.2f} "
                f"| {row['tflops'] / results['matmul_tflops']:.0%} | {row['stage_fps']:.2f} "
                f"| {row['stage_fps'] / row['bare_fps']:.2f} | {peak} "
                f"| {'' if best is None else f'{best:.2f}'} |"
            )
    return lines


if __name__ == "__main__":
    main(sys.argv[1:])
