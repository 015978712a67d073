"""The ffmpeg program: the engine's settings as its arguments, and what it knows of films.

It is a peer in some benchmarks and the witness in all.
"""

from __future__ import annotations

import json
import re
import subprocess
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from itertools import pairwise
from pathlib import Path
from typing import Any

KEY_INTERVAL_S = 2
"""The engine's own, where nobody asks for another."""

X264 = (
    "-c:v", "libx264", "-profile:v", "high", "-preset", "veryfast", "-crf", "18",
    "-threads", "4", "-g", "100000", "-keyint_min", "100000", "-sc_threshold", "0",
    "-force_key_frames", f"expr:gte(t,n_forced*{KEY_INTERVAL_S})", "-pix_fmt", "yuv420p",
)  # fmt: skip
"""The engine's settings of libx264, chunks apart."""

LOSSLESS = ("-c:v", "libx264", "-preset", "ultrafast", "-qp", "0", "-pix_fmt", "yuv420p")

BT709 = (
    "-colorspace", "bt709", "-color_primaries", "bt709", "-color_trc", "bt709",
    "-color_range", "tv",
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Likeness:
    """How alike two films are, frame by frame."""

    psnr_y_db: float
    """Of luma, over all frames."""
    worst_db: float
    """Of all planes, of the frame that is least alike."""
    ssim: float
    """Of all planes."""
    vmaf: float | None
    """None where this ffmpeg has no libvmaf."""


def version() -> str:
    return _said("ffmpeg", "-version").split()[2]


@cache
def has_filter(name: str) -> bool:
    return (
        re.search(rf"^ \S+ {name} ", _said("ffmpeg", "-v", "error", "-filters"), re.M) is not None
    )


def ffmpeg(*arguments: str | Path) -> str:
    """Runs the program; gives back what it said. Raises `CalledProcessError`."""
    return subprocess.run(
        ["ffmpeg", "-hide_banner", "-nostdin", "-y", *arguments],
        capture_output=True,
        text=True,
        check=True,
    ).stderr


def video_facts(path: Path) -> Mapping[str, Any]:
    """Width, height, `r_frame_rate` and the number of packets of the picture, says ffprobe."""
    entries = "stream=width,height,r_frame_rate,nb_read_packets"
    said = _said(
        *("ffprobe", "-v", "error", "-select_streams", "v:0", "-count_packets"),
        *("-show_entries", entries, "-of", "json", path),
    )
    facts: dict[str, Any] = json.loads(said)["streams"][0]
    return facts


def key_frames(path: Path) -> list[int]:
    """Which frames of the picture are key frames, counted in the order they are shown in."""
    said = _said(
        *("ffprobe", "-v", "error", "-select_streams", "v:0"),
        *("-show_entries", "packet=pts,flags", "-of", "json", path),
    )
    packets = sorted(json.loads(said)["packets"], key=lambda packet: int(packet["pts"]))
    return [number for number, packet in enumerate(packets) if "K" in packet["flags"]]


def longest_gop(keys: Sequence[int], frame_count: int) -> int:
    """Frames that a player decodes at most to show one, where these are the key frames."""
    return max(stop - start for start, stop in pairwise([*keys, frame_count]))


def frames_encoded(progress: Path) -> int:
    """How many frames a run of the program wrote, from what `-progress FILE` left."""
    return int(re.findall(r"^frame=(\d+)", progress.read_text(), re.M)[-1])


def x264_of(path: Path) -> Mapping[str, str]:
    """Version and options, as libx264 writes them in front of its first frame."""
    found = re.search(
        rb"x264 - core (?P<version>\d+[^-]*) - .*? - options: (?P<options>[^\0]*)",
        path.read_bytes(),
    )
    if found is None:
        raise ValueError(f"{path} was not written by libx264")
    return {name: text.decode().strip() for name, text in found.groupdict().items()}


def likeness(path: Path, reference: Path, without: Sequence[range] = ()) -> Likeness:
    """Compares frame k with frame k, those of `without` left out."""
    left_out = "+".join(f"between(n,{gap.start},{gap.stop - 1})" for gap in without) or "0"
    measures = ["psnr", "ssim", *(["libvmaf"] if has_filter("libvmaf") else [])]
    names = "".join(f"[{{0}}{number}]" for number in range(len(measures)))
    graph = ";".join(
        [
            *(
                f"[{stream}:v]select='not({left_out})',setpts=N/TB/30,split={len(measures)}"
                + names.format("ab"[stream])
                for stream in (0, 1)
            ),
            *(f"[a{number}][b{number}]{each}[c{number}]" for number, each in enumerate(measures)),
        ]
    )
    shown = [word for number in range(len(measures)) for word in ("-map", f"[c{number}]")]
    said = ffmpeg(
        "-i", path, "-i", reference, "-filter_complex", graph, *shown, "-f", "null", "-"
    )  # fmt: skip
    vmaf = re.search(r"VMAF score: ([\d.]+)", said)
    return Likeness(
        psnr_y_db=_number(r"PSNR y:([\d.]+|inf)", said),
        worst_db=_number(r"PSNR .*min:([\d.]+|inf)", said),
        ssim=_number(r"SSIM .*All:([\d.]+)", said),
        vmaf=float(vmaf[1]) if vmaf else None,
    )


def _number(pattern: str, said: str) -> float:
    found = re.search(pattern, said)
    if found is None:
        raise ValueError(f"ffmpeg said nothing like {pattern}: {said}")
    return float(found[1])


def _said(*command: str | Path) -> str:
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout
