"""Which keys a clip may have: those that end in what its file is."""

from __future__ import annotations

import socket
import subprocess
from base64 import b64encode
from contextlib import closing
from pathlib import Path

import httpx
import pytest

from backend.clip_names import SUFFIXES
from engine.media.container import CONTAINERS
from engine.storage.media_types import SHOWN, is_shown
from tests.media import needs_ffmpeg

SOUND = {"mp3", "wav", "flac", "aac", "w64", "aiff"}
"""Containers that hold no video."""


def test_every_container_that_may_hold_a_film_has_suffixes() -> None:
    aliases = {"mp4", "m4a", "3gp", "3g2", "mj2", "webm"}  # of mov and matroska
    assert set(SUFFIXES) == set(CONTAINERS.split(",")) - SOUND - aliases


def test_no_suffix_of_a_film_is_shown_as_anything_else() -> None:
    kinds = {SHOWN[each] for many in SUFFIXES.values() for each in many if is_shown(f"a{each}")}
    assert {each.split("/")[0] for each in kinds} - {"video"} == {"image"}  # GIF


@pytest.mark.parametrize("key", ["evil.html", "evil.SVG", "evil.mp4.js", "evil", "a.mp4.", "a.m4a"])
def test_what_no_film_is_called_is_refused_before_it_is_sent(
    client: httpx.Client, key: str
) -> None:
    address = (client.base_url.host, client.base_url.port or 0)
    with closing(socket.create_connection(address, timeout=30)) as raw:
        head = f"PUT /api/clips/{key} HTTP/1.1\r\nHost: localhost\r\nContent-Length: 8000000000"
        raw.sendall(f"{head}\r\n\r\n".encode())  # and not one of its bytes
        answer = b""
        while not answer.endswith(b"}"):
            piece = raw.recv(65536)
            assert piece, answer
            answer += piece
    assert answer.startswith(b"HTTP/1.1 422 ")
    assert f"key: {key} must end in what the file is, such as .mp4".encode() in answer
    name = {"Upload-Metadata": f"filename {b64encode(key.encode()).decode()}"}
    tus = client.post(
        "/api/uploads", headers={"Tus-Resumable": "1.0.0", "Upload-Length": "8000000000", **name}
    )
    assert tus.status_code == 422 and key in tus.json()["detail"]
    assert not list((Path(client.headers["X-Data-Dir"]) / "uploads").iterdir())


@needs_ffmpeg
@pytest.mark.parametrize(
    ("arguments", "fits", "differs", "endings"),
    [
        ("-f mp4", ["a.mp4", "A.MOV", "a.m4v", "a.3gp"], "a.mkv", ".mp4 or .mov or .m4v"),
        ("-f matroska", ["a.mkv", "a.webm"], "a.mp4", ".mkv or .webm"),
        ("-f avi", ["a.avi"], "a.mov", ".avi"),
        ("-f mpegts", ["a.ts", "a.MTS", "a.m2ts"], "a.mp4", ".ts or .mts or .m2ts"),
        ("-f mpeg -c:v mpeg2video", ["a.mpg", "a.vob"], "a.avi", ".mpg or .mpeg"),
        ("-f flv", ["a.flv"], "a.mp4", ".flv"),
        ("-f asf", ["a.wmv"], "a.avi", ".wmv or .asf"),
        ("-f gif", ["a.gif"], "a.mp4", ".gif"),
        ("-f h264", ["a.h264"], "a.mp4", ".h264"),
    ],
)
def test_a_key_ends_in_what_the_file_is(
    client: httpx.Client,
    tmp_path: Path,
    arguments: str,
    fits: list[str],
    differs: str,
    endings: str,
) -> None:
    film = tmp_path / "film"
    source = "-f lavfi -i testsrc=size=96x96:rate=25:duration=0.2 -pix_fmt yuv420p"
    subprocess.run(["ffmpeg", "-v", "error", *f"{source} {arguments}".split(), film], check=True)
    for key in fits:
        answer = client.put(f"/api/clips/{key}", content=film.read_bytes())
        assert answer.status_code == 201, answer.text
        client.delete(f"/api/clips/{key}")
    answer = client.put(f"/api/clips/{differs}", content=film.read_bytes())
    assert answer.status_code == 422
    assert answer.json()["detail"].startswith(
        f"key: {differs} must end in what the file is: {endings}"
    )
    assert client.get("/api/clips").json() == {"clips": []}
    assert not list((Path(client.headers["X-Data-Dir"]) / "uploads").iterdir())


def test_a_clip_of_an_older_version_is_still_used(client: httpx.Client, clips: list[Path]) -> None:
    folder = Path(client.headers["X-Data-Dir"]) / "store" / "local" / "clips"
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "old").write_bytes(clips[1].read_bytes())
    assert client.get("/api/clips/old").json()["file"]["codec"] == "h264"
    assert client.put("/api/clips/old", content=clips[1].read_bytes()).status_code == 200
    saved = client.get("/api/clips/old/file", follow_redirects=True)
    assert saved.headers["Content-Disposition"] == "attachment"
    assert client.delete("/api/clips/old").status_code == 204
