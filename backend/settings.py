"""What an operator decides, read from the environment (and from an `.env` file beside the server).

Names are those of the fields in capitals: `DATABASE_URL`, `MODAL_ENABLED`, ... Knows no route and
opens nothing.
"""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import Annotated

from pydantic import Field, SecretStr
from pydantic_settings import BaseSettings, SettingsConfigDict

MIB = 1 << 20

Count = Annotated[int, Field(ge=1)]


class ModalFallback(StrEnum):
    """What becomes of a job that Modal cannot take."""

    NONE = "none"
    LOCAL = "local"


class Settings(BaseSettings):
    """Every setting of the server, with its default."""

    model_config = SettingsConfigDict(env_file=".env", extra="ignore", frozen=True)

    data_dir: Path = Path("framestream-data")
    """Database, local store, work folders and the signing secret lie here."""
    database_url: SecretStr | None = None
    """`postgresql+psycopg://...`; without one, SQLite in the data folder."""

    trust_user_header: bool = False
    """The user is `X-User-ID`: only behind a proxy that sets it."""
    cors_origins: list[str] = []
    allowed_hosts: list[str] = ["localhost", "127.0.0.1", "[::1]", "testserver"]
    """Host names answered to while no key is configured, against DNS rebinding."""
    public_url: str = ""
    """Put in front of signed URLs of this server: `https://video.example.org`."""
    url_lifetime_s: Annotated[int, Field(ge=1, le=7 * 86_400)] = 3600

    max_request_bytes: Count = 8 << 30
    max_clips: Annotated[int, Field(ge=1, le=500)] = 100
    max_field_bytes: Count = 4 * MIB
    max_output_frames: Count = 30 * 60 * 60
    """Longest export, in frames: an hour at 30 fps."""
    upload_idle_s: Annotated[float, Field(gt=0)] = 30
    """Longest silence in an upload, and longest wait for a request's head."""
    upload_min_bytes_per_s: Annotated[float, Field(ge=0)] = 1024
    """Slowest upload, on average after the first `upload_idle_s`."""
    min_free_bytes: Annotated[int, Field(ge=0)] = 512 * MIB
    """Uploads are refused (507) when less of the disk is free."""

    queue_limit: Count = 100
    queue_limit_per_user: Count = 20
    local_jobs: Count = 1
    """Jobs rendered here at once: one per GPU."""
    modal_jobs: Count = 4
    max_attempts: Count = 3
    """How often a job is begun whose worker dies of itself."""

    upscaler: str = "auto"
    encoder: str = "auto"
    encoder_options: dict[str, str] = {}
    """Passed on to the encoder, as by `--encoder-option`."""

    modal_enabled: bool = False
    modal_fallback: ModalFallback = ModalFallback.NONE

    @property
    def database(self) -> str:
        """The database's URL; holds its password."""
        if self.database_url is not None:
            return self.database_url.get_secret_value()
        return f"sqlite:///{(self.data_dir / 'framestream.db').absolute()}"

    @property
    def work_dir(self) -> Path:
        """A folder per upload and job; nothing in it outlives them."""
        return self.data_dir / "work"

    @property
    def upload_dir(self) -> Path:
        """Clips that have not come whole yet."""
        return self.data_dir / "uploads"
