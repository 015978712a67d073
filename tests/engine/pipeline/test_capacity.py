"""How many containers: examples by hand, and properties that hold for any chunks."""

from __future__ import annotations

import math
import re
from itertools import product

import pytest
from hypothesis import given
from hypothesis import strategies as st

from engine.pipeline.capacity import Costs, assigned, decide, loads_s, longest_first, predict

works = st.lists(st.floats(0.1, 1000), min_size=1, max_size=40)
containers = st.integers(1, 12)


def test_longest_first_by_hand() -> None:
    assert longest_first([1, 5, 3, 5]) == [1, 3, 2, 0]
    assert assigned([1, 5, 3, 5, 2], 2) == [[1, 2], [3, 4, 0]]
    assert loads_s([1, 5, 3, 5, 2], 2) == [8, 8]


@given(works, containers)
def test_every_chunk_is_rendered_once(work_s: list[float], count: int) -> None:
    chunks = assigned(work_s, count)
    assert len(chunks) == count
    assert sorted(chunk for each in chunks for chunk in each) == list(range(len(work_s)))


@given(works, containers)
def test_the_longest_load_is_within_its_bounds(work_s: list[float], count: int) -> None:
    """No schedule beats the mean and the longest chunk; a greedy one ends one chunk after."""
    longest = max(loads_s(work_s, count))
    least = max(sum(work_s) / count, max(work_s))
    assert least * (1 - 1e-9) <= longest
    assert longest <= sum(work_s) / count + max(work_s) + 1e-9


@given(st.lists(st.integers(1, 30), min_size=1, max_size=6), st.integers(1, 3))
def test_near_the_best_of_all_schedules(work_s: list[int], count: int) -> None:
    """Graham's bound, against every schedule there is."""
    best = min(
        max(sum(w for w, c in zip(work_s, places, strict=True) if c == k) for k in range(count))
        for places in product(range(count), repeat=len(work_s))
    )
    assert max(loads_s(work_s, count)) <= best * (4 / 3 - 1 / (3 * count)) + 1e-9


def test_prediction_by_hand() -> None:
    costs = Costs(
        startup_s=10, serial_s=4, idle_s=2, usd_per_container_s=0.01, usd_per_orchestrator_s=0.001
    )
    two = predict([30, 20, 10], 2, costs)
    assert (two.containers, two.wall_s, two.billed_s) == (2, 4 + 10 + 30, 2 * (10 + 30 + 2))
    assert two.cost_usd == pytest.approx(0.84 + 0.044)
    assert two.startup_share == pytest.approx(1 / 3)
    assert predict([30, 20, 10], 64, costs).containers == 3
    assert predict([], 4, costs).containers == 1


@given(works, containers, st.floats(0, 100), st.floats(0, 30))
def test_more_containers_cost_no_less_and_gain_no_more_than_their_number(
    work_s: list[float], count: int, startup_s: float, serial_s: float
) -> None:
    costs = Costs(startup_s, serial_s, 0, usd_per_container_s=1, usd_per_orchestrator_s=0)
    one, many = predict(work_s, 1, costs), predict(work_s, count, costs)
    assert many.cost_usd >= one.cost_usd * (1 - 1e-9)
    assert one.wall_s / count <= many.wall_s * (1 + 1e-9) <= one.wall_s * (1 + 2e-9)


@given(works, containers, st.floats(0, 100), st.floats(0.01, 1))
def test_a_decision_keeps_its_rules(
    work_s: list[float], most: int, startup_s: float, share: float
) -> None:
    decision = decide(work_s, startup_s=startup_s, max_containers=most, most_startup_share=share)
    count = decision.containers
    assert 1 <= count <= min(most, len(work_s))
    assert decision.why
    if count > 1:
        assert startup_s <= share * min(loads_s(work_s, count)) * (1 + 1e-9)
        fewer = min(max(loads_s(work_s, n)) for n in range(1, count))
        assert max(loads_s(work_s, count)) < fewer


@given(works, containers)
def test_dearer_starts_never_mean_more_containers(work_s: list[float], most: int) -> None:
    counts = [
        decide(work_s, startup_s=startup_s, max_containers=most).containers
        for startup_s in (0, 1, 10, 100, math.inf)
    ]
    assert counts == sorted(counts, reverse=True)
    assert counts[-1] == 1


@pytest.mark.parametrize(
    ("work_s", "most", "count", "why"),
    [
        ([], 10, 0, "nothing to render"),
        ([20], 10, 1, "as many as there are chunks"),
        ([100] * 4, 2, 2, "as many as are allowed"),
        ([20] * 4, 10, 1, "of 2, one would start for 11 s to work for 40 s, .* more than 15%"),
        ([300] * 8, 10, 8, "as many as there are chunks"),
        ([300, 100, 100, 100], 3, 2, "more would not end sooner"),
    ],
)
def test_why(work_s: list[float], most: int, count: int, why: str) -> None:
    decision = decide(work_s, startup_s=11, max_containers=most)
    assert decision.containers == count
    assert re.search(why, decision.why)


def test_numbers_that_make_no_sense() -> None:
    with pytest.raises(ValueError, match="0 containers"):
        assigned([1], 0)
    with pytest.raises(ValueError, match="0 containers"):
        decide([1], startup_s=1, max_containers=0)
