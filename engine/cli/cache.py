"""`framestream cache`: the size of a cache of chunks, and how it is kept small."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from engine.cli.console import errors_as_exit_codes, say, stdout

if TYPE_CHECKING:
    from engine.pipeline.cache import StoreCache


@errors_as_exit_codes()
def cache(
    folder: Annotated[
        Path, typer.Argument(metavar="FOLDER", envvar="FRAMESTREAM_CACHE_DIR", show_default=False)
    ],
    max_gb: Annotated[float, typer.Option(min=0, help="The most it may hold.")] = 10,
    max_days: Annotated[
        float, typer.Option(min=0, help="How long a chunk is kept that nothing uses.")
    ] = 30,
) -> None:
    """Show how large a cache of chunks is, and drop what is too old or too much.

    The least recently used goes first. An export does the same after it, with these defaults.
    """
    swept = open_cache(folder).sweep(
        max_bytes=round(max_gb * 10**9), max_age=timedelta(days=max_days)
    )
    say(
        f"{folder}: {swept.kept} chunks, {swept.kept_bytes / 1e6:.1f} MB; "
        f"{swept.removed} dropped, {swept.removed_bytes / 1e6:.1f} MB",
        to=stdout,
    )


def open_cache(folder: Path) -> StoreCache:
    """The cache of chunks in that folder."""
    from engine.pipeline.cache import StoreCache
    from engine.storage import LocalStore

    return StoreCache(LocalStore(folder))
