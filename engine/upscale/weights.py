"""Where a model's weights are: a file that is there, or the official release file, fetched once.

Knows folders, hashes and one web server; no torch and nothing of what is in the files.
"""

from __future__ import annotations

import fcntl
import hashlib
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http import HTTPStatus
from http.client import HTTPException, HTTPResponse
from pathlib import Path
from typing import BinaryIO
from urllib.error import HTTPError, URLError
from urllib.request import Request, urlopen

import platformdirs

from engine.errors import UpscalerError
from engine.upscale.models import Model

RELEASES = "https://github.com/xinntao/Real-ESRGAN/releases/download"
FOLDER_VARIABLE = "FRAMESTREAM_WEIGHTS_DIR"
ATTEMPTS = 5
"""How often a download that breaks off is taken up again."""
TIMEOUT_S = 30
BLOCK_BYTES = 1 << 18

OnDownload = Callable[[int, int], None]
"""Is told the bytes done and the bytes in all. What it raises stops the download; the next one
goes on from there."""


def weights_path(
    model: Model,
    *,
    model_path: Path | None = None,
    folder: Path | None = None,
    on_progress: OnDownload | None = None,
    base_url: str = RELEASES,
) -> Path:
    """The file with a model's weights.

    It is `model_path` where given, as it is; else the official file, byte for byte, from the folder
    that FRAMESTREAM_WEIGHTS_DIR names, from `folder` (this user's cache where None), or else
    downloaded into `folder` from `base_url`. Raises `UpscalerError`, which says what to fetch and
    where to put it.
    """
    if model_path is not None:
        if not model_path.is_file():
            raise UpscalerError(f"{model_path}: there is no such file of weights")
        return model_path
    folder = folder or _cache()
    found = found_weights(model, folder)
    if found is not None:
        _check_official(model, found)
        return found
    url = f"{base_url}/{model.release}/{model.file_name}"
    try:
        return _downloaded(model, folder, url, on_progress)
    except _FetchError as error:
        raise UpscalerError(_how_to_have(model, folder, error)) from error


def found_weights(model: Model, folder: Path | None = None) -> Path | None:
    """The file that `weights_path` would check and take, None where it would download one."""
    places = (*_named_folder(), folder or _cache())
    paths = (place / model.file_name for place in places)
    return next((path for path in paths if path.is_file()), None)


def _cache() -> Path:
    return platformdirs.user_cache_path("framestream") / "weights"


class _FetchError(Exception):
    """Why a file could not be fetched."""


def _named_folder() -> list[Path]:
    """The folder that the environment names, if it names one."""
    name = os.environ.get(FOLDER_VARIABLE)
    if not name:
        return []
    if not Path(name).is_dir():
        raise UpscalerError(f"{FOLDER_VARIABLE} is {name}, which is no folder")
    return [Path(name)]


def _how_to_have(model: Model, folder: Path, why: _FetchError) -> str:
    official = f"{RELEASES}/{model.release}/{model.file_name}"
    return (
        f"no weights of {model.name}: {why}; fetch {official} ({model.size_bytes} bytes, "
        f"SHA-256 {model.sha256}) and put it in {folder} or in the folder that {FOLDER_VARIABLE} "
        f"names, or give a file by --model-path"
    )


def _check_official(model: Model, path: Path) -> None:
    fault = _fault(model, path)
    if fault:
        raise UpscalerError(
            f"{path}: not the official file: {fault}; remove it, or give it by --model-path to use "
            f"it all the same"
        )


def _fault(model: Model, path: Path) -> str | None:
    """What makes a file another than the official one."""
    size = path.stat().st_size
    if size != model.size_bytes:
        return f"it has {size} bytes, not {model.size_bytes}"
    with path.open("rb") as file:
        sha256 = hashlib.file_digest(file, "sha256").hexdigest()
    return None if sha256 == model.sha256 else f"its SHA-256 is {sha256}, not {model.sha256}"


def _downloaded(model: Model, folder: Path, url: str, on_progress: OnDownload | None) -> Path:
    """The official file in `folder`, fetched if need be. Raises `_FetchError`."""
    path = folder / model.file_name
    partial = folder / f".{model.file_name}.partial"
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with _only_one(folder / f".{model.file_name}.lock"):
            if path.is_file():  # another process was first
                _check_official(model, path)
                return path
            resumed = partial.exists()
            _fetch(model, url, partial, on_progress)
            if resumed and _fault(model, partial):  # what was left may have been damaged
                partial.unlink()
                _fetch(model, url, partial, on_progress)
            fault = _fault(model, partial)
            if fault:
                partial.unlink()
                raise _FetchError(f"{url} is not the official file: {fault}")
            partial.replace(path)
    except OSError as error:
        raise _FetchError(f"{error.filename or folder}: {error.strerror or error}") from error
    return path


@contextmanager
def _only_one(lock: Path) -> Iterator[None]:
    """Waits until no other process, nor another thread of this one, is in the block.

    The system lets go of the lock of a process that dies. The file stays: removing it could leave
    two processes with a lock each.
    """
    with lock.open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


def _fetch(model: Model, url: str, partial: Path, on_progress: OnDownload | None) -> None:
    """Completes `partial`, which holds what an earlier download left. Raises `_FetchError`."""
    with partial.open("ab") as file:
        for _ in range(ATTEMPTS):
            if file.tell() >= model.size_bytes:
                break
            why = _append_rest(model, url, file, on_progress)
        else:
            if file.tell() < model.size_bytes:
                raise _FetchError(f"{url}: {why} at {file.tell()} of {model.size_bytes} bytes")
        os.fsync(file.fileno())


def _append_rest(model: Model, url: str, file: BinaryIO, on_progress: OnDownload | None) -> str:
    """Appends what the file lacks, or as much of it as comes. Gives why no more came."""
    with _opened(url, file.tell()) as answer:
        start = file.tell() if answer.status == HTTPStatus.PARTIAL_CONTENT else 0
        length = answer.headers["Content-Length"]
        if length is not None and start + int(length) != model.size_bytes:
            raise _FetchError(
                f"{url} is not the official file: it has {start + int(length)} bytes, "
                f"not {model.size_bytes}"
            )
        file.truncate(start)
        file.seek(start)
        while file.tell() <= model.size_bytes:
            try:
                block = answer.read(BLOCK_BYTES)
            except (OSError, HTTPException) as error:
                return f"the connection breaks ({error or type(error).__name__})"
            if not block:
                break
            file.write(block)
            if on_progress is not None:
                on_progress(file.tell(), model.size_bytes)
    return "the connection ends"


def _opened(url: str, start: int) -> HTTPResponse:
    """The server's answer, from byte `start` of the file where the server can. To be closed."""
    headers = {"User-Agent": "framestream"} | ({"Range": f"bytes={start}-"} if start else {})
    try:
        answer: HTTPResponse = urlopen(Request(url, headers=headers), timeout=TIMEOUT_S)
    except HTTPError as error:
        with error:
            raise _FetchError(f"{url} answers {error.code} {error.reason}") from error
    except URLError as error:
        raise _FetchError(f"{url} cannot be reached ({error.reason})") from error
    except (OSError, HTTPException) as error:
        raise _FetchError(f"{url} cannot be reached ({error or type(error).__name__})") from error
    return answer
