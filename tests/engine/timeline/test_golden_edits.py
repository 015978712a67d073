"""Documents in every way that the app writes them, with plans that were worked out by hand.

`tests/edits/golden/` has a file for each: the document, what its plan must be, and the arithmetic.
The source, `game.mp4`, is 1920x1080 and lasts 12.8 s: 384 frames at 30 a second.
"""

from __future__ import annotations

import json
from fractions import Fraction
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pytest

from engine.timeline.edit import Edit
from engine.timeline.plan import Plan, build_plan
from tests.sources import a_source

GOLDEN = sorted((Path(__file__).parents[2] / "edits" / "golden").glob("*.json"))


def planned(document: dict[str, Any], unknown: Literal["error", "warn"] = "error") -> Plan:
    edit = Edit.parse(document, unknown=unknown)
    return build_plan(edit, [a_source("game.mp4", frames=384) for _ in edit.clips])


def check(plan: Plan, expected: dict[str, Any]) -> None:
    assert plan.frame_count == expected["frames"]
    assert plan.fps == Fraction(expected.get("fps", 30))
    for frame, number in expected["source"].items():
        clip = next(each for each in plan.clips if int(frame) in each.frames)
        assert int(clip.pts[int(frame) - clip.frames.start]) == number * 3000, f"frame {frame}"
    for frame, rect in expected["rects"].items():
        clip = next(each for each in plan.clips if int(frame) in each.frames)
        shown = clip.rects[int(frame) - clip.frames.start]
        np.testing.assert_allclose(shown, rect, rtol=0, atol=1e-9, err_msg=f"frame {frame}")
    assert [chapter.title for chapter in plan.chapters] == expected["titles"]
    assert list(plan.warnings) == expected["warnings"]
    rotations = expected.get("rotations", [0] * len(plan.clips))
    assert [clip.rotation_deg for clip in plan.clips] == rotations


@pytest.mark.parametrize("path", GOLDEN, ids=[path.stem for path in GOLDEN])
def test_the_plan_is_the_one_worked_out_by_hand(path: Path) -> None:
    golden = json.loads(path.read_text())
    check(planned(golden["document"]), golden["plan"])
    check(planned(golden["document"], unknown="warn"), golden["plan"])


@pytest.mark.parametrize("path", GOLDEN, ids=[path.stem for path in GOLDEN])
def test_a_document_written_again_has_the_same_plan(path: Path) -> None:
    golden = json.loads(path.read_text())
    written = json.loads(json.dumps(Edit.parse(golden["document"]).to_document()))
    edit_warnings = set(Edit.parse(golden["document"]).warnings)
    left = [each for each in golden["plan"]["warnings"] if each not in edit_warnings]
    check(planned(written), golden["plan"] | {"warnings": left})
