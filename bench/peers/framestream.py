"""framestream as its users start it."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

from bench.peers.edits import Cut, PeerEdit


def lack(edit: PeerEdit) -> str | None:  # noqa: ARG001 - the signature of a peer
    """Nothing: it makes all of the edits."""
    return None


def command(edit: PeerEdit, folder: Path, output: Path) -> list[str | Path]:
    """The program's own command, and the edit's document in `folder`."""
    path = folder / "edit.json"
    path.write_text(json.dumps(document(edit)))
    network = ["--upscaler", edit.network, "--model-path", edit.weights]
    return [
        *(sys.executable, "-m", "engine", "render", path, "--output", output),
        *(network if edit.network else ["--upscaler", "none"]),
        *("--encoder", "libx264", "--report", folder / "report.json", "--quiet"),
    ]


def frames_encoded(folder: Path, output: Path) -> int:  # noqa: ARG001 - the signature of a peer
    """By its report."""
    rendered: int = _report(folder)["frames_rendered"]
    return rendered


def details(folder: Path) -> dict[str, Any]:
    """Where its time went, by its report."""
    report = _report(folder)
    return {name: report[name] for name in ("wall_s", "stage_s", "bottleneck")}


def document(edit: PeerEdit) -> dict[str, Any]:
    """The edit as framestream reads it."""
    return {
        "clips": [_clip(edit, cut) for cut in edit.cuts],
        "transition": {"type": "dissolve", "duration": edit.dissolve_s},
        "targetWidth": edit.target.width,
        "targetHeight": edit.target.height,
        "includeAudio": False,
    }


def _clip(edit: PeerEdit, cut: Cut) -> dict[str, Any]:
    span = {"start": cut.start_s, "end": cut.stop_s}
    return {
        "fileName": str(edit.film),
        "title": cut.title,
        "cropKeyframes": [
            {
                "time": time_s,
                "x": cut.x_at(frame),
                "y": cut.y_px,
                "width": edit.crop.width,
                "height": edit.crop.height,
            }
            for time_s, frame in ((cut.start_s, cut.start_frame), (cut.stop_s, cut.stop_frame))
        ],
        "segmentsData": {"trimRange": span, "segments": [{**span, "speed": 1 / cut.slowed}]},
    }


def _report(folder: Path) -> dict[str, Any]:
    report: dict[str, Any] = json.loads((folder / "report.json").read_text())
    return report
