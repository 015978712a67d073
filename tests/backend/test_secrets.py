"""Secrets: the signing key is whole or not there, and logs hold none."""

from __future__ import annotations

import json
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from backend.signed_urls import UrlSigner
from engine.errors import EngineError

SIGNER = "from pathlib import Path; from backend.signed_urls import UrlSigner; "
CREATE = "UrlSigner.load_or_create(Path(sys.argv[1]), '')"


def test_all_who_come_at_once_sign_with_one_secret(tmp_path: Path) -> None:
    with ThreadPoolExecutor(8) as pool:
        signers = list(pool.map(lambda _: UrlSigner.load_or_create(tmp_path, ""), range(8)))
    assert len({signer.secret for signer in signers}) == 1
    (key,) = tmp_path.iterdir()
    assert key.stat().st_size == 32 and key.stat().st_mode & 0o777 == 0o600


def test_a_full_disk_leaves_no_key(tmp_path: Path) -> None:
    """A limit on the size of files is the disk that has no room for 32 bytes."""
    full = "import resource, sys; resource.setrlimit(resource.RLIMIT_FSIZE, (16, 16)); "
    done = subprocess.run(
        [sys.executable, "-c", full + SIGNER + CREATE, str(tmp_path)],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode != 0 and "OSError" in done.stderr
    assert list(tmp_path.iterdir()) == []
    assert len(UrlSigner.load_or_create(tmp_path, "").secret) == 32


@pytest.mark.parametrize("content", [b"", b"x" * 31, b"x" * 33])
def test_what_is_no_key_is_refused(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "signing.key").write_bytes(content)
    with pytest.raises(EngineError, match=rf"signing\.key: holds {len(content)} bytes and not 32"):
        UrlSigner.load_or_create(tmp_path, "")
    assert (tmp_path / "signing.key").read_bytes() == content


def test_a_server_with_a_damaged_key_says_what_to_do(tmp_path: Path) -> None:
    (tmp_path / "signing.key").touch()
    done = subprocess.run(
        [sys.executable, "-m", "engine", "serve", "--port", "0", "--data-dir", str(tmp_path)],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 1
    assert done.stderr.startswith(f"error {tmp_path}/signing.key: holds 0 bytes")
    assert "delete it" in done.stderr and len(done.stderr.splitlines()) == 1


def test_a_traceback_in_the_log_holds_no_local_variable() -> None:
    code = (
        "import structlog; from backend.logs import configure_logs; configure_logs()\n"
        "def connect(password):\n"
        "    raise ValueError('refused')\n"
        "try:\n"
        "    connect(''.join(['hun', 'ter2']))\n"
        "except ValueError:\n"
        "    structlog.get_logger().exception('the database refuses')\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=True
    )
    (line,) = done.stderr.splitlines()
    logged = json.loads(line)
    assert logged["event"] == "the database refuses"
    assert logged["exception"][0]["exc_value"] == "refused"
    assert [frame["name"] for frame in logged["exception"][0]["frames"]] == ["<module>", "connect"]
    assert "hunter2" not in line
