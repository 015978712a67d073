"""The commands of the server."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from backend.installation import data_dir_lock
from backend.settings import Settings
from engine.errors import EngineError


def test_one_server_per_data_folder(tmp_path: Path) -> None:
    refused = pytest.raises(EngineError, match="another server is working here")
    with data_dir_lock(tmp_path), refused, data_dir_lock(tmp_path):
        pass


def test_settings_come_from_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DATABASE_URL", "postgresql+psycopg://me:secret@host/db")
    monkeypatch.setenv("CORS_ORIGINS", '["https://app.example"]')
    monkeypatch.setenv("MODAL_FALLBACK", "local")
    settings = Settings()
    assert settings.database.endswith("secret@host/db")
    assert settings.cors_origins == ["https://app.example"]
    assert settings.modal_fallback == "local"
    assert "secret" not in repr(settings)


@pytest.mark.parametrize("command", [["serve"], ["key", "anna"]])
def test_missing_libraries_are_named(command: list[str], tmp_path: Path) -> None:
    without = (
        "import sys; sys.modules['fastapi'] = None; sys.argv[0] = 'framestream'; "
        "from engine.cli.main import main; main()"
    )
    done = subprocess.run(
        [sys.executable, "-c", without, *command], cwd=tmp_path, capture_output=True, text=True
    )
    assert done.returncode == 1
    assert done.stderr == "error the server needs fastapi: pip install 'framestream[backend]'\n"
    assert not list(tmp_path.iterdir())
