"""Footage to measure with, made by the ffmpeg program when it is first asked for, and kept.

1080p at 30 fps and about 8 Mbit/s, as a phone films: moving shapes under a little noise, a key
frame every two seconds. Small long films for what depends on length alone.
"""

from __future__ import annotations

import hashlib
import subprocess
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from engine.files import file_url, whole_file

_H264 = ("-c:v", "libx264", "-preset", "veryfast", "-g", "60", "-pix_fmt", "yuv420p")
_TAGS = ("-colorspace", "bt709", "-color_primaries", "bt709", "-color_trc", "bt709")
_CROWD = ("-f", "lavfi", "-i", "anoisesrc=color=pink:amplitude=0.3:sample_rate=48000:seed=1")
"""Noise, as from a stand: a pure tone costs FFmpeg's AAC encoder six times as much."""

_AAC = ("-c:a", "aac", "-b:a", "128k", "-ac", "2", "-shortest")


def _shapes(duration_s: int, size: str = "1920x1080", noise: int = 6) -> tuple[str, ...]:
    """ffmpeg's arguments for `duration_s` of pictures, differently noisy with every length."""
    pattern = f"testsrc2=size={size}:rate=30:duration={duration_s}"
    return ("-f", "lavfi", "-i", f"{pattern},noise=alls={noise}:all_seed={duration_s}:allf=t")


def _at_rest(duration_s: int, noise: int) -> tuple[str, ...]:
    """ffmpeg's arguments for pictures of one grainy thing: nothing in them moves but the noise."""
    grain = "trim=end_frame=1,noise=alls=20:all_seed=1"
    held = f"loop=loop=-1:size=1,trim=end_frame={30 * duration_s},setpts=N/30/TB"
    noisy = f"noise=alls={noise}:all_seed=2:allf=t"
    return ("-f", "lavfi", "-i", f"testsrc2=size=1920x1080:rate=30,{grain},{held},{noisy}")


_RECIPES: Final[Mapping[str, tuple[str, ...]]] = {
    "reel": (*_shapes(20), *_H264, "-crf", "23", *_TAGS),
    "reel_with_sound": (*_shapes(20), *_CROWD, *_H264, "-crf", "23", *_TAGS, *_AAC),
    "first": (*_shapes(10), *_H264, "-crf", "23", *_TAGS),
    "second": (*_shapes(11), *_H264, "-crf", "23", *_TAGS),
    "moving": (*_shapes(24), *_H264, "-crf", "23", *_TAGS),
    "still_camera": (*_at_rest(24, noise=6), *_H264, "-crf", "23", *_TAGS),
    "still_picture": (*_at_rest(24, noise=0), *_H264, "-crf", "23", *_TAGS),
    "minute": (*_shapes(60, "320x180", 2), *_CROWD, *_H264, "-crf", "30", *_TAGS, *_AAC),
    "ten_minutes": (*_shapes(600, "320x180", 2), *_CROWD, *_H264, "-crf", "30", *_TAGS, *_AAC),
}


@dataclass(frozen=True, slots=True)
class Footage:
    """A folder of films by name; one is made again only when its recipe has changed."""

    folder: Path

    def path(self, name: str) -> Path:
        """The film of that name; about as long to make as to watch halfway, the first time."""
        recipe = _RECIPES[name]
        print_of = hashlib.blake2b(repr(recipe).encode(), digest_size=4).hexdigest()
        path = self.folder / f"{name}-{print_of}.mp4"
        if not path.exists():
            with whole_file(path) as unfinished:
                command = [
                    "ffmpeg",
                    "-v",
                    "error",
                    "-y",
                    *recipe,
                    "-f",
                    "mp4",
                    file_url(unfinished),
                ]
                subprocess.run(command, check=True)
        return path
