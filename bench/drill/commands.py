"""`framestream render`, killed at any moment and given again, with several at once on one cache."""

from __future__ import annotations

import json
import signal
import subprocess
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from random import Random

from bench.drill.round import Round
from bench.drill.server import PROGRAM
from bench.drill.tally import Finding
from bench.drill.witness import check_end, wrong_film

AT_ONCE = 3
RUN_S = 60
SIGNALS = (signal.SIGKILL, signal.SIGKILL, signal.SIGTERM, signal.SIGINT)


@dataclass(frozen=True, slots=True)
class Film:
    """One command's edit and output, in a folder of its own."""

    folder: Path
    clips: tuple[Path, ...]

    @property
    def output(self) -> Path:
        return self.folder / "out.mp4"

    @property
    def numbers(self) -> list[int]:
        """The numbers of its frames."""
        return [number for clip in self.clips for number in range(int(clip.stem))]

    def start(self, drill: Round, *options: str, **environment: str) -> subprocess.Popen[bytes]:
        """Starts the command."""
        edit = self.folder / "edit.json"
        clips = [{"fileName": str(clip)} for clip in self.clips]
        edit.write_text(json.dumps({"clips": clips, "targetWidth": 320, "targetHeight": 320}))
        with drill.log(self.folder.name).open("ab") as log:
            return subprocess.Popen(
                [*PROGRAM, "render", edit, "-o", self.output, "--quiet", *options],
                stdout=log,
                stderr=log,
                env=drill.environment(**environment),
                start_new_session=True,
            )


def new_film(drill: Round, name: str, clips: int) -> Film:
    """A film of so many clips, by chance."""
    folder = drill.folder / name
    folder.mkdir()
    return Film(folder, tuple(drill.chance.choices(drill.clips, k=clips)))


def play(drill: Round) -> None:
    """See the module."""
    cache = drill.folder / "cache" / "chunks"
    films = [new_film(drill, f"film-{number}", 4) for number in range(AT_ONCE)]
    chances = [Random(drill.chance.random()) for _ in films]
    with ThreadPoolExecutor(AT_ONCE) as pool:
        list(pool.map(lambda film, chance: _cut_short(drill, film, chance, cache), films, chances))
    for film in films:
        check_command(drill, film)
    for path in drill.folder.rglob("*.partial"):
        drill.tally.find(Finding.LEFT_OVER, f"the file {path.relative_to(drill.folder)}")
    check_end(drill)


def _cut_short(drill: Round, film: Film, chance: Random, cache: Path) -> None:
    """Runs a command, kills it some times, and lets it end."""
    workers = chance.choice((("1",), ("2",), ("2", "--processes")))
    options = ("--cache", str(cache), "--workers", *workers)
    for _ in range(drill.times):
        process = film.start(drill, *options)
        time.sleep(chance.uniform(0.5, 3))
        how = chance.choice(SIGNALS)
        if process.poll() is None:
            drill.tally.injected(f"command ended by {how.name}")
            process.send_signal(how)
        process.wait(RUN_S)
    finish(drill, film, *options)


def finish(drill: Round, film: Film, *options: str, **environment: str) -> None:
    """Runs a command to its end, which must be a good one."""
    drill.tally.accepted += 1
    code = film.start(drill, *options, **environment).wait(RUN_S)
    if code == 0:
        drill.tally.done += 1
    else:
        said = drill.log(film.folder.name).read_text().strip().splitlines()
        drill.tally.find(Finding.LOST, f"{film.folder.name} ended with {code}: {said[-1:]}")


def check_command(drill: Round, film: Film) -> None:
    """The film is right, and the folder holds nothing else."""
    if not film.output.exists():
        return
    if wrong := wrong_film(film.output, film.numbers):
        drill.tally.find(Finding.LOST, f"{film.folder.name}: {wrong}")
    for path in film.folder.iterdir():
        if path.name not in ("edit.json", "out.mp4", "report.json"):
            drill.tally.find(Finding.LEFT_OVER, f"{film.folder.name}: {path.name}")
