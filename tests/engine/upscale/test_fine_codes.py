"""One compiled pass over a network's result, against the same arithmetic in torch."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import Tensor

from engine.upscale.fine_codes import fine_codes
from engine.upscale.tensors import join_range, ycc_of_rgb

LAYOUTS = [torch.contiguous_format, torch.channels_last]


def by_torch(made: Tensor, outside: Tensor) -> NDArray[np.uint16]:
    codes = ycc_of_rgb(join_range(made[None], outside[None])) * 64
    found: NDArray[np.uint16] = codes.round().to(torch.uint16).numpy()[0]
    return found


def a_result(scale: int, layout: torch.memory_format = LAYOUTS[0]) -> Tensor:
    """RGB from -0.2 to 1.2: beyond what is kept."""
    torch.manual_seed(scale)
    made = torch.rand(1, 3, 18 * scale, 22 * scale) * 1.4 - 0.2
    return made.contiguous(memory_format=layout)[0]


@pytest.mark.parametrize("layout", LAYOUTS, ids=["planes", "channels last"])
@pytest.mark.parametrize("scale", [1, 2, 3, 4])
def test_codes_are_those_of_torch_to_the_last_bit(scale: int, layout: torch.memory_format) -> None:
    made, nothing = a_result(scale, layout), torch.zeros(3, 18, 22)
    codes = fine_codes(made, nothing)
    assert codes is not None
    assert np.array_equal(codes, by_torch(made, nothing))


@pytest.mark.parametrize("scale", [1, 2, 3, 4])
def test_what_lay_outside_is_enlarged_linearly(scale: int) -> None:
    """At most the last of 14 bits differs: torch's compiler may fuse a product and a sum."""
    made, outside = a_result(scale), torch.randn(3, 18, 22) * 0.1
    codes = fine_codes(made, outside)
    assert codes is not None
    apart = np.abs(codes.astype(int) - by_torch(made, outside))
    assert apart.max() <= 1
    assert (apart > 0).mean() < 1e-3
    assert np.abs(codes.astype(int) - by_torch(made, torch.zeros(3, 18, 22))).max() > 100


@pytest.mark.parametrize("odd", [float("nan"), float("inf"), -float("inf")])
def test_what_is_not_finite_gives_no_codes(odd: float) -> None:
    made = a_result(2)
    made[1, -1, -1] = odd
    assert fine_codes(made, torch.zeros(3, 18, 22)) is None
