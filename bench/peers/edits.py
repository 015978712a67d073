"""The edits that every peer makes, as values that know no peer.

Crops lie on even whole pixels at every frame, since not every peer can place them otherwise, and
cuts lie on whole frames. There is no sound: MoviePy cannot change a speed and keep the pitch.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from itertools import accumulate, pairwise
from pathlib import Path
from typing import Any, Self

from bench.footage import Footage
from engine import Size

FPS = 30


@dataclass(frozen=True, slots=True)
class Cut:
    """A stretch of the film, through a crop that stands still or moves by whole pixels a frame."""

    start_frame: int
    stop_frame: int
    x_px: int
    y_px: int
    pan_px: int = 0
    """To the right, per frame of the film."""
    slowed: int = 1
    """How often each frame is shown."""
    title: str = ""

    @property
    def start_s(self) -> float:
        return self.start_frame / FPS

    @property
    def stop_s(self) -> float:
        return self.stop_frame / FPS

    @property
    def frame_count(self) -> int:
        """In the output."""
        return (self.stop_frame - self.start_frame) * self.slowed

    def x_at(self, frame: int) -> int:
        """The crop's left edge at a frame of the film."""
        return self.x_px + self.pan_px * (frame - self.start_frame)


@dataclass(frozen=True, slots=True)
class PeerEdit:
    """One edit of one film."""

    name: str
    film: Path
    cuts: tuple[Cut, ...]
    crop: Size
    target: Size
    dissolve_frames: int = 0
    network: str = ""
    """Which of Real-ESRGAN's networks enlarges the crops; bicubic resampling where empty."""
    weights: str = ""
    """Its file."""

    @property
    def starts(self) -> list[int]:
        """The output frame that each cut starts at; the frame count follows as the last."""
        lengths = [cut.frame_count - self.dissolve_frames for cut in self.cuts]
        *starts, end = accumulate(lengths, initial=0)
        return [*starts, end + self.dissolve_frames]

    @property
    def dissolve_s(self) -> float:
        return self.dissolve_frames / FPS

    @property
    def frame_count(self) -> int:
        return self.starts[-1]

    @property
    def dissolves(self) -> list[range]:
        """The output frames that show two cuts."""
        return [range(start, start + self.dissolve_frames) for start in self.starts[1:-1]]

    def chapters(self) -> str:
        """One per cut, as ffmpeg reads them."""
        lines = [";FFMETADATA1"]
        for cut, (start, stop) in zip(self.cuts, pairwise(self.starts), strict=True):
            lines += ["[CHAPTER]", f"TIMEBASE=1/{FPS}", f"START={start}", f"END={stop}"]
            lines.append(f"title={cut.title}")
        return "\n".join(lines) + "\n"

    def write(self, path: Path) -> Path:
        """For a peer that runs as a process of its own; `read` is its other end."""
        path.write_text(json.dumps(asdict(self), default=str))
        return path

    @classmethod
    def read(cls, path: Path) -> Self:
        fields: dict[str, Any] = json.loads(path.read_text())
        return cls(
            **fields
            | {
                "film": Path(fields["film"]),
                "cuts": tuple(Cut(**cut) for cut in fields["cuts"]),
                "crop": Size(**fields["crop"]),
                "target": Size(**fields["target"]),
            }
        )


def edits(footage: Footage, quick: bool, network: str, weights: str) -> Sequence[PeerEdit]:
    """The three edits of the comparison; `quick` makes films of a second or two, for trying."""
    film = footage.path("reel")
    crop, target = Size(600, 1066), Size(1080, 1920)
    if quick:
        crop, target = Size(150, 266), Size(270, 480)

    def frames(start_s: float, stop_s: float) -> tuple[int, int]:
        start, stop = round(start_s * FPS), round(stop_s * FPS)
        return start, start + (stop - start) // 5 if quick else stop

    return (
        PeerEdit("one clip, still crop", film, (Cut(*frames(0, 20), 660, 6),), crop, target),
        PeerEdit(
            "four clips, pans, slow motion, dissolves",
            film,
            (
                Cut(*frames(0.5, 5.5), 100, 6, pan_px=2, title="to the right"),
                Cut(*frames(5.5, 8.5), 660, 6, slowed=2, title="slowly"),
                Cut(*frames(9, 14), 1100, 6, pan_px=-4, title="to the left"),
                Cut(*frames(14.5, 19.5), 400, 6, title="at rest"),
            ),
            crop,
            target,
            dissolve_frames=15,
        ),
        PeerEdit(
            "one second enlarged by a network",
            film,
            (Cut(150, 154 if quick else 180, 880, 398),),
            Size(160, 284),
            Size(1080, 1920),
            network=network,
            weights=weights,
        ),
    )
