"""Where a model's weights are: a file that is there, or the official file, downloaded once.

Knows folders, hashes and one web server. It knows no torch and nothing of what is in the files.
"""

from __future__ import annotations

import fcntl
import hashlib
import os
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from engine.errors import UpscalerError
from engine.upscale.models import Model
from engine.user_cache import user_cache

RELEASES = "https://github.com/xinntao/Real-ESRGAN/releases/download"
FOLDER_VARIABLE = "FRAMESTREAM_WEIGHTS_DIR"
ATTEMPTS = 3
"""How often a download is begun when the connection breaks or the file arrives damaged."""
TIMEOUT_S = 30
"""How long the server may send nothing."""
BLOCK_BYTES = 1 << 18
HEADERS = {"User-Agent": "framestream", "Accept-Encoding": "identity"}  # the bytes as they are

OnDownload = Callable[[int, int], None]
"""Called with the bytes done and the bytes in all. After a broken connection it starts again at
the first block. What it raises stops the download."""


def weights_path(
    model: Model,
    *,
    model_path: Path | None = None,
    folder: Path | None = None,
    on_progress: OnDownload | None = None,
    base_url: str = RELEASES,
) -> Path:
    """The file with a model's weights.

    `model_path`, where it is given, is taken as it is. Otherwise this is the official file, byte
    for byte: from the folder that FRAMESTREAM_WEIGHTS_DIR names, from `folder` (by default the
    user's cache), or downloaded into `folder` from `base_url`. Raises `UpscalerError`, which says
    what to download and where to put it.
    """
    if model_path is not None:
        if not model_path.is_file():
            raise UpscalerError(f"{model_path}: there is no such file of weights")
        return model_path
    found = found_weights(model, folder)
    if found is not None:
        _check_official(model, found)
        return found
    folder = folder or _cache()
    if folder is None:
        raise UpscalerError(
            f"no weights of {model.name}: the user has no home for them; {FOLDER_VARIABLE} may "
            f"name a folder with {model.file_name}"
        )
    url = f"{base_url}/{model.release}/{model.file_name}"
    try:
        return _downloaded(model, folder, url, on_progress)
    except _FetchError as error:
        raise UpscalerError(_how_to_have(model, folder, error)) from error


def found_weights(model: Model, folder: Path | None = None) -> Path | None:
    """The file that `weights_path` would check and take. None where it would download one."""
    places = (*_named_folder(), folder or _cache())
    paths = (place / model.file_name for place in places if place is not None)
    return next((path for path in paths if _is_file(path)), None)


def _is_file(path: Path) -> bool:
    """Whether there is such a file, as far as it may be known."""
    with suppress(OSError):
        return path.is_file()
    return False


def _cache() -> Path | None:
    folder = user_cache()
    return folder and folder / "weights"


class _FetchError(Exception):
    """Why a file could not be downloaded."""


def _named_folder() -> list[Path]:
    """The folder that the environment names, if it names one."""
    name = os.environ.get(FOLDER_VARIABLE)
    if not name:
        return []
    if not Path(name).is_dir():
        raise UpscalerError(f"{FOLDER_VARIABLE} is {name}, which is no folder")
    return [Path(name)]


def _how_to_have(model: Model, folder: Path, why: _FetchError) -> str:
    """The error text that says what is missing, why, and the three ways to have it."""
    official = f"{RELEASES}/{model.release}/{model.file_name}"
    return (
        f"no weights of {model.name}: {why}; fetch {official} ({model.size_bytes} bytes, "
        f"SHA-256 {model.sha256}) and put it in {folder} or in the folder that {FOLDER_VARIABLE} "
        f"names, or give a file by --model-path"
    )


def _check_official(model: Model, path: Path) -> None:
    """Raises `UpscalerError` for a file that is not the official one."""
    fault = _fault(model, path)
    if fault:
        raise UpscalerError(
            f"{path}: not the official file: {fault}; remove it, or give it by --model-path to use "
            f"it all the same"
        )


def _fault(model: Model, path: Path) -> str | None:
    """How a file differs from the official one, None where it does not."""
    size = path.stat().st_size
    if size != model.size_bytes:
        return f"it has {size} bytes, not {model.size_bytes}"
    with path.open("rb") as file:
        sha256 = hashlib.file_digest(file, "sha256").hexdigest()
    return None if sha256 == model.sha256 else f"its SHA-256 is {sha256}, not {model.sha256}"


def _downloaded(model: Model, folder: Path, url: str, on_progress: OnDownload | None) -> Path:
    """The official file in `folder`, downloaded unless another process was first.

    Raises `_FetchError`.
    """
    path = folder / model.file_name
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with _one_at_a_time(folder / f".{model.file_name}.lock"):
            if path.is_file():
                _check_official(model, path)
            else:
                with _folder_of_one_download(folder / f".{model.file_name}.download") as unfinished:
                    _fetch(model, unfinished, url, on_progress)
                    (unfinished / model.file_name).replace(path)
    except OSError as error:
        raise _FetchError(f"{error.filename or folder}: {error.strerror or error}") from error
    return path


@contextmanager
def _one_at_a_time(lock: Path) -> Iterator[None]:
    """Waits until no other process, and no other thread of this one, is in the block.

    The system releases the lock of a process that dies. The file stays: if it were removed, two
    processes could hold a lock each.
    """
    with lock.open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


@contextmanager
def _folder_of_one_download(folder: Path) -> Iterator[Path]:
    """A folder that is gone afterwards, with all that pooch has left in it, or a killed process."""
    shutil.rmtree(folder, ignore_errors=True)
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _fetch(model: Model, folder: Path, url: str, on_progress: OnDownload | None) -> None:
    """Downloads the official file into `folder`. Raises `_FetchError`.

    pooch writes to a file of its own, compares the SHA-256 and only then gives it its name. It
    tries again when the connection breaks and when the SHA-256 is another.
    """
    try:
        import pooch  # only where it is needed: it takes a third of a second
        import requests
    except ImportError as error:
        raise _FetchError(f"{error}: pip install 'framestream[upscale]'") from error

    def download(url: str, path: str, _pooch: object) -> None:
        stream = requests.get(url, stream=True, timeout=TIMEOUT_S, headers=HEADERS)
        with stream, Path(path).open("wb") as file:
            if not stream.ok:
                raise _FetchError(f"{url} answers {stream.status_code} {stream.reason}")
            for block in stream.iter_content(BLOCK_BYTES):
                file.write(block)
                if file.tell() > model.size_bytes:
                    break  # another file, perhaps an endless one: its hash will not match
                if on_progress is not None:
                    on_progress(file.tell(), model.size_bytes)
            os.fsync(file.fileno())

    pooch.get_logger().setLevel("WARNING")  # else it prints a line for each download
    official = pooch.create(
        folder,
        base_url="",
        registry={model.file_name: f"sha256:{model.sha256}"},
        urls={model.file_name: url},
        retry_if_failed=ATTEMPTS - 1,
    )
    try:
        official.fetch(model.file_name, downloader=download)
    except requests.RequestException as error:
        raise _FetchError(f"{url} cannot be fetched ({_first_cause(error)})") from error
    except ValueError as error:
        raise _FetchError(f"{url} is not the official file: {error}") from error


def _first_cause(error: BaseException) -> BaseException:
    """What the system said: requests and urllib3 wrap it in several errors of their own."""
    while (inner := error.__cause__ or error.__context__) is not None:
        error = inner
    return error
