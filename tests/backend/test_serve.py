"""The commands of the server."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from backend.settings import Settings


def test_settings_come_from_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DATABASE_URL", "postgresql+psycopg://me:secret@host/db")
    monkeypatch.setenv("CORS_ORIGINS", '["https://app.example"]')
    monkeypatch.setenv("MODAL_FALLBACK", "local")
    settings = Settings()
    assert settings.database.endswith("secret@host/db")
    assert settings.cors_origins == ["https://app.example"]
    assert settings.modal_fallback == "local"
    assert "secret" not in repr(settings)


@pytest.mark.parametrize(
    ("command", "library"), [(["serve"], "fastapi"), (["key", "anna"], "alembic")]
)
def test_missing_libraries_are_named(command: list[str], library: str, tmp_path: Path) -> None:
    without = (
        f"import sys; sys.modules[{library!r}] = None; sys.argv[0] = 'framestream'; "
        "from engine.cli.main import main; main()"
    )
    done = subprocess.run(
        [sys.executable, "-c", without, *command], cwd=tmp_path, capture_output=True, text=True
    )
    assert done.returncode == 1
    assert done.stderr == f"error the server needs {library}: pip install 'framestream[backend]'\n"
    assert not list(tmp_path.iterdir())
