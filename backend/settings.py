"""The server's settings, read from the environment and from an `.env` file in the working folder.

A variable has its field's name in capitals: `DATABASE_URL`, `MODAL_ENABLED`, ... This module opens
nothing but `.env`.
"""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field, SecretStr
from pydantic_settings import BaseSettings, SettingsConfigDict

from engine.timing import DEFAULT_KEY_INTERVAL_S, KEY_INTERVALS_S

MIB = 1 << 20

Count = Annotated[int, Field(ge=1)]
KeyInterval = Annotated[float, Field(ge=float(KEY_INTERVALS_S[0]), le=float(KEY_INTERVALS_S[1]))]


class ModalFallback(StrEnum):
    """What happens to a job that Modal cannot take: it fails, or it is rendered here."""

    NONE = "none"
    LOCAL = "local"


class Settings(BaseSettings):
    """Every setting of the server, with its default."""

    model_config = SettingsConfigDict(env_file=".env", extra="ignore", frozen=True)

    data_dir: Path = Path("framestream-data")
    """Folder of the database, the local store, the work folders and the signing secret."""
    database_url: SecretStr | None = None
    """`postgresql+psycopg://...`. If unset, SQLite in the data folder."""

    trust_user_header: bool = False
    """The user is `X-User-ID`. Use only behind a proxy that sets it."""
    cors_origins: list[str] = []
    allowed_hosts: list[str] = ["localhost", "127.0.0.1", "[::1]", "testserver"]
    """Host names accepted while there is no API key, against DNS rebinding."""
    public_url: str = ""
    """Prefix of this server's signed URLs: `https://video.example.org`."""
    url_lifetime_s: Annotated[int, Field(ge=1, le=7 * 86_400)] = 3600

    max_request_bytes: Count = 8 << 30
    max_clips: Annotated[int, Field(ge=1, le=500)] = 100
    max_field_bytes: Count = 4 * MIB
    max_output_frames: Count = 30 * 60 * 60
    """Longest export in frames: an hour at 30 fps."""
    upload_idle_s: Annotated[float, Field(gt=0)] = 30
    """Longest pause in an upload, and longest time for a request's head."""
    upload_min_bytes_per_s: Annotated[float, Field(ge=0)] = 1024
    """Slowest upload, on average, after the first `upload_idle_s`."""
    min_free_bytes: Annotated[int, Field(ge=0)] = 512 * MIB
    """Uploads that would leave less free disk space are refused (507)."""

    queue_limit: Count = 100
    queue_limit_per_user: Count = 20
    local_jobs: Count = 1
    """How many jobs are rendered here at once. They share processors and memory equally."""
    chunk_workers: Literal["auto"] | Count = "auto"
    """How many chunks of a job are rendered here at once, like `--workers`."""
    modal_jobs: Count = 4
    max_attempts: Count = 3
    """How often a job whose worker crashes is started."""

    upscaler: str = "auto"
    encoder: str = "auto"
    encoder_options: dict[str, str] = {}
    """Passed on to the encoder, like `--encoder-option`."""
    key_interval_s: KeyInterval = float(DEFAULT_KEY_INTERVAL_S)
    """From one key frame of a film to the next, where its edit has no `keyInterval`."""

    modal_enabled: bool = False
    modal_fallback: ModalFallback = ModalFallback.NONE

    @property
    def database(self) -> str:
        """The database's URL. It holds the password."""
        if self.database_url is not None:
            return self.database_url.get_secret_value()
        return f"sqlite:///{(self.data_dir / 'framestream.db').absolute()}"

    @property
    def workers(self) -> int | None:
        """Chunks of a job at a time; None for as many as its part of this machine carries."""
        return None if self.chunk_workers == "auto" else self.chunk_workers

    @property
    def work_dir(self) -> Path:
        """Has a folder per upload and job, which is removed with it."""
        return self.data_dir / "work"

    @property
    def upload_dir(self) -> Path:
        """Holds unfinished uploads of clips."""
        return self.data_dir / "uploads"
