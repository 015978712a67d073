"""What `bench.upscale` has measured, as Markdown. Needs no torch."""

from __future__ import annotations

from typing import Any


def tables(results: dict[str, Any]) -> list[str]:
    """The results as Markdown."""
    machine = results["machine"]
    lines = [
        f"{machine['device']}, torch {machine['torch']}, {results['precision']}, crop "
        f"{results['crop']}, commit {machine['commit']}; a matrix product does "
        f"{results['matmul_tflops']:.2f} TFLOP/s. `{results['command']}`",
        "",
        "| model | batch | | bare frames/s | TFLOP/s | of a matrix product | stage frames/s "
        "| stage / bare | peak GiB | stage / `enhance` |",
        "| --- | ---: | --- | ---: | ---: | ---: | ---: | ---: | ---: | ---: |",
    ]
    for each in results["models"]:
        best = each["stage_fps"] / each["enhance_fps"] if each.get("enhance_fps") else None
        for row in each["batches"]:
            start = f"| {each['model']} | {row['batch']} | {row.get('how', 'eager')} "
            if row.get("out_of_memory"):
                lines.append(start + "| out of memory | | | | | | |")
                continue
            if "does_not_compile" in row:
                lines.append(start + "| does not compile | | | | | | |")
                continue
            peak = "" if row["peak_gib"] is None else f"{row['peak_gib']:.1f}"
            lines.append(
                f"{start}| {row['bare_fps']:.2f} | {row['tflops']:.2f} "
                f"| {row['tflops'] / results['matmul_tflops']:.0%} | {row['stage_fps']:.2f} "
                f"| {row['stage_fps'] / row['bare_fps']:.2f} | {peak} "
                f"| {'' if best is None else f'{best:.2f}'} |"
            )
    return lines + _export_table(results)


def _export_table(results: dict[str, Any]) -> list[str]:
    """Whole exports: empty where none was measured."""
    measured = [
        (each["model"], done)
        for each in results["models"]
        for done in each.get("exports", [each["export"]] if "export" in each else [])
    ]
    if not measured:
        return []
    lines = [
        "",
        "Whole exports, file to file, at the batch where the bare network is fastest. *Bare* is "
        "the network alone by torch, measured before and after each export; of several exports, "
        "the one that was in the middle. *Busy* is how long each part was at work, by the wall.",
        "",
        "| model | | frames | frames/s | export / bare | core-seconds a frame | busy "
        "| where frames went |",
        "| --- | --- | ---: | ---: | ---: | ---: | --- | --- |",
    ]
    for model, done in measured:
        busy = ", ".join(f"{name} {share:.0%}" for name, share in done["busy"].items())
        route = "; ".join(done["route"]) or f"host memory, {done['encoder']}"
        core_s = f"{done['core_s']:.3f}" if "core_s" in done else ""
        lines.append(
            f"| {model} | {done.get('how', 'eager')} | {done['frames']} | {done['fps']:.2f} "
            f"| {done['of_bare']:.2f} | {core_s} | {busy} | {route} |"
        )
    return lines
