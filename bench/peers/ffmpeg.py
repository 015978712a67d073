"""The ffmpeg program: an edit is one command with one filter graph; frames are encoded once."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from bench import program
from bench.peers.edits import FPS, Cut, PeerEdit

_FRAMES_AFTER_DISSOLVE = 3


def lack(edit: PeerEdit) -> str | None:
    """What the program lacks for an edit."""
    return "has no such network" if edit.network else None


def command(
    edit: PeerEdit,
    folder: Path,
    output: Path,
    *,
    encoder: Sequence[str] = (*program.X264, *program.BT709),
    scale_flags: str = "bicubic",
) -> list[str | Path]:
    """One command; films are sought by time before they are decoded."""
    chapters = folder / "chapters.txt"
    chapters.write_text(edit.chapters())
    inputs = [
        word
        for cut in edit.cuts
        for word in ("-ss", f"{cut.start_s}", "-t", f"{(_frames_read(edit, cut) + 0.5) / FPS}",
                     "-i", str(edit.film))
    ]  # fmt: skip
    marks = str(len(edit.cuts))
    return [
        *("ffmpeg", "-v", "error", "-nostdin", "-y"),
        *("-progress", str(folder / "encode.progress"), *inputs, "-i", str(chapters)),
        *("-filter_complex", _graph(edit, scale_flags)),
        *("-map", "[out]", "-map_metadata", marks, "-map_chapters", marks),
        *(*encoder, "-movflags", "+faststart", str(output)),
    ]


def frames_encoded(folder: Path, output: Path) -> int:  # noqa: ARG001 - the signature of a peer
    """By its own progress report."""
    return program.frames_encoded(folder / "encode.progress")


def _graph(edit: PeerEdit, scale_flags: str) -> str:
    cuts = [
        f"[{number}:v]{_picture(edit, cut, scale_flags)}[cut{number}]"
        for number, cut in enumerate(edit.cuts)
    ]
    return ";".join([*cuts, dissolving(edit, [f"cut{number}" for number in range(len(cuts))])])


def dissolving(edit: PeerEdit, streams: Sequence[str]) -> str:
    """The filters that make `out` of the cuts' streams."""
    lines, last = [], streams[0]
    for number, (stream, start) in enumerate(zip(streams[1:], edit.starts[1:-1], strict=True), 1):
        span = f"duration={edit.dissolve_s}:offset={start / FPS:.6f}"
        lines.append(f"[{last}][{stream}]xfade=transition=fade:{span}[join{number}]")
        last = f"join{number}"
    return ";".join([*lines, f"[{last}]null[out]"])


def _picture(edit: PeerEdit, cut: Cut, scale_flags: str) -> str:
    """The filters of one cut."""
    x = f"{cut.x_px}+({cut.pan_px})*n" if cut.pan_px else f"{cut.x_px}"
    slowly = f"setpts={cut.slowed}*PTS,fps={FPS}," if cut.slowed != 1 else ""
    return (
        f"trim=end_frame={_frames_read(edit, cut)},"
        f"crop={edit.crop.width}:{edit.crop.height}:'{x}':{cut.y_px},"
        f"scale={edit.target.width}:{edit.target.height}:flags={scale_flags},setsar=1,"
        f"{slowly}settb=1/{FPS}"
    )


def _frames_read(edit: PeerEdit, cut: Cut) -> int:
    """`xfade` may lose a frame where its first stream ends with the dissolve, so it gets more."""
    more = 0 if cut is edit.cuts[-1] else _FRAMES_AFTER_DISSOLVE
    return cut.stop_frame - cut.start_frame + more
