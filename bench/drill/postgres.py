"""PostgreSQL under faults: stopped for a while, its connections killed, gone at a start."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest

from bench.drill.databases import must_refuse
from bench.drill.exports import Exports
from bench.drill.round import Round, run
from bench.drill.server import Server
from bench.drill.witness import Rows, Witness, check, stored_in

MOST_DOWN_S = 4
PASSWORD = "drill-5d1c7e88"
NOBODY = "nobody"
"""PostgreSQL does not run as root."""


@dataclass(frozen=True, slots=True)
class Postgres:
    """A PostgreSQL of its own on a free port of loopback."""

    folder: Path
    port: int
    user: str | None

    @property
    def url(self) -> str:
        """For the server."""
        return f"postgresql+psycopg://drill:{PASSWORD}@127.0.0.1:{self.port}/postgres"

    def start(self) -> None:
        """Returns once it answers."""
        options = f"-p {self.port} -c listen_addresses=127.0.0.1 -c fsync=off -k {self.folder}"
        self._pg_ctl("start", "-w", "-o", options, "-l", self.folder / "log")

    def stop(self, how: str = "fast") -> None:
        """Stops it: `fast` ends its sessions, `immediate` is a crash."""
        self._pg_ctl("stop", "-m", how)

    def query(self, statement: str) -> Rows:
        """The rows of a statement, as texts."""
        said = subprocess.run(
            ["psql", "-X", "-A", "-t", "-F", "\t", "-h", "127.0.0.1", "-p", str(self.port),
             "-U", "drill", "-d", "postgres", "-c", statement],
            env=os.environ | {"PGPASSWORD": PASSWORD},
            check=True, capture_output=True, text=True, timeout=60,
        ).stdout  # fmt: skip
        return [tuple(line.split("\t")) for line in said.splitlines() if line]

    def kill_connections(self) -> None:
        """Ends every session but this one."""
        self.query(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE pid <> pg_backend_pid()"
        )

    def _pg_ctl(self, *words: str | Path) -> None:
        run("pg_ctl", "-D", self.folder / "data", *words, user=self.user)


@contextmanager
def postgres_in(folder: Path) -> Iterator[Postgres]:
    """A new one that runs until the block ends. Skips the scenario where it is not installed."""
    if missing := [name for name in ("initdb", "pg_ctl", "psql") if shutil.which(name) is None]:
        pytest.skip(f"there is no {missing[0]} program")
    folder.mkdir()
    user = NOBODY if os.getuid() == 0 else None
    if user:
        shutil.chown(folder, user)
    password = folder / "password"
    password.write_text(PASSWORD)
    password.chmod(0o644)
    run("initdb", "-D", folder / "data", "-U", "drill", "-A", "scram-sha-256", "-N",
        "--pwfile", password, user=user)  # fmt: skip
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        postgres = Postgres(folder, free.getsockname()[1], user)
    postgres.start()
    try:
        yield postgres
    finally:
        postgres.stop("immediate")


def play(drill: Round) -> None:
    """See the module."""
    with postgres_in(drill.folder / "postgres") as postgres:
        drill.secrets["database password"] = PASSWORD.encode()
        server = Server(
            drill, drill.folder / "data", DATABASE_URL=postgres.url, LOCAL_JOBS="2",
            MIN_FREE_BYTES="0",
        )  # fmt: skip
        exports = Exports(drill, server)
        server.start()
        for _ in range(drill.times):
            exports.begin()
            exports.begin()
            time.sleep(drill.chance.uniform(0, 1.5))
            drill.one_of(
                {
                    "database stopped": lambda: _down(drill, postgres, "fast"),
                    "database killed": lambda: _down(drill, postgres, "immediate"),
                    "connections killed": postgres.kill_connections,
                    "second server on the database": lambda: must_refuse(
                        drill, drill.folder / "second", "postgres", DATABASE_URL=postgres.url
                    ),
                    "no database at start": lambda: _down_at_start(drill, postgres, server),
                }
            )
        data = server.data
        check(drill, server, exports, Witness(data, postgres.query, lambda: stored_in(data)))


def _down(drill: Round, postgres: Postgres, how: str) -> None:
    postgres.stop(how)
    time.sleep(drill.chance.uniform(0, MOST_DOWN_S))
    postgres.start()


def _down_at_start(drill: Round, postgres: Postgres, server: Server) -> None:
    server.kill()
    postgres.stop()
    must_refuse(drill, server.data, "postgres", DATABASE_URL=postgres.url)
    postgres.start()
    server.start()
