"""Guards: what the engine does, measured against a named reference in turns in the same run.

A guard fails where its ratio crosses its limit, wherever it runs; ratios hold on slow and on busy
machines, as times do not. `compare.py` holds a run against an earlier one, more tightly.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from time import perf_counter
from typing import Any, Final

LIMITS: Final[Mapping[str, float]] = {
    "start-up, first frame decoded": 3.5,
    "start-up, first frame encoded": 3.7,
    "plan": 12.0,
    "chunks and digests": 6.0,
    "keyframes": 2.0,
    "crop, sdr": 5.0,
    "crop, sdr_turned": 7.0,
    "crop, sdr_tilted": 40.0,
    "crop, bt601_full": 14.0,
    "crop, hlg_turned": 40.0,
    "decode": 1.3,
    "blend": 0.25,
    "encode": 1.25,
    "join": 4.0,
    "upscale on a CPU": 1.5,
    "export to ffmpeg, two clips, dissolve": 1.25,
    "export to ffmpeg, one clip, moving crop, sound": 1.25,
    "export to bare libx264, two clips, dissolve": 1.6,
    "export to bare libx264, one clip, moving crop, sound": 1.6,
    "memory, 10 min against 1 min, 216x384": 1.10,
    "memory, 40 s against 10 s, 1080x1920": 1.10,
}
"""The most that each guard's ratio may be: what a regression would cross on two busy cores."""


class Guard:
    """Times one thing against its reference with a test's `benchmark` fixture."""

    def __init__(self, benchmark: Any) -> None:
        self._benchmark = benchmark

    def __call__(
        self,
        name: str,
        ours: Callable[[], object],
        reference: Callable[[], object],
        *,
        peer: str,
        rounds: int = 15,
    ) -> None:
        """Runs both in turns, `rounds` times after one to warm up.

        The ratio is that of the fastest runs: noise only ever adds to a time.
        """
        taken_s: list[float] = []

        def timed_reference() -> None:
            start_s = perf_counter()
            reference()
            taken_s.append(perf_counter() - start_s)

        ours(), reference()
        self._benchmark.pedantic(ours, setup=timed_reference, rounds=rounds)
        ours_s = self._benchmark.stats.stats.min
        self.hold(name, ours_s / min(taken_s), peer, ours_s=ours_s, reference_s=min(taken_s))

    def hold(self, name: str, ratio: float, peer: str, **figures: float) -> None:
        """Records a ratio, and fails where it is above its limit."""
        self._benchmark.extra_info.setdefault("guards", []).append(
            {"name": name, "peer": peer, "ratio": ratio, "limit": LIMITS[name], **figures}
        )
        assert ratio <= LIMITS[name], f"{name}: {ratio:.2f} of {peer}, more than {LIMITS[name]}"
