"""Exports on Modal with a control plane that cannot be reached, is slow and loses responses.

The server's own Modal client talks to a stand-in on loopback (`tests/modal_functions`), which runs
the real functions in threads of this process.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import closing, contextmanager
from pathlib import Path
from random import Random

import pytest

from bench.drill.exports import Exports
from bench.drill.round import MODAL_TOKEN, Round
from bench.drill.server import Server
from bench.drill.spell import spell
from bench.drill.stores import faulty_bucket, keys_in, variables
from bench.drill.tally import Finding
from bench.drill.witness import CLEARED_WITHIN_S, Witness, check, sqlite_rows
from tests.modal_functions.control_plane import (
    ControlPlane,
    Down,
    Fault,
    Lose,
    Slow,
    close_clients,
    serving,
)
from tests.modal_functions.world import World

MOST_SPELL_S = 5
DOWN_SHARE = 0.4
"""How many of the spells are those in which nothing gets through."""

REFUSED = r"(?i)modal|call|lost|reach"
"""What an error says where a job failed because Modal did."""

FAULTS: Mapping[str, Callable[[Random], Fault]] = {
    "request refused": lambda _: Down(),
    "response lost": lambda _: Lose(),
    "response late": lambda chance: Slow(chance.uniform(0.1, 1)),
}


@contextmanager
def _control_plane(address: str, log: Path) -> Iterator[ControlPlane]:
    """The app deployed to a control plane, with containers that find the bucket."""
    with (
        pytest.MonkeyPatch.context() as patch,
        closing(logging.FileHandler(log)) as said,
        serving() as plane,
    ):
        patch.setattr(logging.root, "handlers", [said])
        patch.setenv("MODAL_SERVER_URL", plane.url)
        for name, value in MODAL_TOKEN.items():
            patch.setenv(name, value)
        World.made(address, plane, patch)
        yield plane
        plane.forget()
        close_clients()


def play(drill: Round) -> None:
    """See the module."""
    log = drill.log("containers")
    with faulty_bucket(drill) as (_, bucket, address), _control_plane(address, log) as plane:
        data = drill.folder / "data"
        server = Server(
            drill, data, MODAL_ENABLED="true", MODAL_SERVER_URL=plane.url, MODAL_JOBS="2",
            MIN_FREE_BYTES="0", MAX_ATTEMPTS="5", **variables(bucket),
        )  # fmt: skip
        exports = Exports(drill, server, may_fail=REFUSED)
        server.start()
        for _ in range(drill.times):
            exports.begin()
            last = exports.begin()
            time.sleep(drill.chance.uniform(0, 3))
            plane.fault = spell(
                drill, FAULTS, down=("Modal out of reach", Down), down_share=DOWN_SHARE
            )
            if drill.chance.random() < 0.4:
                exports.cancel(last)
            time.sleep(drill.chance.uniform(0.5, MOST_SPELL_S))
            if drill.chance.random() < 0.4:
                drill.tally.injected("server killed while Modal fails")
                server.kill()
                server.start()
            plane.fault = lambda _, __: None
        witness = Witness(
            data,
            lambda statement: sqlite_rows(data / "framestream.db", statement),
            lambda: keys_in(address, bucket),
        )
        check(drill, server, exports, witness)
        _check_calls(drill, plane)


def _check_calls(drill: Round, plane: ControlPlane) -> None:
    """No call goes on that nobody waits for."""
    until_s = time.monotonic() + CLEARED_WITHIN_S
    while time.monotonic() < until_s and any(call.unfinished for call in plane.calls.values()):
        time.sleep(0.05)
    going_on = (call for call in plane.calls.values() if call.unfinished)
    drill.tally.find_all(Finding.LEFT_OVER, (f"a call of {call.function}" for call in going_on))
