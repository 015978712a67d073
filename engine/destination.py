"""Which file is written where somebody names an output. Checked before the work that fills it."""

from __future__ import annotations

import errno
import hashlib
import os
import stat
from collections.abc import Collection, Mapping
from pathlib import Path
from types import MappingProxyType

from engine.errors import EngineError, OutputError

FILM_SUFFIXES = frozenset({".mp4", ".m4v"})
"""What the name of a film may end in; one without a suffix may, too."""

_LONGEST_NAME_BYTES = 255

_KINDS = (
    (stat.S_ISDIR, "a folder"),
    (stat.S_ISCHR, "a device"),
    (stat.S_ISBLK, "a device"),
    (stat.S_ISFIFO, "a pipe"),
    (stat.S_ISSOCK, "a socket"),
)


def output_file(
    named: Path | str,
    *,
    suffixes: Collection[str] = (),
    keep: Mapping[Path, str] = MappingProxyType({}),
) -> Path:
    """The regular file, there or not yet, that is written under a name.

    `~/` is the user's own folder, and symbolic links are followed, so that a link stays and the
    file behind it is replaced. `suffixes` are those that the format may have; none means any.
    `keep` are files that are needed, and what each is. Raises `EngineError` where something else
    than a regular file is there, no file can be made, the name promises another format, or a needed
    file would be lost.
    """
    path = from_home(Path(named))
    real = Path(os.path.realpath(path))
    if len(os.fsencode(real.name)) > _LONGEST_NAME_BYTES:
        raise EngineError(f"{named}: the name has more than {_LONGEST_NAME_BYTES} bytes")
    try:
        kind = _other_kind(real)
    except OSError as error:
        raise OutputError(named, error) from error
    if kind is not None:
        raise EngineError(f"{named}: is {kind}, not a file to write")
    _check_folder(named, real.parent)
    for needed, what in keep.items():
        if real == needed.resolve() or (
            real.exists() and needed.exists() and real.samefile(needed)
        ):
            raise EngineError(f"{named}: is {what}; it is not overwritten")
    if suffixes and path.suffix and path.suffix.lower() not in suffixes:
        wanted = " or ".join(sorted(suffixes))
        raise EngineError(
            f"{named}: would hold another format than {path.suffix}: name it {wanted}"
        )
    return real


def real_file(path: Path) -> Path:
    """The regular file behind a path and its links, there or not yet.

    Raises `OSError`, also where something else is there: a file that took its place would replace
    a device, or leave the reader of a pipe waiting.
    """
    real = Path(os.path.realpath(path))
    if kind := _other_kind(real):
        raise OSError(errno.EINVAL, f"it is {kind}, not a file to write")
    return real


def from_home(path: Path) -> Path:
    """The path with a leading `~/` replaced, unless a folder here has that name."""
    if path.parts[:1] == ("~",) and not Path("~").exists():
        return path.expanduser()
    return path


def beside(path: Path, suffix: str) -> Path:
    """A path next to `path` whose name is longer by `suffix`, cut where no name may be so long."""
    name = path.name + suffix
    if len(os.fsencode(name)) > _LONGEST_NAME_BYTES:
        digest = hashlib.sha256(os.fsencode(path.name)).hexdigest()[:16]
        room = _LONGEST_NAME_BYTES - len(os.fsencode(suffix)) - len(digest) - 1
        start = os.fsencode(path.name)[:room].decode(errors="ignore")
        name = f"{start}~{digest}{suffix}"
    return path.with_name(name)


def _other_kind(path: Path) -> str | None:
    """What is there that is no regular file; None for one, or where nothing is."""
    try:
        mode = path.stat().st_mode
    except FileNotFoundError:
        return None
    if stat.S_ISREG(mode):
        return None
    return next((name for is_kind, name in _KINDS if is_kind(mode)), "no file")


def _check_folder(named: Path | str, folder: Path) -> None:
    if not folder.is_dir():
        raise EngineError(f"{named}: there is no folder {folder}")
    if not os.access(folder, os.W_OK):
        raise EngineError(f"{named}: the folder {folder} cannot be written to")
