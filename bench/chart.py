"""A chart of the peers' wall times, as SVG: its colours are read on a white and on a dark page."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from bench.tables import wall_s

INK = "#7d8590"
"""Grey with a contrast of 3.7 to white and 5.1 to GitHub's dark page."""
OURS, THEIRS = "#1f9e6e", "#8a94a6"


def draw(results: dict[str, Any], path: Path) -> None:
    """Bars of seconds, one panel per edit; a peer that was not measured has no bar, and why."""
    import matplotlib as mpl

    mpl.use("svg")
    mpl.rcParams.update({"svg.fonttype": "none", "svg.hashsalt": "framestream"})
    from matplotlib import pyplot

    edits = results["edits"]
    figure, panels = pyplot.subplots(
        1, len(edits), figsize=(3.4 * len(edits), 2.0), squeeze=False, layout="constrained"
    )
    for number, (edit, panel) in enumerate(zip(edits, panels[0], strict=True)):
        names = list(edit["peers"])
        seconds = [wall_s(peer) for peer in edit["peers"].values()]
        bars = panel.barh(
            names,
            [each or 0 for each in seconds],
            color=[OURS if name == "framestream" else THEIRS for name in names],
        )
        labels = [
            peer["lack"] if each is None else f"{each:.0f} s"
            for each, peer in zip(seconds, edit["peers"].values(), strict=True)
        ]
        panel.bar_label(bars, labels, padding=3, color=INK, fontsize=9)
        panel.set_title(edit["name"], color=INK, fontsize=9, loc="left")
        panel.margins(x=0.2)
        panel.invert_yaxis()
        panel.tick_params(colors=INK, length=0, labelsize=9, labelleft=number == 0)
        panel.set_xticks([])
        panel.spines[:].set_visible(False)
    figure.savefig(path, transparent=True, metadata={"Date": None})
    pyplot.close(figure)
