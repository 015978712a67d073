"""Which kernels are compiled for an image, and what real exports need beside them.

Runs in a process of its own, where nothing was compiled before. Prints JSON: the names of kernels
that nothing reaches, the signatures that were not compiled for the image, and the names of kernels
whose code cannot be kept, so that each process would compile them.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from engine.compiled import KERNELS, Kernel
from engine.media.encoders import choose_encoder
from engine.pipeline.exporter import export, probe_sources
from engine.timeline.edit import Edit
from engine.timeline.plan import build_plan
from engine.upscale.stage import PlainResampler
from modal_functions.images import compile_kernels
from tests.clips import numbered_clip

FILMS: dict[str, dict[str, Any]] = {
    "8 bits": {},
    "10 bits": {"pix_fmt": "yuv420p10le"},
    "4:2:2": {"pix_fmt": "yuv422p"},
    "4:4:4 in 12 bits": {"codec": "ffv1", "pix_fmt": "yuv444p12le"},
    "grey": {"codec": "ffv1", "pix_fmt": "gray"},
    "grey in 16 bits": {"codec": "ffv1", "pix_fmt": "gray16le"},
    "RGB": {"codec": "ffv1", "pix_fmt": "bgr0"},
    "RGB in 10 bits": {"codec": "ffv1", "pix_fmt": "gbrp10le"},
    "alpha": {"codec": "ffv1", "pix_fmt": "yuva420p"},
    "alpha in 10 bits": {"codec": "ffv1", "pix_fmt": "yuva444p10le"},
    "RGB with alpha": {"codec": "ffv1", "pix_fmt": "bgra"},
    "NV12": {"codec": "rawvideo", "pix_fmt": "nv12"},
    "interlaced": {"codec": "mpeg2video", "options": {"flags": "+ildct+ilme", "top": "1"}},
    "full range": {"pix_fmt": "yuvj420p", "tags": {"colorspace": 1, "color_range": 2}},
    "BT.709": {"tags": {"colorspace": 1}},
    "BT.709 in 10 bits": {"pix_fmt": "yuv420p10le", "tags": {"colorspace": 1}},
    "BT.601 in 10 bits": {"pix_fmt": "yuv420p10le", "tags": {"colorspace": 6}},
    "HLG": {
        "pix_fmt": "yuv420p10le",
        "tags": {"colorspace": 9, "color_primaries": 9, "color_trc": 18},
    },
    "PQ": {
        "pix_fmt": "yuv420p10le",
        "tags": {"colorspace": 9, "color_primaries": 9, "color_trc": 16},
    },
    "HLG in 8 bits": {"tags": {"colorspace": 9, "color_primaries": 9, "color_trc": 18}},
    "Display P3": {"tags": {"colorspace": 1, "color_primaries": 12, "color_trc": 13}},
}
"""Arguments of `numbered_clip`."""


def main() -> None:
    compile_kernels()
    made = signatures()
    unreached = {name_of(kernel) for kernel in KERNELS} - set(reached())
    with TemporaryDirectory() as folder:
        export_all(Path(folder))
    missed = signatures() - made
    told = {
        "unreached": sorted(unreached),
        "missed": sorted(missed),
        "not kept": [name_of(kernel) for kernel in KERNELS if needs_numba(kernel)],
    }
    json.dump(told, sys.stdout)


def signatures() -> set[str]:
    return {f"{name_of(kernel)} {each}" for kernel in KERNELS for each in kernel.signatures}


def needs_numba(kernel: Kernel) -> bool:
    """Whether it is run by numba's dispatcher, which has to compile it first."""
    return "dispatcher" in vars(kernel) and kernel.dispatcher in kernel._loaded.values()


def name_of(kernel: Kernel) -> str:
    return f"{kernel.py_func.__module__}.{kernel.py_func.__name__}"


def reached() -> Iterator[str]:
    """The kernels that were called, and those that a kernel calls."""
    waiting = [kernel for kernel in KERNELS if kernel.signatures]
    while waiting:
        kernel = waiting.pop()
        yield name_of(kernel)
        function = kernel.py_func
        called = [function.__globals__.get(name) for name in function.__code__.co_names]
        waiting += [each for each in KERNELS if any(each is it for it in called)]


def export_all(folder: Path) -> None:
    """Every film twice, upright and turned by the edit, with all that edits have."""
    keyframes = [
        {"time": 0, "x": 3, "y": 2, "width": 81.5, "height": 80.25, "ease": "spline"},
        {"time": 0.1, "x": 9, "y": 2, "width": 60, "height": 60, "ease": "smooth"},
    ]
    speeds = {"segments": [{"start": 0.1, "end": 0.3, "speed": 2.5}]}
    clips: list[dict[str, Any]] = []
    for number, arguments in enumerate(FILMS.values()):
        film = folder / f"{number}.mkv"
        sound: Any = None if number else "bursts"
        numbered_clip(film, 4, fps=10, sound=sound, **arguments)
        clips += [
            {"fileName": film.name, "cropKeyframes": keyframes, "segmentsData": speeds},
            {"fileName": film.name, "rotation": 7},
        ]
    document = {
        "clips": clips,
        "transition": {"type": "fade", "duration": 0.1},
        "targetWidth": 160,
        "targetHeight": 96,
        "targetFps": 10,
    }
    edit = Edit.parse(document)
    plan = build_plan(edit, probe_sources(edit, folder))
    encoder = choose_encoder(plan.size, plan.fps, name="libx264", preset="ultrafast")
    export(plan, folder / "out.mp4", upscaler=PlainResampler("a test"), encoder=encoder)


if __name__ == "__main__":
    main()
