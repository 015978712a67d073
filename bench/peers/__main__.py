"""Three edits through framestream, the ffmpeg program, MoviePy and a step-by-step pipeline.

    python -m bench.peers RESULTS.json            # about a quarter of an hour
    python -m bench.peers RESULTS.json --quick    # a minute, to try it; its times mean little

Each run is a process of its own with a folder of its own. That the films are alike is checked
before a figure is kept: frames are counted and compared with a reference one by one, and libx264's
settings are read out of the files.

Quality is measured against a film without loss, which shares no code with framestream: the ffmpeg
program renders it, with its accurate scaler; for a network, Real-ESRGAN's own script does. That
favours ffmpeg's figures by the kinship of the scaler. Dissolves are left out, as programs weigh
the two pictures of its frame i by i/n or by (i+1)/(n+1).

Its networks are for peers with `RealESRGANer`: FRAMESTREAM_REFERENCE_PYTHON names the interpreter
that has it (see reference/README.md), and cells stay empty without.
"""

from __future__ import annotations

import argparse
import json
import os
import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from types import ModuleType
from typing import Any

from bench import program
from bench.footage import Footage
from bench.machine import PACKAGES, ROOT, as_typed, this_machine
from bench.measured import usage_of
from bench.peers import ffmpeg, framestream, moviepy, stepwise
from bench.peers.edits import FPS, PeerEdit, edits
from engine.upscale.models import model_named
from engine.upscale.weights import found_weights

PEERS: Mapping[str, ModuleType] = {
    "framestream": framestream,
    "ffmpeg": ffmpeg,
    "MoviePy": moviepy,
    "step by step": stepwise,
}
CLOSE = ("framestream", "ffmpeg")
"""Those that are near enough to each other to be run more than once."""

ROUNDS = 3
SAME_FRAME_DB = 27
"""The least alike frame of a film; a neighbour of the right frame is 21 to 24 dB alike."""
LONGEST_GOP = program.KEY_INTERVAL_S * FPS
NETWORK = "realesr-general-x4v3"


def main() -> None:
    asked = _asked()
    document = {
        "kind": "peers",
        "quick": asked.quick,
        "machine": this_machine(
            as_typed("bench.peers"), (*PACKAGES, "moviepy", "opencv-python-headless", "torch")
        ).document(),
        "edits": [],
    }
    with tempfile.TemporaryDirectory(prefix="peers-") as folder:
        kept = os.environ.get("FRAMESTREAM_BENCH_DIR")
        footage = Footage(Path(kept) if kept else Path(folder))
        weights = asked.weights or found_weights(model_named(asked.network))
        chosen = [
            (edit, short)
            for edit, short in zip(
                *(
                    edits(footage, quick, asked.network, str(weights))
                    for quick in (asked.quick, True)
                ),
                strict=True,
            )
            if asked.edit in edit.name and (weights or not edit.network)
        ]
        for number, (edit, short) in enumerate(chosen):
            place = Path(folder, str(number))
            place.mkdir()
            _run(framestream, short, place / "warm-up")  # the first run ever compiles kernels
            document["edits"].append(_compared(edit, place, 1 if asked.quick else asked.rounds))
            asked.results.write_text(json.dumps(document, indent=1) + "\n")


def _asked() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m bench.peers",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("results", type=Path, metavar="RESULTS.json", help="file to write")
    parser.add_argument("--edit", default="", metavar="NAME", help="those whose name has this")
    parser.add_argument("--quick", action="store_true", help="films of a second or two, once")
    parser.add_argument("--rounds", type=int, default=ROUNDS, help=f"of {' and '.join(CLOSE)}")
    parser.add_argument("--network", default=NETWORK, help=f"Real-ESRGAN's model ({NETWORK})")
    parser.add_argument("--weights", type=Path, help="its file, else where framestream finds it")
    return parser.parse_args()


def _compared(edit: PeerEdit, folder: Path, rounds: int) -> dict[str, Any]:
    """All figures of one edit. The close peers take turns."""
    reference = _reference(edit, folder)
    figures: dict[str, dict[str, Any]] = {
        name: {"lack": peer.lack(edit), "runs": []} for name, peer in PEERS.items()
    }
    for turn in range(1 if edit.network else rounds):
        for name, peer in PEERS.items():
            if figures[name]["lack"] is None and (turn == 0 or name in CLOSE):
                print(f"{edit.name}: {name}", flush=True)
                place = folder / f"{name}-{turn}"
                figures[name]["runs"].append(asdict(_run(peer, edit, place)))
                if turn == 0:
                    figures[name].update(_made(peer, edit, place, reference))
    options = {name: each["x264"]["options"] for name, each in figures.items() if "x264" in each}
    if len(set(options.values())) > 1:
        raise RuntimeError(f"libx264 was not set alike: {options}")
    return {
        "name": edit.name,
        "frames": edit.frame_count,
        "crop": str(edit.crop),
        "target": str(edit.target),
        "network": edit.network,
        "dissolves": len(edit.dissolves),
        "peers": figures,
    }


def _reference(edit: PeerEdit, folder: Path) -> Path | None:
    """The edit without loss, None where nothing independent of framestream can render it."""
    place, lossless = folder / "reference", (*program.LOSSLESS, *program.BT709)
    if edit.network and stepwise.lack(edit) is None:
        _run(stepwise, edit, place, encoder=lossless)
    elif not edit.network:
        accurate = "bicubic+accurate_rnd+full_chroma_int"
        _run(ffmpeg, edit, place, encoder=lossless, scale_flags=accurate)
    else:
        return None
    return place / "out.mp4"


def _run(peer: ModuleType, edit: PeerEdit, folder: Path, **how: Any) -> Any:
    """Runs a peer in a new folder, the film being `out.mp4` there; gives back what it cost."""
    folder.mkdir()
    command: Callable[..., Sequence[str | Path]] = peer.command
    output = folder / "out.mp4"
    usage = usage_of(
        *command(edit, folder, output, **how),
        cwd=ROOT,
        watch=folder,
        environment={"TMPDIR": str(folder)},
    )
    _check(edit, output)
    return usage


def _check(edit: PeerEdit, output: Path) -> None:
    facts = program.video_facts(output)
    found = (int(facts["nb_read_packets"]), facts["width"], facts["height"], facts["r_frame_rate"])
    wanted = (edit.frame_count, edit.target.width, edit.target.height, f"{FPS}/1")
    if found != wanted:
        raise RuntimeError(f"{output} has frames, size and rate {found}, not {wanted}")


def _made(peer: ModuleType, edit: PeerEdit, folder: Path, reference: Path | None) -> dict[str, Any]:
    """What there is to say of a film that a peer has made."""
    output = folder / "out.mp4"
    likeness = reference and program.likeness(output, reference, edit.dissolves)
    if likeness and likeness.worst_db < SAME_FRAME_DB:
        raise RuntimeError(f"{output} shows other frames: one is {likeness.worst_db} dB alike")
    if program.longest_gop(keys := program.key_frames(output), edit.frame_count) > LONGEST_GOP:
        raise RuntimeError(f"{output} has other key frames than the others: {keys}")
    return {
        "frames_encoded": peer.frames_encoded(folder, output),
        "size_bytes": output.stat().st_size,
        "x264": program.x264_of(output),
        "likeness": likeness and asdict(likeness),
        "details": peer.details(folder) if hasattr(peer, "details") else {},
    }


if __name__ == "__main__":
    main()
