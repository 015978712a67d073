"""The steps of `bench/gpu.py`, each by itself: python -m bench.gpu_steps NAME DEVICE FOUND.json.

On a CPU they run with tiny sizes, to show that they would run. Those figures mean nothing.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from fractions import Fraction
from functools import partial
from pathlib import Path
from statistics import median
from typing import Any

import torch
from torch import Tensor

from bench.gpu import write_json
from bench.noise import shots_of_noise
from engine import Clip, CropKeyframe, Edit, build_plan, export, probe_sources
from engine.errors import EncoderError
from engine.geometry import Fit, Framing, Rect, Size
from engine.gpu.checks import encoding_refusal
from engine.media.encoders import choose_encoder
from engine.upscale.inference import Precision, Runner
from engine.upscale.network import CompactShape, Network, Shape
from engine.upscale.network_stage import NetworkStage
from engine.upscale.stage import PlainResampler
from engine.upscale.tuning import TUNED, Tuning
from tests.clips import numbered_clip
from tests.engine.upscale.material import SHAPES
from tests.engine.upscale.stages import PerClip
from tests.sources import a_source

ROOT = Path(__file__).parents[1]
WITHOUT = {
    "all": TUNED,
    "no fused_activations": replace(TUNED, fused_activations=False),
    "no half_results": replace(TUNED, half_results=False),
    "no banded_resampling": replace(TUNED, banded_resampling=False),
    "no gathered_tables": replace(TUNED, gathered_tables=False),
    "no batches_ahead": replace(TUNED, batches_ahead=0),
    "one of batches_ahead": replace(TUNED, batches_ahead=1),
    "no blocking_waits": replace(TUNED, blocking_waits=False),
}
GIB = 2**30


@dataclass(frozen=True, slots=True)
class Setup:
    """What is measured, and at what size."""

    device: torch.device
    frame: Size
    crop: Size
    target: Size
    batches: tuple[int, ...]
    frames: int
    """Of an export."""
    long_frames: int
    batch: int
    """Where one batch size is enough."""
    general: Shape
    large: Shape
    """The network that needs the most memory."""

    @property
    def cuda(self) -> bool:
        return self.device.type == "cuda"

    @property
    def precision(self) -> Precision:
        return Precision.FP16 if self.cuda else Precision.FP32

    def stage(
        self, batch: int | None, tuning: Tuning = TUNED, network: Network | None = None
    ) -> NetworkStage:
        network = network or seeded(self.general)
        runner = Runner(network, self.device, self.precision, tuning=tuning)
        return NetworkStage(runner, batch=batch, keep_on_device=True)

    def wait(self) -> None:
        if self.cuda:
            torch.cuda.synchronize()


def setup_on(device: str) -> Setup:
    """A 1080p source and a crop of 624x1080 on CUDA, tiny on a CPU."""
    if device == "cuda":
        general, large = SHAPES["realesr-general-x4v3"], SHAPES["realesrgan-x4plus"]
        frame, crop, target = Size(1920, 1080), Size(608, 1066), Size(1080, 1920)
        return Setup(
            torch.device("cuda"), frame, crop, target, (1, 4, 8), 120, 2000, 4, general, large
        )
    tiny = CompactShape(features=8, inner_convs=2, scale=4)
    frame, crop, target = Size(160, 96), Size(48, 80), Size(54, 96)
    return Setup(torch.device("cpu"), frame, crop, target, (1,), 4, 10, 1, tiny, tiny)


def seeded(shape: Shape) -> Network:
    torch.manual_seed(0)
    return Network(shape, shape.build().eval().requires_grad_(False))


Found = dict[str, Any]
"""What a step found. It is written when the step ends, and at each `Told` before."""
Told = Callable[[str, Any], None]


def doctor(setup: Setup, told: Told) -> None:
    """What the machine has, and where NVIDIA's libraries lie."""
    del setup
    done = subprocess.run(
        [sys.executable, "-m", "engine", "doctor"], capture_output=True, text=True, cwd=ROOT
    )
    told("doctor", (done.stdout + done.stderr).splitlines())
    libraries = subprocess.run(["ldconfig", "-p"], capture_output=True, text=True, check=False)
    wanted = ("libcuda.so", "libnvcuvid", "libnvidia-encode", "libnvrtc")
    told(
        "libraries",
        [line.strip() for line in libraries.stdout.splitlines() if any(w in line for w in wanted)],
    )
    if torch.cuda.is_available():
        told("gpu", torch.cuda.get_device_name())
        told("capability", torch.cuda.get_device_capability())
    told("torch", f"{torch.__version__}, CUDA {torch.version.cuda}")
    done.check_returncode()


def tests(setup: Setup, told: Told) -> None:
    """The tests of the device path, none of them skipped for want of CUDA."""
    files = ["tests/engine/upscale", "tests/engine/gpu"]
    environment = dict(os.environ, FAIL_WITHOUT_CUDA="1")
    if not setup.cuda:
        files, environment = ["tests/engine/upscale/test_fused.py"], dict(os.environ)
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "--tb=short", *files],
        capture_output=True, text=True, cwd=ROOT, env=environment,
    )  # fmt: skip
    told("pytest", done.stdout.splitlines()[-60:])
    done.check_returncode()


def races(setup: Setup, told: Told) -> None:
    """One export three times, and with each launch waited for: other frames would be a race."""
    hashes: dict[str, list[Any]] = {}
    for blocking in ("0", "1"):
        for turn in range(3 if blocking == "0" else 1):
            with tempfile.TemporaryDirectory() as folder:
                out = Path(folder) / "hashes.json"
                environment = dict(os.environ, CUDA_LAUNCH_BLOCKING=blocking)
                subprocess.run(
                    [sys.executable, "-m", "bench.gpu_steps", "hashes", setup.device.type, out],
                    check=True, cwd=ROOT, env=environment,
                )  # fmt: skip
                hashes[f"launch blocking {blocking}, {turn}"] = [out.read_text()]
            told("hashes", hashes)
    alike = len({text for (text,) in hashes.values()}) == 1
    told("alike", alike)
    assert alike, "the same export gave other frames"


def hashes(setup: Setup, told: Told) -> None:
    """The hashes of an export's frames."""
    told("hashes", exported(setup, setup.stage(setup.batch))["hashes"])


def rates(setup: Setup, told: Told) -> None:
    """Frames per second of the bare network, of the stage, and of a whole export."""
    region = Size(-(-setup.crop.width // 16) * 16, -(-setup.crop.height // 8) * 8)
    for batch in setup.batches:
        stage = setup.stage(batch)
        images = torch.rand(batch, 3, region.height, region.width, device=setup.device)
        bare_s = seconds(partial(bare, stage, images), setup)
        stage_s = seconds(partial(drained, setup, stage, 4 * batch), setup)
        film = exported(setup, stage)
        told(
            f"batch {batch}",
            {
                "bare_fps": batch / bare_s,
                "stage_fps": 4 * batch / stage_s,
                "export_fps": film["fps"],
                "route": film["route"],
                "events": stage.events,
            },
        )


def idle(setup: Setup, told: Told) -> None:
    """How long no kernel runs while five batches go through the stage."""
    from torch.profiler import ProfilerActivity, profile

    stage, batch = setup.stage(setup.batch), setup.batch
    drained(setup, stage, 3 * batch)
    activities = [ProfilerActivity.CPU, *([ProfilerActivity.CUDA] if setup.cuda else [])]
    with profile(activities=activities) as profiler:
        drained(setup, stage, 5 * batch)
        setup.wait()
    wanted = "cuda" if setup.cuda else "cpu"
    events = [each for each in profiler.events() if wanted in str(each.device_type).lower()]
    spans = sorted((each.time_range.start, each.time_range.end) for each in events)
    busy_us, whole_us = covered_us(spans)
    told("idle_share", 1 - busy_us / whole_us)
    table = profiler.key_averages().table(sort_by=f"self_{wanted}_time_total", row_limit=25)
    told("kernels", table.splitlines())
    names = {each.name for each in profiler.events()}
    told("waits", sorted(name for name in names if "ynchronize" in name))


def tuning(setup: Setup, told: Told) -> None:
    """Each way to save time left out once, in turns on the same device."""
    stages = {name: setup.stage(setup.batch, without) for name, without in WITHOUT.items()}
    taken: dict[str, list[float]] = {name: [] for name in stages}
    for turn in range(4 if setup.cuda else 2):
        for name, stage in stages.items():
            start_s = time.perf_counter()
            drained(setup, stage, 4 * setup.batch)
            setup.wait()
            if turn:
                taken[name].append(time.perf_counter() - start_s)
    best_s = median(taken["all"])
    for name, times in taken.items():
        told(name, {"seconds": median(times), "to_all": median(times) / best_s})
    told("events", stages["all"].events)


def memory(setup: Setup, told: Told) -> None:
    """The largest network in 16 GB; results that are not finite; and no memory for a picture."""
    with capped(setup, 16.0):
        stage = setup.stage(None, network=seeded(setup.large))
        told("x4plus in 16 GB", {"frames": drained(setup, stage, 2), "events": stage.events})
        if setup.cuda:
            told("peak_gib", torch.cuda.max_memory_allocated() / GIB)
        large = setup.stage(2, network=Network(setup.large, Overflowing(seeded(setup.large))))
        told("not finite", {"frames": drained(setup, large, 2), "events": large.events})
    with capped(setup, 1.5):
        stage = setup.stage(4, network=seeded(setup.large))
        told("x4plus in 1.5 GB", {"frames": drained(setup, stage, 4), "events": stage.events})


def long(setup: Setup, told: Told) -> None:
    """Whether memory stays flat."""
    stage = setup.stage(setup.batch)
    pieces = 10
    grown = []
    for _ in range(pieces):
        drained(setup, stage, setup.long_frames // pieces)
        allocated = torch.cuda.memory_reserved() if setup.cuda else 0
        grown.append({"device_mib": allocated / 2**20, "host_mib": resident_mib()})
        told("memory", grown)
    flat = grown[-1]["device_mib"] <= grown[1]["device_mib"]
    told("flat", flat)
    assert flat, "memory on the device grows"


def nvenc(setup: Setup, told: Told) -> None:
    """Whether NVENC opens, and takes frames on the device."""
    for name in ("h264_nvenc", "hevc_nvenc"):
        try:
            encoder = choose_encoder(setup.target, Fraction(30), name=name)
        except EncoderError as error:
            told(name, str(error))
            continue
        told(name, encoding_refusal(encoder, setup.device.type) or "takes frames on the device")


STEPS = {
    step.__name__: step
    for step in (doctor, tests, races, hashes, rates, idle, tuning, memory, long, nvenc)
}


class Overflowing(torch.nn.Module):
    """A network whose result is not finite in half precision."""

    def __init__(self, network: Network) -> None:
        super().__init__()
        self.network = network.module

    def forward(self, rgb: Tensor) -> Tensor:
        made: Tensor = self.network(rgb)
        return made * torch.inf if rgb.dtype == torch.float16 else made


@contextmanager
def capped(setup: Setup, gib: float) -> Iterator[None]:
    """So much memory for torch."""
    if not setup.cuda:
        yield
        return
    torch.cuda.empty_cache()
    torch.cuda.reset_peak_memory_stats()
    _, total_bytes = torch.cuda.mem_get_info()
    torch.cuda.set_per_process_memory_fraction(min(1.0, gib * GIB / total_bytes))
    try:
        yield
    finally:
        torch.cuda.set_per_process_memory_fraction(1.0)


def bare(stage: NetworkStage, images: Tensor) -> Tensor:
    """The network alone, on a batch that is there."""
    return stage._runner(images)


def drained(setup: Setup, stage: NetworkStage, count: int) -> int:
    """So many frames of noise through the stage and down to host memory."""
    shots = shots_of_noise(setup.frame, setup.crop, count, 10)
    framing = Framing(setup.target, Fit.STRETCH)
    made = stage.pictures(shots, a_source(size=setup.frame), framing)
    return sum(picture.on_host().size == setup.target for picture in made)


def exported(setup: Setup, stage: NetworkStage) -> Found:
    """A film through the stage to another film by libx264."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        size = (setup.frame.width, setup.frame.height)
        numbered_clip(folder / "film.mp4", setup.frames, size=size)
        rect = Rect(10, 4, setup.crop.width, setup.crop.height)
        edit = Edit(
            [Clip("film.mp4", [CropKeyframe(0, rect)])],
            target_size=setup.target,
            fit=Fit.STRETCH,
            include_audio=False,
        )
        plan = build_plan(edit, probe_sources(edit, folder))
        upscaler = PerClip(stage, PlainResampler("benchmark"))
        encoder = choose_encoder(plan.size, plan.fps, name="libx264")
        report = export(plan, folder / "out.mp4", upscaler=upscaler, encoder=encoder)
    return {
        "fps": report.frames_per_s,
        "hashes": [chunk.frame_hash for chunk in report.chunks],
        "route": report.chunks[0].route,
    }


def seconds(job: Callable[[], object], setup: Setup, rounds: int = 3) -> float:
    """The median of some rounds, after one to warm up."""
    taken = []
    for _ in range(rounds + 1):
        start_s = time.perf_counter()
        job()
        setup.wait()
        taken.append(time.perf_counter() - start_s)
    return median(taken[1:])


def covered_us(spans: list[tuple[float, float]]) -> tuple[float, float]:
    """How much of the time from the first start to the last end some span covers, and that time.

    `spans`: in the order of their starts.
    """
    if not spans:
        return 0.0, 1.0
    busy, reached = 0.0, spans[0][0]
    for start, end in spans:
        busy += max(0.0, end - max(start, reached))
        reached = max(reached, end)
    return busy, reached - spans[0][0]


def resident_mib() -> float:
    """What this process has in host memory now (Linux)."""
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE") / 2**20


def main(name: str, device: str, path: str) -> None:
    found: Found = {}

    def told(key: str, value: Any) -> None:
        found[key] = value
        write_json(Path(path), found)

    STEPS[name](setup_on(device), told)


if __name__ == "__main__":
    main(*sys.argv[1:])
