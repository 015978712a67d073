"""MoviePy 2, as someone who knows it would write these edits.

    python -m bench.peers.moviepy EDIT.json OUT.mp4

What is done in its favour: it runs on the same ffmpeg program as the others, only the dissolves
are composited (a `CompositeVideoClip` of everything, as its documentation has it, passes all frames
through RGBA, and took 51 s of CPU time where this took 42 s, for 165 frames of the four-clip edit),
and colours are declared, which it leaves undone. It writes no chapters.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bench import program
from bench.peers import reference
from bench.peers.edits import FPS, Cut, PeerEdit

if TYPE_CHECKING:
    from moviepy import VideoClip

COLOURS = ("-vf", "scale=out_color_matrix=bt709:out_range=tv", *program.BT709)
"""Else ffmpeg would convert its RGB by the matrix of BT.601."""


def lack(edit: PeerEdit) -> str | None:
    """What is missing here for an edit."""
    return reference.lack(edit.network, "moviepy")


def command(edit: PeerEdit, folder: Path, output: Path) -> list[str | Path]:
    """This file as a program."""
    path = edit.write(folder / "edit.json")
    return [reference.python(edit.network), "-m", "bench.peers.moviepy", path, output]


def frames_encoded(folder: Path, output: Path) -> int:  # noqa: ARG001 - the signature of a peer
    """It pipes its frames to one ffmpeg, whose file this is."""
    return int(program.video_facts(output)["nb_read_packets"])


def main(edit: PeerEdit, output: Path) -> None:
    os.environ["FFMPEG_BINARY"] = "ffmpeg"  # MoviePy asks for it when it is imported
    from moviepy import concatenate_videoclips

    enlarge = reference.enlarger(edit) if edit.network else None
    clips = [_shown(edit, cut, enlarge) for cut in edit.cuts]
    film = concatenate_videoclips(list(_pieces(edit, clips)))
    # a sum of float durations may fall short of a whole frame, which would then not be written
    film.with_duration((edit.frame_count + 0.5) / FPS).write_videofile(
        str(output),
        fps=FPS,
        codec="libx264",
        preset="veryfast",
        threads=4,
        audio=False,
        logger=None,
        ffmpeg_params=[*_x264(), *COLOURS, "-movflags", "+faststart"],
    )


def _shown(edit: PeerEdit, cut: Cut, enlarge: Callable[[Any], Any] | None) -> VideoClip:
    """One cut: trimmed, cropped, enlarged, slowed down."""
    from moviepy import VideoFileClip

    width, height = edit.crop.width, edit.crop.height
    clip: VideoClip = VideoFileClip(str(edit.film), audio=False).subclipped(cut.start_s, cut.stop_s)
    if cut.pan_px:

        def cropped(frame_at: Callable[[float], Any], time_s: float) -> Any:
            x = cut.x_px + cut.pan_px * round(time_s * FPS)
            return frame_at(time_s)[cut.y_px : cut.y_px + height, x : x + width]

        clip = clip.transform(cropped)
    else:
        clip = clip.cropped(x1=cut.x_px, y1=cut.y_px, width=width, height=height)
    if enlarge is not None:
        clip = clip.image_transform(lambda rgb: enlarge(rgb[:, :, ::-1])[:, :, ::-1])
    else:
        clip = clip.resized((edit.target.width, edit.target.height))
    return clip.with_speed_scaled(1 / cut.slowed) if cut.slowed != 1 else clip


def _pieces(edit: PeerEdit, clips: list[VideoClip]) -> Iterator[VideoClip]:
    """Stretches of one cut, and between them the dissolves of two."""
    from moviepy import CompositeVideoClip
    from moviepy.video.fx import CrossFadeIn

    for number, clip in enumerate(clips):
        start_s = edit.dissolve_s if number else 0
        if number + 1 == len(clips):
            yield clip.subclipped(start_s)
            continue
        stop_s = clip.duration - edit.dissolve_s
        yield clip.subclipped(start_s, stop_s)
        following = clips[number + 1].subclipped(0, edit.dissolve_s)
        yield CompositeVideoClip(
            [clip.subclipped(stop_s), following.with_effects([CrossFadeIn(edit.dissolve_s)])]
        )


def _x264() -> list[str]:
    """The settings that `write_videofile` does not name itself."""
    words = list(program.X264)
    return [
        word
        for name, value in zip(words[::2], words[1::2], strict=True)
        if name not in ("-c:v", "-preset", "-threads", "-pix_fmt")
        for word in (name, value)
    ]


if __name__ == "__main__":
    main(PeerEdit.read(Path(sys.argv[1])), Path(sys.argv[2]))
