"""How many containers an export is worth, how long it takes in them and what that costs.

Arithmetic only. The caller gives every speed, price and delay, and says where it is from. Chunks
are independent, and any container renders any of them. So the longest go first, each to the
container that is free first (R. L. Graham, "Bounds on multiprocessing timing anomalies", 1969: at
most 4/3 of the best possible time).
"""

from __future__ import annotations

import heapq
import math
from collections.abc import Sequence
from dataclasses import dataclass

MOST_STARTUP_SHARE = 0.15
"""Up to this share of a container's work, its start is worth it."""


@dataclass(frozen=True, slots=True)
class Costs:
    """What containers cost, in seconds and in money."""

    startup_s: float
    """Of each container, until it renders: cold start, imports, model, opening the sources."""
    serial_s: float
    """Of the orchestrator, before and after the chunks: plan, join, publish."""
    idle_s: float
    """Of each container after its last chunk, until it is taken away; billed."""
    usd_per_container_s: float
    usd_per_orchestrator_s: float
    """It waits, and is billed, from the beginning to the end."""


@dataclass(frozen=True, slots=True)
class Prediction:
    """An export in a number of containers."""

    containers: int
    wall_s: float
    billed_s: float
    """Of all containers together, without the orchestrator."""
    cost_usd: float
    startup_share: float
    """Start-up over work, for the container that has the least to do."""


@dataclass(frozen=True, slots=True)
class Decision:
    """A number of containers, and why not one more."""

    containers: int
    why: str


def longest_first(lengths: Sequence[float]) -> list[int]:
    """The order in which to start independent jobs. Equal ones keep their order."""
    return sorted(range(len(lengths)), key=lambda index: -lengths[index])


def assigned(work_s: Sequence[float], containers: int) -> list[list[int]]:
    """Which chunks each container renders, in order. The first free one takes the longest chunk."""
    if containers < 1:
        raise ValueError(f"chunks cannot be rendered in {containers} containers")
    free = [(0.0, container) for container in range(containers)]
    chunks: list[list[int]] = [[] for _ in range(containers)]
    for chunk in longest_first(work_s):
        busy_s, container = free[0]
        heapq.heapreplace(free, (busy_s + work_s[chunk], container))
        chunks[container].append(chunk)
    return chunks


def loads_s(work_s: Sequence[float], containers: int) -> list[float]:
    """How long each container works, start-up left out."""
    return [math.fsum(work_s[chunk] for chunk in each) for each in assigned(work_s, containers)]


def predict(work_s: Sequence[float], containers: int, costs: Costs) -> Prediction:
    """How long an export takes whose chunks take `work_s`, all containers started at once.

    A container for which no chunk is left is not started.
    """
    loads = loads_s(work_s, min(containers, max(1, len(work_s))))
    billed_s = math.fsum(costs.startup_s + load + costs.idle_s for load in loads)
    wall_s = costs.serial_s + costs.startup_s + max(loads)
    return Prediction(
        containers=len(loads),
        wall_s=wall_s,
        billed_s=billed_s,
        cost_usd=billed_s * costs.usd_per_container_s + wall_s * costs.usd_per_orchestrator_s,
        startup_share=_share(costs.startup_s, min(loads)),
    )


def decide(
    work_s: Sequence[float],
    *,
    startup_s: float,
    max_containers: int,
    most_startup_share: float = MOST_STARTUP_SHARE,
) -> Decision:
    """One container, and more while each makes the export faster and is worth its start.

    One more is worth it while start-up is at most `most_startup_share` of every container's work.
    """
    if max_containers < 1:
        raise ValueError(f"an export cannot have {max_containers} containers")
    if not work_s:
        return Decision(0, "there is nothing to render")
    containers, longest_s = 1, math.fsum(work_s)
    limit = min(max_containers, len(work_s))
    for more in range(2, limit + 1):
        loads = loads_s(work_s, more)
        share = _share(startup_s, min(loads))
        if share > most_startup_share:
            why = (
                f"of {more}, one would start for {startup_s:.0f} s to work for {min(loads):.0f} s, "
                f"which is more than {most_startup_share:.0%}"
            )
            break
        if max(loads) < longest_s:
            containers, longest_s = more, max(loads)
    else:
        why = "as many as there are chunks" if len(work_s) == limit else "as many as are allowed"
        if containers < limit:
            why = "more would not end sooner"
    return Decision(containers, f"{math.fsum(work_s):.0f} s of work: {why}")


def _share(startup_s: float, work_s: float) -> float:
    if startup_s == 0:
        return 0.0
    return startup_s / work_s if work_s > 0 else math.inf
