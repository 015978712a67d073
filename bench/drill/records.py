"""Damage to finished chunks and their records, beside an output and in a cache, before a rerun."""

from __future__ import annotations

import json
import shutil
import signal
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from random import Random

from bench.drill.commands import Film, check_command, finish, new_film
from bench.drill.round import Round
from bench.drill.tally import Finding
from bench.drill.witness import check_end

CLIPS = 6
DAMAGED = 3
"""How many files are damaged before each rerun."""
SEEN_S = 30


def play(drill: Round) -> None:
    """See the module."""
    film = new_film(drill, "film", CLIPS)
    cache = drill.folder / "cache" / "chunks"
    report = film.folder / "report.json"
    options = ("--cache", str(cache), "--report", str(report))
    finish(drill, film, *options)
    right = _frame_hashes(report)
    for _ in range(drill.times):
        film.output.unlink()
        if drill.chance.random() < 0.5:
            shutil.rmtree(cache)
            _cut_short(film, drill, *options)
        _damage_some(drill, film, cache)
        finish(drill, film, *options)
        check_command(drill, film)
        if film.output.exists() and _frame_hashes(report) != right:
            drill.tally.find(Finding.LOST, "the report holds another hash of the frames")
    check_end(drill)


def _cut_short(film: Film, drill: Round, *options: str) -> None:
    """Kills the command once it has finished some chunks."""
    process = film.start(drill, *options)
    until_s = time.monotonic() + SEEN_S
    while process.poll() is None and time.monotonic() < until_s:
        if len(list(film.folder.glob("out.mp4.parts/*.json"))) >= 2:
            break
        time.sleep(0.001)
    process.send_signal(signal.SIGKILL)
    process.wait()


def _damage_some(drill: Round, film: Film, cache: Path) -> None:
    files = sorted(
        path
        for folder in (film.folder / "out.mp4.parts", cache)
        for path in folder.rglob("*")
        if path.suffix in (".json", ".mp4", ".m4a")
    )
    for path in drill.chance.sample(files, min(DAMAGED, len(files))):
        name = drill.chance.choice([each for each in DAMAGES if path.suffix in DAMAGES[each][0]])
        drill.tally.injected(f"{name} in a {'record' if path.suffix == '.json' else 'file'}")
        path.write_bytes(DAMAGES[name][1](path.read_bytes(), drill.chance))


def _bit_flipped(data: bytes, chance: Random) -> bytes:
    changed = bytearray(data)
    changed[chance.randrange(len(changed))] ^= 1 << chance.randrange(8)
    return bytes(changed)


def _cut_off(data: bytes, chance: Random) -> bytes:
    return data[: chance.randrange(len(data))]


def _nested(_: bytes, chance: Random) -> bytes:
    depth = chance.choice((500, 5_000, 200_000))
    return b'{"a":' * depth + b"1" + b"}" * depth


def _digit_changed(data: bytes, chance: Random) -> bytes:
    """Still JSON, with another value in one of its fields."""
    record = json.loads(data)
    name = chance.choice([each for each, value in record.items() if isinstance(value, str | int)])
    value = record[name]
    record[name] = value + 1 if isinstance(value, int) else value[:-1] + "0" * (value[-1:] != "0")
    return json.dumps(record).encode()


JSON, ANY = (".json",), (".json", ".mp4", ".m4a")
DAMAGES: Mapping[str, tuple[tuple[str, ...], Callable[[bytes, Random], bytes]]] = {
    "a bit flipped": (ANY, _bit_flipped),
    "cut off": (ANY, _cut_off),
    "nested deeply": (JSON, _nested),
    "a value changed": (JSON, _digit_changed),
}
"""By name: the files it is for, and what it makes of their content."""


def _frame_hashes(report: Path) -> list[str]:
    """The hash of the frames of every chunk, as the report tells."""
    return [chunk["frame_hash"] for chunk in json.loads(report.read_text())["chunks"]]
