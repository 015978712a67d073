"""What programs are told of plans and sources: documents that are JSON."""

from __future__ import annotations

import json
from dataclasses import replace
from fractions import Fraction

import pytest

from engine.pipeline.documents import source_document, timeline_document
from engine.source import SoundInfo
from tests.plans import three_clip_plan
from tests.sources import a_source


def test_the_document_is_json_with_the_plans_numbers() -> None:
    document = json.loads(json.dumps(timeline_document(three_clip_plan())))
    assert (document["frames"], document["durationSeconds"], document["fps"]) == (165, 5.5, "30")
    assert (document["width"], document["height"], document["samples"]) == (1080, 1920, 264_000)
    second = document["clips"][1]
    assert (second["startFrame"], second["stopFrame"], second["start"]) == (60, 150, 2)
    assert second["segments"] == [
        {"start": 0, "end": 1, "speed": 0.5},
        {"start": 1, "end": 2, "speed": 1},
    ]
    assert [each["title"] for each in document["chapters"]] == ["Kick-off", "second", "first"]
    assert document["warnings"] == []


def test_a_source_is_told_fact_by_fact() -> None:
    sound = SoundInfo(1, "aac", 44_100, 2, Fraction(-1, 50), Fraction(0))
    facts = source_document(replace(a_source("a.mp4", frames=60), sound=sound))
    assert (facts["frames"], facts["durationSeconds"], facts["framesPerSecond"]) == (60, 2, 30)
    assert (facts["sound"], facts["soundStartSeconds"]) == ("aac, 44100 Hz, 2 channels", -0.02)
    assert facts["constantFrameRate"] is True
    silent = source_document(a_source())
    assert (silent["sound"], silent["soundStartSeconds"]) == (None, None)


@pytest.mark.parametrize(
    ("times_s", "constant"),
    [
        ([Fraction(round(n * 1001 / 30), 1000) for n in range(30)], True),  # rounded to ms
        ([Fraction(n, 30) for n in range(10)] + [Fraction(n, 15) for n in range(6, 20)], False),
        ([Fraction(0), Fraction(1, 30)], True),
    ],
)
def test_constant_and_variable_rates_are_told_apart(
    times_s: list[Fraction], constant: bool
) -> None:
    assert source_document(a_source(times_s=times_s))["constantFrameRate"] is constant
