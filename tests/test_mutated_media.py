"""A short run of the campaign of mutated media; `python -m tests.mutated_media` runs a long one."""

from __future__ import annotations

from pathlib import Path

from tests.mutated_media import GOOD, campaign, case, originals


def test_a_damaged_film_is_a_film_or_an_error(tmp_path: Path) -> None:
    originals(tmp_path)
    results = list(campaign(range(60), 7, tmp_path))
    assert len(results) == 60
    assert [result for result in results if result[1] not in GOOD] == []
    assert {found for _, found, _ in results} == set(GOOD), "both kinds are met"


def test_a_case_is_the_same_file_again(tmp_path: Path) -> None:
    film = tmp_path / "film.ts"
    film.write_bytes(bytes(range(256)) * 100)
    twice = [case(5, 1, [film], tmp_path).read_bytes() for _ in range(2)]
    assert twice[0] == twice[1] != film.read_bytes()
    assert case(6, 1, [film], tmp_path).read_bytes() != twice[0]
