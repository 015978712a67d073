"""What independent programs say after a round: films, rows, files, processes and logs.

It shares no code with the server. ffmpeg decodes the films, and sqlite3 or psql reads the rows.
"""

from __future__ import annotations

import os
import sqlite3
import time
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Iterator
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

from bench.drill.exports import Export, Exports
from bench.drill.round import Round
from bench.drill.server import USER, Server
from bench.drill.tally import Finding
from tests.clips import read_number
from tests.witness import luma_frames

CLEARED_WITHIN_S = 20
INCOMING = ".incoming"
"""The store's folder of unfinished files."""

KEPT = "cache/"
"""Objects that stay on purpose: chunks that other exports may use."""

Rows = list[tuple[str, ...]]


@dataclass(frozen=True, slots=True)
class Witness:
    """How a server's data folder, database and store are read without it."""

    data: Path
    query: Callable[[str], Rows]
    """The rows of an SQL statement, as texts."""
    objects: Callable[[], list[str]]
    """The keys of all objects in the store."""


def local_witness(data: Path, database: Path | None = None) -> Witness:
    """Of an SQLite database, in the data folder by default, and a store in the data folder."""
    path = database or data / "framestream.db"
    return Witness(data, lambda statement: sqlite_rows(path, statement), lambda: stored_in(data))


def sqlite_rows(path: Path, statement: str) -> Rows:
    """The rows of a statement, as texts."""
    with closing(sqlite3.connect(path, timeout=30)) as database:
        return [tuple(map(str, row)) for row in database.execute(statement)]


def stored_in(data: Path) -> list[str]:
    """The keys of the objects in the data folder's store."""
    store = data / "store"
    files = (path for path in store.rglob("*") if path.is_file())
    keys = (path.relative_to(store) for path in files)
    return [key.as_posix() for key in keys if INCOMING not in key.parts]


def check(drill: Round, server: Server, exports: Exports, witness: Witness) -> None:
    """Puts every promise to the proof, with the server running. Stops it at the end.

    What a killed upload leaves may be there for a day. So a day passes for its files.
    """
    exports.settle()
    for export in exports.sent:
        check_film(drill, server, export)
    check_rows(drill, witness, [export.name for export in exports.sent])
    left = _once_cleared(lambda: left_over(witness))
    server.stop()
    for folder in (witness.data / "work", witness.data / "uploads"):
        _let_a_day_pass(folder)
    server.start()
    left += _once_cleared(lambda: left_over_later(witness.data))
    server.stop()
    drill.tally.find_all(Finding.LEFT_OVER, left)
    check_end(drill)


def check_end(drill: Round) -> None:
    """After all programs have ended: no process is left, and no log holds a secret."""
    until_s = time.monotonic() + CLEARED_WITHIN_S
    while (alive := drill.processes()) and time.monotonic() < until_s:
        time.sleep(0.05)
    drill.tally.find_all(Finding.LEFT_OVER, (f"process {each}" for each in alive))
    drill.kill_all()
    drill.check_logs()


def check_film(drill: Round, server: Server, export: Export) -> None:
    """Downloads a film and reads the numbers that are painted into its frames."""
    answer = server.client.get(f"/api/exports/{export.name}/download", follow_redirects=True)
    if not answer.is_success:
        drill.tally.find(Finding.LOST, f"{export.name}: its film is {answer.status_code}")
        return
    path = drill.folder / "film.mp4"
    path.write_bytes(answer.content)
    wrong = wrong_film(path, export.numbers)
    if wrong:
        drill.tally.find(Finding.LOST, f"{export.name}: {wrong}")


def wrong_film(path: Path, numbers: list[int]) -> str:
    """What is wrong with a film that must show these frames. Empty if it is right."""
    try:
        seen = [read_number(luma) for luma in luma_frames(path)]
    except (AssertionError, ValueError, StopIteration) as error:
        return f"is no film: {error}"
    return "" if seen == numbers else f"shows {len(seen)} frames, and others than it must"


def _once_cleared(left_over: Callable[[], Iterable[str]]) -> list[str]:
    """What is left over, once nothing is or the time is up."""
    until_s = time.monotonic() + CLEARED_WITHIN_S
    while (left := list(left_over())) and time.monotonic() < until_s:
        time.sleep(0.05)
    return left


def left_over(witness: Witness) -> Iterator[str]:
    """What no job and no upload needs any more."""
    data, query = witness.data, witness.query
    for name, folder in query("SELECT id, folder FROM export_jobs"):
        if (data / "work" / folder).exists():
            yield f"the work folder of {name}"
    incoming = data / "store" / INCOMING
    yield from (f"the unfinished {path.name}" for path in incoming.glob("*") if path.name != "lock")
    wanted = {key for (key,) in query("SELECT output_key FROM export_jobs")}
    stored = (key for key in witness.objects() if not key.startswith(KEPT))
    yield from (f"the object {key}" for key in stored if key not in wanted)
    yield from (f"the task {kind}" for (kind,) in query("SELECT kind FROM outside_tasks"))
    marked = query("SELECT id FROM export_jobs WHERE leftovers AND status = 'done'")
    yield from (f"the mark of leftovers of {name}" for (name,) in marked)


def left_over_later(data: Path) -> Iterator[str]:
    """What nothing needs after another start, a day later."""
    yield from (f"the file {path.relative_to(data)}" for path in data.rglob("*.partial"))
    yield from (f"the work folder {path.name}" for path in (data / "work").glob("*"))
    yield from (f"the upload {path}" for path in (data / "uploads").rglob("*") if path.is_file())


def _let_a_day_pass(folder: Path) -> None:
    """Makes files and folders 25 hours older."""
    for path in [*folder.rglob("*")]:
        then_s = path.stat().st_mtime - 25 * 3600
        os.utime(path, (then_s, then_s))


def check_rows(drill: Round, witness: Witness, names: list[str]) -> None:
    """One film for each export, in the store and in the database; projects show the newest."""
    tally, stored = drill.tally, Counter(witness.objects())
    jobs = witness.query(f"SELECT id, output_key FROM export_jobs WHERE user_id = '{USER}'")
    keys = {name: key for name, key in jobs if key}
    videos = witness.query("SELECT id, project_id, version, key FROM working_videos")
    rows = Counter(key for *_, key in videos)
    for name in names:
        key = keys.get(name, "")
        tally.find_all(Finding.LOST, [f"{name}: no row"] if not key else [])
        tally.find_all(Finding.LOST, [f"{name}: not in the store"] if not stored[key] else [])
        tally.find_all(Finding.LOST, [f"{name}: no video's row"] if not rows[key] else [])
    tally.find_all(Finding.DOUBLE, (f"{key}: {rows[key]} rows" for key in rows if rows[key] > 1))
    extra = set(rows) - {keys.get(name) for name in names}
    tally.find_all(Finding.DOUBLE, (f"{key}: a row of no export" for key in extra))
    versions: dict[str, dict[int, str]] = defaultdict(dict)
    for number, project, version, _ in videos:
        versions[project][int(version)] = number
    shown = witness.query("SELECT id, working_video_id FROM projects")
    newest = {project: number for project, number in shown if number}
    for project, found in versions.items():
        if sorted(found) != list(range(1, len(found) + 1)):
            tally.find(Finding.BROKEN, f"project {project} has the versions {sorted(found)}")
        if newest.get(project) != found[max(found)]:
            tally.find(Finding.BROKEN, f"project {project} does not show its newest video")
