"""A campaign of damaged media: every file ends in a film with the planned frames, or in an error.

    python -m tests.mutated_media --count 10000 --seed 1

Small films of many kinds are damaged at random and exported. Each case has a number, and the seed
and the number make the same file again (`--first N --count 1 --keep FOLDER`). A child process does
the work, so that a crash or a hang is one result and not the end of the campaign.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import selectors
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator
from fractions import Fraction
from pathlib import Path
from typing import IO, Any

LONGEST_CASE_S = 120.0
"""A case that takes longer hangs."""

CASES_PER_CHILD = 250
"""Then the child is replaced: a film in its memory must not hide a leak for ever."""

OUTCOMES = ("film", "refused", "crash", "hang", "foreign error", "wrong film")
GOOD = OUTCOMES[:2]


def originals(folder: Path) -> list[Path]:
    """Whole films of many containers and codecs, each with sound where its container allows it."""
    from tests.clips import numbered_clip

    os.environ.setdefault("SVT_LOG", "0")  # the AV1 encoder would introduce itself
    made = []
    kinds: list[tuple[str, str, dict[str, Any]]] = [
        ("a.mp4", "libx264", {"sound": "bursts", "options": {"bf": "2"}}),
        (
            "fast.mp4",
            "libx264",
            {"sound": "bursts", "container_options": {"movflags": "faststart"}},
        ),
        (
            "frag.mp4",
            "libx264",
            {"sound": "bursts", "container_options": {"movflags": "frag_keyframe+empty_moov"}},
        ),
        ("hevc.mp4", "libx265", {"sound": "bursts", "options": {"x265-params": "log-level=none"}}),
        ("a.mkv", "libx264", {"sound": "bursts", "options": {"bf": "2"}}),
        ("vp9.webm", "libvpx-vp9", {"options": {"lag-in-frames": "0", "cpu-used": "8"}}),
        ("vp8.webm", "libvpx", {}),
        ("av1.mkv", "libsvtav1", {"options": {"preset": "12", "svtav1-params": "lp=1"}}),
        ("a.ts", "libx264", {"sound": "bursts", "options": {"bf": "2"}}),
        ("mpeg2.ts", "mpeg2video", {"sound": "bursts", "options": {"bf": "2"}}),
        ("a.flv", "libx264", {"sound": "bursts"}),
        ("a.avi", "mpeg4", {"options": {"bf": "0"}}),
        ("mjpeg.avi", "mjpeg", {"pix_fmt": "yuvj420p"}),
        ("mjpeg.mov", "mjpeg", {"sound": "bursts", "pix_fmt": "yuvj420p"}),
        ("prores.mov", "prores_ks", {"sound": "bursts", "pix_fmt": "yuv422p10le"}),
        ("444.mp4", "libx264", {"pix_fmt": "yuv444p"}),
        (
            "interlaced.ts",
            "libx264",
            {"sound": "bursts", "options": {"flags": "+ildct+ilme", "x264-params": "tff=1"}},
        ),
        (
            "uneven.mkv",
            "libx264",
            {"sound": "bursts", "pts": [Fraction(n * n + 10 * n, 900) for n in range(30)]},
        ),
    ]
    for name, codec, more in kinds:
        made.append(numbered_clip(folder / name, 30, 25, (64, 48), codec=codec, gop=10, **more))
    return made


def mutated(data: bytes, chance: random.Random) -> bytes:
    """`data` with one to a few faults of the kinds that disks, networks and programs make."""
    changed = bytearray(data)
    for _ in range(chance.choice([1, 1, 1, 2, 5])):
        chance.choice(_FAULTS)(changed, chance)
    return bytes(changed)


def _flip_bits(data: bytearray, chance: random.Random) -> None:
    for _ in range(chance.choice([1, 3, 20, 200])):
        if data:
            data[_place(data, chance)] ^= 1 << chance.randrange(8)


def _set_bytes(data: bytearray, chance: random.Random) -> None:
    """Numbers that programs get wrong: none, one, the largest."""
    at = _place(data, chance)
    value = chance.choice([b"\0", b"\xff", b"\x7f", b"\x80", b"\0\0\0\1", b"\xff" * 4, bytes(8)])
    data[at : at + len(value)] = value[: len(data) - at]


def _cut_off(data: bytearray, chance: random.Random) -> None:
    del data[_place(data, chance) :]


def _lose_piece(data: bytearray, chance: random.Random) -> None:
    at = _place(data, chance)
    del data[at : at + chance.choice([1, 4, 188, 512, 5000])]


def _zero_piece(data: bytearray, chance: random.Random) -> None:
    at = _place(data, chance)
    length = min(chance.choice([4, 188, 512, 4096]), len(data) - at)
    data[at : at + length] = bytes(length)


def _repeat_piece(data: bytearray, chance: random.Random) -> None:
    at, length = _place(data, chance), chance.choice([4, 188, 512, 5000])
    data[at:at] = data[at : at + length]


def _swap_pieces(data: bytearray, chance: random.Random) -> None:
    length = chance.choice([4, 188, 512])
    a, b = sorted((_place(data, chance), _place(data, chance)))
    if a + length <= b and b + length <= len(data):
        data[a : a + length], data[b : b + length] = data[b : b + length], data[a : a + length]


def _end_to_end(data: bytearray, chance: random.Random) -> None:
    data += data[_place(data, chance) :]


_FAULTS: tuple[Callable[[bytearray, random.Random], None], ...] = (
    _flip_bits, _flip_bits, _set_bytes, _set_bytes, _cut_off, _lose_piece, _zero_piece,
    _repeat_piece, _swap_pieces, _end_to_end,
)  # fmt: skip


def _place(data: bytearray, chance: random.Random) -> int:
    """A position; headers and indices at the two ends are hit as often as all the rest."""
    if not data:
        return 0
    where = chance.random()
    edge = min(len(data), 1500)
    if where < 0.3:
        return chance.randrange(edge)
    if where < 0.5:
        return len(data) - 1 - chance.randrange(edge)
    return chance.randrange(len(data))


def case(number: int, seed: int, films: list[Path], folder: Path) -> Path:
    """The file of one case."""
    chance = random.Random(f"{seed}/{number}")
    film = chance.choice(films)
    path = folder / f"{number}-{film.name}"
    path.write_bytes(mutated(film.read_bytes(), chance))
    return path


def outcome(path: Path, folder: Path) -> tuple[str, str]:
    """What becomes of a file: one of `OUTCOMES`, and why."""
    import av

    from engine.errors import EngineError
    from engine.geometry import Size
    from engine.media.encoders import choose_encoder
    from engine.media.probe import probe
    from engine.pipeline.exporter import export
    from engine.timeline.edit import Clip, Edit
    from engine.timeline.plan import build_plan
    from engine.upscale.choice import choose_upscaler

    film = folder / "film.mp4"
    film.unlink(missing_ok=True)
    try:
        source = probe(path)
        stop_s = min(source.duration_s, Fraction(2))
        edit = Edit([Clip(path.name, (), 0, stop_s)], target_fps=25, target_size=Size(32, 32))
        plan = build_plan(edit, [source])
        encoder = choose_encoder(plan.size, plan.fps, name="libx264", preset="ultrafast")
        export(plan, film, upscaler=choose_upscaler("none"), encoder=encoder)
    except EngineError as error:
        readable = str(error)
        if "\n" in readable or len(readable) > 1000:
            return "foreign error", f"unreadable: {readable[:200]!r}"
        return ("wrong film", "an error and a film") if film.exists() else ("refused", readable)
    except Exception as error:
        return "foreign error", f"{type(error).__name__}: {error}"
    with av.open(str(film)) as container:
        frames = sum(1 for _ in container.decode(video=0))
    if frames != plan.frame_count:
        return "wrong film", f"{frames} frames, planned {plan.frame_count}"
    return "film", ""


def _work(seed: int, films: list[Path], keep: Path | None) -> None:
    """The child: reads case numbers, writes outcomes as lines of JSON."""
    with tempfile.TemporaryDirectory() as scratch:
        for line in sys.stdin:
            path = case(int(line), seed, films, keep or Path(scratch))
            found, why = outcome(path, Path(scratch))
            if keep is None:
                path.unlink()
            sys.stdout.write(json.dumps([found, why, path.name]) + "\n")
            sys.stdout.flush()


class _Child:
    """A process that does cases, one at a time."""

    def __init__(self, seed: int, films: Path, keep: Path | None) -> None:
        command = [sys.executable, "-m", "tests.mutated_media", "--child", str(films)]
        command += ["--seed", str(seed), *(["--keep", str(keep)] if keep else [])]
        self._process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL,
            text=True, bufsize=1,
        )  # fmt: skip
        self.done = 0

    def run(self, number: int) -> tuple[str, str]:
        """The outcome of one case. After a crash or a hang the child is dead."""
        assert self._process.stdin and self._process.stdout
        self.done += 1
        try:
            self._process.stdin.write(f"{number}\n")
            if not _readable(self._process.stdout, LONGEST_CASE_S):
                self.end()
                return "hang", f"longer than {LONGEST_CASE_S:g} s"
            line = self._process.stdout.readline()
        except BrokenPipeError:
            line = ""
        if line:
            found, why, name = json.loads(line)
            return found, f"{name}: {why}"
        self._process.wait(10)
        return "crash", f"exit code {self._process.returncode}"

    @property
    def alive(self) -> bool:
        return self._process.poll() is None

    def end(self) -> None:
        self._process.kill()
        self._process.wait(10)
        for pipe in (self._process.stdin, self._process.stdout):
            if pipe:
                pipe.close()


def _readable(stream: IO[str], within_s: float) -> bool:
    with selectors.DefaultSelector() as selector:
        selector.register(stream, selectors.EVENT_READ)
        return bool(selector.select(within_s))


def campaign(
    numbers: range, seed: int, films: Path, keep: Path | None = None
) -> Iterator[tuple[int, str, str]]:
    """The number, outcome and reason of each case. `films` is the folder of the whole films."""
    child: _Child | None = None
    try:
        for number in numbers:
            if child is None or not child.alive or child.done >= CASES_PER_CHILD:
                if child is not None:
                    child.end()
                child = _Child(seed, films, keep)
            yield number, *child.run(number)
    finally:
        if child is not None:
            child.end()


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--count", type=int, default=1000, help="how many cases")
    parser.add_argument("--first", type=int, default=0, help="the first case's number")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--keep", type=Path, help="a folder in which the damaged files stay")
    parser.add_argument("--child", type=Path, help=argparse.SUPPRESS)
    asked = parser.parse_args()
    if asked.child:
        _work(asked.seed, sorted(asked.child.iterdir()), asked.keep)
        return 0
    started_s, counts = time.monotonic(), Counter[str]()
    with tempfile.TemporaryDirectory() as folder:
        originals(Path(folder))
        numbers = range(asked.first, asked.first + asked.count)
        for number, found, why in campaign(numbers, asked.seed, Path(folder), asked.keep):
            counts[found] += 1
            if found not in GOOD:
                sys.stdout.write(f"case {number}: {found}: {why}\n")
            if (number + 1) % 500 == 0:
                sys.stdout.write(f"{number + 1}: {dict(counts)}\n")
            sys.stdout.flush()
    took_s = time.monotonic() - started_s
    table = ", ".join(f"{name} {counts[name]}" for name in OUTCOMES)
    sys.stdout.write(f"seed {asked.seed}, {asked.count} cases in {took_s:.0f} s: {table}\n")
    return int(any(counts[name] for name in OUTCOMES if name not in GOOD))


if __name__ == "__main__":
    sys.exit(main())
