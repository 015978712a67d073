"""SQLite under faults: locked, damaged, exchanged, lost, and asked for by two servers."""

from __future__ import annotations

import shutil
import sqlite3
import time
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

from bench.drill.exports import Exports
from bench.drill.round import Round
from bench.drill.server import Server
from bench.drill.tally import Finding
from bench.drill.witness import check, local_witness

MOST_LOCKED_S = 4
HEAD_BYTES = 4096
"""The first page of the database."""

DATABASE = "framestream.db"


def play(drill: Round) -> None:
    """See the module."""
    data = drill.folder / "data"
    server = Server(drill, data, LOCAL_JOBS="2", MIN_FREE_BYTES="0")
    exports = Exports(drill, server)
    server.start()
    for _ in range(drill.times):
        exports.begin()
        exports.begin()
        time.sleep(drill.chance.uniform(0, 1))
        drill.one_of(
            {
                "database locked": lambda: _locked(drill, data / DATABASE),
                "second server on the folder": lambda: must_refuse(drill, data, str(data)),
                "second server on the database": lambda: _second_server(drill, data),
                "another database at start": lambda: _exchanged(drill, server, _another),
                "empty database at start": lambda: _exchanged(drill, server, _none),
                "damaged database at start": lambda: _exchanged(drill, server, _damaged),
            }
        )
    check(drill, server, exports, local_witness(data))


def _locked(drill: Round, path: Path) -> None:
    """Another connection holds the database."""
    with closing(sqlite3.connect(path, timeout=30, isolation_level=None)) as other:
        other.execute("BEGIN EXCLUSIVE")
        time.sleep(drill.chance.uniform(0.5, MOST_LOCKED_S))
        other.execute("ROLLBACK")


def _second_server(drill: Round, data: Path) -> None:
    """Another data folder, the same database."""
    url = f"sqlite:///{data / DATABASE}"
    must_refuse(drill, drill.folder / "second", DATABASE, DATABASE_URL=url)


def _exchanged(drill: Round, server: Server, put: Callable[[Round, Path], None]) -> None:
    """The server is killed and finds another file at its next start. It refuses, then goes on."""
    server.kill()
    aside = drill.folder / "aside"
    aside.mkdir(exist_ok=True)
    files = list(server.data.glob(f"{DATABASE}*"))
    for path in files:
        path.replace(aside / path.name)
    put(drill, server.data / DATABASE)
    before = _listing(server.data)
    must_refuse(drill, server.data, server.data.name)
    gone = before - _listing(server.data)
    drill.tally.find_all(Finding.LOST, (f"{name}: deleted at a refused start" for name in gone))
    for path in server.data.glob(f"{DATABASE}*"):
        path.unlink()
    for path in files:
        (aside / path.name).replace(path)
    server.start()


def _another(drill: Round, path: Path) -> None:
    """A good database, of another installation."""
    folder = drill.folder / "another"
    other = Server(drill, folder, name="another")
    other.start()
    other.stop()
    shutil.copy2(folder / DATABASE, path)
    shutil.rmtree(folder)


def _none(_: Round, path: Path) -> None:
    """No file at all: SQLite makes an empty one."""
    assert not path.exists()


def _damaged(drill: Round, path: Path) -> None:
    """A copy with noise in its head or in all its tables, or without its end."""
    content = (drill.folder / "aside" / path.name).read_bytes()
    cut = drill.chance.choice((HEAD_BYTES, len(content) // 2))
    noise = drill.chance.randbytes(len(content) - HEAD_BYTES)
    damaged = (
        drill.chance.randbytes(HEAD_BYTES) + content[HEAD_BYTES:],
        content[:HEAD_BYTES] + noise,
        content[:cut],
    )
    path.write_bytes(drill.chance.choice(damaged))


def must_refuse(drill: Round, data: Path, name: str, **environment: str) -> None:
    """A server that is started there says in one line why it does not, and names that."""
    said = Server(drill, data, name="refused", **environment).refusal().strip()
    if len(said.splitlines()) != 1 or not said.startswith("error ") or name not in said:
        told = said.splitlines()[-1:] if said else "nothing, it started"
        drill.tally.find(Finding.BROKEN, f"a start that must be refused in a line said {told}")


def _listing(data: Path) -> set[str]:
    """The files that nobody but a job or an upload may delete."""
    kept = (path for name in ("work", "uploads", "store") for path in (data / name).rglob("*"))
    return {str(path.relative_to(data)) for path in kept if path.is_file()}
