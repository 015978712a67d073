"""The step-by-step pipeline that exports of this kind are usually made of.

    python -m bench.peers.stepwise EDIT.json OUT.mp4 WORK_FOLDER [ENCODER_OPTION ...]

Per clip: OpenCV reads frames, each is cropped and resized (or enlarged by `RealESRGANer.enhance`,
one at a time) and piped raw to ffmpeg, which encodes the clip. A second ffmpeg decodes the clips,
dissolves and encodes again. A third copies that with chapters. Files of a step stay until all is
done.
"""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import IO, Any

from bench import program
from bench.peers import reference
from bench.peers.edits import FPS, Cut, PeerEdit
from bench.peers.ffmpeg import dissolving

ENCODER = (*program.X264, *program.BT709)


def lack(edit: PeerEdit) -> str | None:
    """What is missing here for an edit."""
    return reference.lack(edit.network, "cv2")


def command(
    edit: PeerEdit, folder: Path, output: Path, *, encoder: Sequence[str] = ENCODER
) -> list[str | Path]:
    """This file as a program."""
    path = edit.write(folder / "edit.json")
    return [
        *(reference.python(edit.network), "-m", "bench.peers.stepwise", path, output, folder),
        *encoder,
    ]


def frames_encoded(folder: Path, output: Path) -> int:  # noqa: ARG001 - the signature of a peer
    """By the progress reports of every ffmpeg that encoded."""
    return sum(program.frames_encoded(path) for path in folder.glob("*.progress"))


def main(edit: PeerEdit, output: Path, folder: Path, encoder: Sequence[str]) -> None:
    enlarge = _enlarger(edit)
    clips = []
    for number, cut in enumerate(edit.cuts):
        clips.append(folder / f"clip{number}.mp4")
        _write_clip(edit, cut, enlarge, clips[-1], encoder)
    joined = clips[0]
    if len(clips) > 1:
        joined = _dissolved(edit, clips, folder / "joined.mp4", encoder)
    chapters = folder / "chapters.txt"
    chapters.write_text(edit.chapters())
    _ffmpeg("-i", joined, "-i", chapters, "-map_metadata", "1", "-map_chapters", "1",
            "-c", "copy", "-movflags", "+faststart", output)  # fmt: skip


def _enlarger(edit: PeerEdit) -> Callable[[Any], Any]:
    import cv2

    if edit.network:
        return reference.enlarger(edit)
    size = (edit.target.width, edit.target.height)
    return lambda crop: cv2.resize(crop, size, interpolation=cv2.INTER_CUBIC)


def _write_clip(
    edit: PeerEdit, cut: Cut, enlarge: Callable[[Any], Any], path: Path, encoder: Sequence[str]
) -> None:
    size = f"{edit.target.width}x{edit.target.height}"
    slowly = f"setpts={cut.slowed}*PTS,fps={FPS}," if cut.slowed != 1 else ""
    process = _started(
        *("-f", "rawvideo", "-pix_fmt", "bgr24", "-s", size, "-r", f"{FPS}", "-i", "-"),
        *("-vf", f"{slowly}scale=out_color_matrix=bt709:out_range=tv"),
        *encoder,
        path,
        progress=path.with_suffix(".progress"),
    )
    assert process.stdin
    with process.stdin as pipe:
        for crop in _crops(edit, cut):
            _send(enlarge(crop), pipe)
    if process.wait() != 0:
        raise RuntimeError(f"ffmpeg failed to write {path}")


def _crops(edit: PeerEdit, cut: Cut) -> Iterator[Any]:
    """The crop of each frame, as OpenCV reads them: BGR, shape (height, width, 3)."""
    import cv2

    film = cv2.VideoCapture(str(edit.film))
    film.set(cv2.CAP_PROP_POS_FRAMES, cut.start_frame)
    for number in range(cut.start_frame, cut.stop_frame):
        read, frame = film.read()
        if not read:
            raise RuntimeError(f"OpenCV has no frame {number} of {edit.film}")
        x = cut.x_at(number)
        yield frame[cut.y_px : cut.y_px + edit.crop.height, x : x + edit.crop.width]
    film.release()


def _send(picture: Any, pipe: IO[bytes]) -> None:
    pipe.write(picture.tobytes())


def _dissolved(edit: PeerEdit, clips: Sequence[Path], path: Path, encoder: Sequence[str]) -> Path:
    inputs = [word for clip in clips for word in ("-i", str(clip))]
    graph = dissolving(edit, [f"{number}:v" for number in range(len(clips))])
    _ffmpeg(
        *(*inputs, "-filter_complex", graph, "-map", "[out]"),
        *encoder,
        path,
        progress=path.with_suffix(".progress"),
    )
    return path


def _ffmpeg(*arguments: str | Path, progress: Path | None = None) -> None:
    process = _started(*arguments, progress=progress)
    if process.wait() != 0:
        raise RuntimeError(f"ffmpeg failed to write {arguments[-1]}")


def _started(*arguments: str | Path, progress: Path | None) -> subprocess.Popen[bytes]:
    told = () if progress is None else ("-progress", progress)
    return subprocess.Popen(
        ["ffmpeg", "-v", "error", "-y", *told, *arguments], stdin=subprocess.PIPE
    )


if __name__ == "__main__":
    main(PeerEdit.read(Path(sys.argv[1])), Path(sys.argv[2]), Path(sys.argv[3]), sys.argv[4:])
