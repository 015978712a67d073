"""A spell of faults: what a proxy or a stand-in does wrong for a while."""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping
from random import Random
from typing import Any, TypeVar

from bench.drill.round import Round

F = TypeVar("F")


def spell(
    drill: Round,
    faults: Mapping[str, Callable[[Random], F]],
    *,
    down: tuple[str, Callable[[], F]],
    down_share: float,
) -> Callable[..., F | None]:
    """What befalls each request: a fault, or none.

    `down_share` of the spells let nothing through: `down` names that fault and makes it. The others
    have some of `faults`, by chance.
    """
    chance, lock = Random(drill.chance.random()), threading.Lock()
    is_down = chance.random() < down_share
    share = chance.uniform(0.2, 0.6)

    def fault(*_: Any) -> F | None:
        with lock:
            if is_down:
                name, made = down
                drill.tally.injected(name)
                return made()
            if chance.random() > share:
                return None
            name = chance.choice(list(faults))
            drill.tally.injected(name)
            return faults[name](chance)

    return fault
