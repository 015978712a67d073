"""Computes batches of pictures in the memory there is, whatever their number and size.

A batch that does not fit is halved, and a picture that does not fit is tiled. What worked is
remembered: later batches begin there, and one event tells of it.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import torch
from torch import Tensor

from engine.errors import UpscalerError
from engine.gpu.memory import first_line, is_out_of_memory
from engine.upscale.network import NetworkTraits
from engine.upscale.tiling import halvings, in_tiles

LEAST_TILE_PX = 64


class FittingForward:
    """A network in one precision. Threads may share it; each may find out that memory lacks."""

    def __init__(
        self,
        forward: Callable[[Tensor], Tensor],
        shape: NetworkTraits,
        device: torch.device,
        events: list[str],
        *,
        lack: str = "out of memory",
        most_images: int = 1 << 30,
    ) -> None:
        """`events` is told what had to be done. `lack` begins those lines.

        `most_images`: the largest batch that is tried.
        """
        self.most_images = most_images
        """The largest batch that is tried. It shrinks when memory runs out."""
        self._forward = forward
        self._shape = shape
        self._device = device
        self._events = events
        self._lack = lack
        self._too_large_px: int | None = None
        """Pixels of the smallest picture that did not fit as a whole."""
        self._tile_px: int | None = None
        """The side of the tiles that fitted."""

    def __call__(self, images: Tensor) -> Tensor:
        """The enlarged batch (n, 3, h, w).

        Raises `UpscalerError` where not even a small tile fits.
        """
        parts = [self._part(part) for part in torch.split(images, self.most_images)]
        return parts[0] if len(parts) == 1 else torch.cat(parts)

    def halve(self, images: int) -> None:
        """Is told that a batch of so many pictures did not fit. The next are half as large."""
        fitting = max(1, images // 2)
        if fitting < self.most_images:
            self.most_images = fitting
            self._events.append(f"{self._lack}: batches of {fitting} from here on")
        self._free()

    def _part(self, images: Tensor) -> Tensor:
        pixels = images.shape[-2] * images.shape[-1]
        if self._too_large_px is not None and pixels >= self._too_large_px:
            tiled = [self._tiled(image) for image in torch.split(images, 1)]
            return tiled[0] if len(tiled) == 1 else torch.cat(tiled)
        made, reason = self._attempt(partial(self._forward, images))
        if made is not None:
            return made
        if len(images) > 1:
            self.halve(len(images))
            return self(images)
        if not self._shape.can_be_tiled:
            raise UpscalerError(
                f"{self._device} has not enough memory, and the network cannot tile ({reason})"
            )
        self._too_large_px = pixels
        return self._tiled(images)

    def _tiled(self, image: Tensor) -> Tensor:
        """One picture in the tiles that fitted last, or in smaller ones."""
        shape = self._shape
        radius = shape.receptive_radius if shape.tiles_exactly else None
        reason = ""
        for side in self._sides(max(image.shape[-2:])):
            tile = max(1, side // shape.multiple) * shape.multiple
            made, reason = self._attempt(
                partial(in_tiles, self._forward, image, shape.scale, tile, radius, shape.multiple)
            )
            if made is None:
                continue
            if tile != self._tile_px:
                self._tile_px = tile
                self._events.append(f"{self._lack}: in tiles of {tile} pixels from here on")
            return made
        raise UpscalerError(
            f"{self._device} has not enough memory for a tile of {LEAST_TILE_PX} pixels ({reason})"
        )

    def _sides(self, longest: int) -> list[int]:
        """Tile sizes to try on a picture whose longer side is so long."""
        known = self._tile_px
        if known is None or known >= longest:
            return list(halvings(longest, LEAST_TILE_PX))
        return [known, *halvings(known, LEAST_TILE_PX)]

    def _attempt(self, compute: Callable[[], Tensor]) -> tuple[Tensor | None, str]:
        """What `compute` gives, or None and the reason where memory ran out.

        The error is gone when this returns. Its traceback would keep tensors alive.
        """
        try:
            return compute(), ""
        except (RuntimeError, MemoryError) as error:
            if not is_out_of_memory(error):
                raise
            reason = first_line(error)
        self._free()
        return None, reason

    def _free(self) -> None:
        if self._device.type == "cuda":
            torch.cuda.empty_cache()
