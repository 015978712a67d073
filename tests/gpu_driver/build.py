"""Builds the stand-in driver: three shared libraries, by the system's C compiler."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

HERE = Path(__file__).parent
LIBRARIES = {
    "libcuda.so.1": ("cuda.c", "bookkeeping.c"),
    "libnvcuvid.so.1": ("nvcuvid.c", "h264.c"),
    "libnvidia-encode.so.1": ("nvenc.c", "nvenc_pictures.c", "h264.c"),
}
"""In this order: the last two use the first."""


def compiler() -> str | None:
    """The system's C compiler, where there is one."""
    return shutil.which("cc") or shutil.which("gcc")


def build(compiler: str, folder: Path) -> None:
    """Writes the libraries into `folder`. A warning is an error."""
    options = [
        *("-std=gnu11", "-O2", "-Wall", "-Wextra", "-Werror", "-shared", "-fPIC", "-pthread"),
        "-Wl,-z,nodelete",  # FFmpeg unloads the driver, whose lists must stay
        "-Wl,-rpath,$ORIGIN",
    ]
    for name, sources in LIBRARIES.items():
        files = [str(HERE / source) for source in sources]
        if name != "libcuda.so.1":
            files.append(str(folder / "libcuda.so.1"))
        command = [compiler, *options, f"-Wl,-soname,{name}", "-o", str(folder / name), *files]
        done = subprocess.run(command, capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
