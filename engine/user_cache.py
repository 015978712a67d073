"""The user's folder for what can be made again: weights, and how fast exports were."""

from __future__ import annotations

from pathlib import Path


def user_cache() -> Path | None:
    """The folder, which need not exist. None for a user without a home, as in some containers."""
    import platformdirs  # slow to load, and seldom needed

    try:
        folder = platformdirs.user_cache_path("framestream")
    except RuntimeError:
        return None
    return folder if folder.is_absolute() else None
