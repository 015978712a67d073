"""A picture in overlapping tiles, for when it does not fit into memory whole.

Where an output pixel depends on a bounded neighbourhood, tiles that overlap by it give exactly the
picture that the whole would have given. Elsewhere neighbouring tiles fade into each other.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

FEATHER_PX = 32
"""Input pixels that a feathered tile reads beyond what it keeps, on each side."""


@dataclass(frozen=True, slots=True)
class Span:
    """One tile along one axis, in input pixels: half-open ranges of what is read and kept."""

    start: int
    stop: int
    kept_start: int
    kept_stop: int


def spans(side: int, tile: int, overlap: int) -> list[Span]:
    """Cuts `[0, side)` into tiles that keep `tile` pixels and read `overlap` more on each side."""
    return [
        Span(max(0, at - overlap), min(side, at + tile + overlap), at, min(side, at + tile))
        for at in range(0, side, tile)
    ]


def in_tiles(
    forward: Callable[[Tensor], Tensor],
    image: Tensor,
    scale: int,
    tile: int,
    radius: int | None,
    multiple: int = 1,
) -> Tensor:
    """`forward` of `image` (1, 3, h, w), tile by tile; shape (1, 3, h * scale, w * scale).

    `radius`: how far a pixel of the input reaches in the output, in input pixels. None where that
    is not bounded: then the tiles are feathered. Where `tile` and the sides of the image are
    multiples of `multiple`, the sides of every tile are, too.
    """
    _, channels, height, width = image.shape
    out: Tensor | None = None
    overlap = -(-(FEATHER_PX if radius is None else radius) // multiple) * multiple
    for rows in spans(height, tile, overlap):
        for columns in spans(width, tile, overlap):
            made = forward(image[..., rows.start : rows.stop, columns.start : columns.stop])
            if out is None:
                out = made.new_zeros((1, channels, height * scale, width * scale))
            if radius is None:
                _fade_in(out, made, rows, columns, scale)
            else:
                _paste(out, made, rows, columns, scale)
    assert out is not None
    return out


def _paste(out: Tensor, made: Tensor, rows: Span, columns: Span, scale: int) -> None:
    out[
        ...,
        rows.kept_start * scale : rows.kept_stop * scale,
        columns.kept_start * scale : columns.kept_stop * scale,
    ] = made[
        ...,
        (rows.kept_start - rows.start) * scale : (rows.kept_stop - rows.start) * scale,
        (columns.kept_start - columns.start) * scale : (columns.kept_stop - columns.start) * scale,
    ]


def _fade_in(out: Tensor, made: Tensor, rows: Span, columns: Span, scale: int) -> None:
    """Lays a tile over those above it and to the left of it, fading in over what they share."""
    part = out[
        ..., rows.start * scale : rows.stop * scale, columns.start * scale : columns.stop * scale
    ]
    down = _ramp(rows, scale, made)[:, None]
    across = _ramp(columns, scale, made)[None, :]
    part.lerp_(made, down * across)


def _ramp(span: Span, scale: int, like: Tensor) -> Tensor:
    """0 to 1 over what the tile shares with the one before it, then 1."""
    shared = min(2 * (span.kept_start - span.start), span.stop - span.start) * scale
    ramp = torch.ones((span.stop - span.start) * scale, dtype=like.dtype, device=like.device)
    if shared:
        steps = torch.arange(shared, dtype=like.dtype, device=like.device)
        ramp[:shared] = (steps + 0.5) / shared
    return ramp


def halvings(side: int, least: int) -> Iterator[int]:
    """Tile sizes to try: half the side, a quarter and so on, down to `least`."""
    tile = side // 2
    while tile >= least:
        yield tile
        tile //= 2
