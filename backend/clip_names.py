"""What the key of a clip may end in. By its suffix a browser is told what the file is."""

from __future__ import annotations

from pathlib import PurePosixPath

from backend.export_form import refuse

SUFFIXES = {
    "mov": (".mp4", ".mov", ".m4v", ".qt", ".3gp", ".3g2", ".f4v", ".mj2", ".insv", ".lrv"),
    "matroska": (".mkv", ".webm", ".mk3d"),
    "avi": (".avi", ".divx"),
    "mpegts": (".ts", ".mts", ".m2ts", ".m2t", ".tp", ".trp", ".tod", ".mpg", ".mpeg"),
    "mpeg": (".mpg", ".mpeg", ".vob", ".mod", ".m2p"),
    "mpegvideo": (".mpg", ".mpeg", ".mpv", ".m1v", ".m2v"),
    "m4v": (".m4v", ".mpeg4"),
    "asf": (".wmv", ".asf"),
    "flv": (".flv",),
    "mxf": (".mxf",),
    "ogg": (".ogv", ".ogg", ".ogm"),
    "nut": (".nut",),
    "ivf": (".ivf",),
    "gif": (".gif",),
    "h264": (".h264", ".264", ".avc", ".h26l"),
    "hevc": (".hevc", ".265", ".h265"),
    "av1": (".obu", ".av1"),
    "yuv4mpegpipe": (".y4m",),
    "dv": (".dv", ".dif"),
}
"""Suffixes of film files, most usual first, by container (`SourceInfo.container`)."""

_ANY = {suffix for suffixes in SUFFIXES.values() for suffix in suffixes}


def check_is_film(key: str) -> None:
    """Refuses a key that no film ends in, before its bytes are sent. Raises `HTTPException` 422."""
    if _suffix(key) not in _ANY:
        refuse(422, "key", f"{key} must end in what the file is, such as .mp4, .mov or .mkv")


def check_is_in(key: str, container: str) -> None:
    """Refuses a key that does not end in what its file is. Raises `HTTPException` 422."""
    fitting = SUFFIXES.get(container)
    if fitting is None:
        refuse(422, "key", f"{key} is a {container} file, which is not taken as a clip")
    if _suffix(key) not in fitting:
        refuse(422, "key", f"{key} must end in what the file is: {' or '.join(fitting[:3])}")


def _suffix(key: str) -> str:
    return PurePosixPath(key).suffix.lower()
