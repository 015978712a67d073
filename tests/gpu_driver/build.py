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
    for name, sources in LIBRARIES.items():
        used = [] if name == "libcuda.so.1" else [folder / "libcuda.so.1"]
        command = [
            *(compiler, "-std=gnu11", "-O2", "-Wall", "-Wextra", "-Werror", "-shared", "-fPIC"),
            *("-pthread", "-fvisibility=default", f"-Wl,-soname,{name}", "-Wl,-rpath,$ORIGIN"),
            "-Wl,-z,nodelete",  # FFmpeg unloads the driver, whose lists must stay
            *("-o", folder / name, *(HERE / source for source in sources), *used),
        ]
        subprocess.run(command, check=True, capture_output=True, text=True)
