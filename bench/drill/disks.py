"""Disks that are full for a while: the data folder's, the database's, and those of caches."""

from __future__ import annotations

import time
from contextlib import suppress
from pathlib import Path

from bench.drill.commands import check_command, finish, new_film
from bench.drill.databases import must_refuse
from bench.drill.exports import Exports
from bench.drill.round import Round, run
from bench.drill.server import Server
from bench.drill.witness import check, local_witness
from tests.disks import fill, small_disk

DISK_BYTES = 24 << 20
MIN_FREE_BYTES = 256 << 10
"""Small, so that the disk gets full in the middle of something, and not only at its beginning."""

NO_ROOM = r"(?i)space|room|full"
"""What an error says where a job failed because the disk is full."""

MOST_FULL_S = 3


def play(drill: Round) -> None:
    """The data folder's disk is full, or the database's alone."""
    with (
        small_disk(drill.folder / "disk", DISK_BYTES) as disk,
        small_disk(drill.folder / "database", DISK_BYTES) as database_disk,
    ):
        database = database_disk / "framestream.db"
        server = Server(
            drill,
            disk / "data",
            DATABASE_URL=f"sqlite:///{database}",
            MIN_FREE_BYTES=str(MIN_FREE_BYTES),
            LOCAL_JOBS="2",
            MAX_ATTEMPTS="3",
        )
        exports = Exports(drill, server, may_fail=NO_ROOM)
        server.start()
        for _ in range(drill.times):
            exports.begin()
            exports.begin()
            time.sleep(drill.chance.uniform(0, 1.5))
            drill.one_of(
                {
                    "data folder full": lambda: _full_for_a_while(drill, disk),
                    "database full": lambda: _full_for_a_while(drill, database_disk),
                    "database read-only at start": lambda: _read_only(drill, server, database),
                }
            )
        check(drill, server, exports, local_witness(disk / "data", database))


def play_caches(drill: Round) -> None:
    """The folders of caches and of temporary files are full, for the server and for a command."""
    with small_disk(drill.folder / "cache", 1 << 20) as disk:
        fill(disk)
        full = {
            "TMPDIR": str(disk),
            "XDG_CACHE_HOME": str(disk / "user"),
            "FRAMESTREAM_CACHE_DIR": str(disk / "chunks"),
        }
        drill.tally.injected("caches full")
        film = new_film(drill, "film", 3)
        finish(drill, film, **full)
        check_command(drill, film)
        server = Server(drill, drill.folder / "data", **full)
        exports = Exports(drill, server)
        server.start()
        for _ in range(2):
            exports.begin()
        check(drill, server, exports, local_witness(server.data))


def _full_for_a_while(drill: Round, disk: Path) -> None:
    """Fills a disk but for some bytes, by chance none, and frees it again."""
    free_bytes = drill.chance.choice((0, 0, 4096, 65_536, 300_000))
    with suppress(OSError):  # the server fills it, too
        fill(disk, free_bytes)
    time.sleep(drill.chance.uniform(0.2, MOST_FULL_S))
    (disk / "ballast").unlink()


def _read_only(drill: Round, server: Server, database: Path) -> None:
    """The server is killed, and must not start while it cannot write its database."""
    server.kill()
    run("mount", "-o", "remount,ro", database.parent)
    must_refuse(drill, server.data, database.name, DATABASE_URL=f"sqlite:///{database}")
    run("mount", "-o", "remount,rw", database.parent)
    server.start()
