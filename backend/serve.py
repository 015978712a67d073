"""The commands `framestream serve` and `framestream key`."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated

import typer

LOOPBACK_HOSTS = {"127.0.0.1", "::1", "localhost"}


def serve(
    host: Annotated[str, typer.Option(help="Address to listen on.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(help="Port; 0 takes a free one.", min=0, max=65535)] = 8000,
    data_dir: Annotated[
        Path | None,
        typer.Option(help="Folder of the database, clips and videos (framestream-data)."),
    ] = None,
) -> None:
    """Serve exports over HTTP.

    Without API keys (see [bold]framestream key[/bold]) it listens on this machine only.
    Settings come from the environment: DATABASE_URL, R2_*, MODAL_ENABLED and others.
    """
    with _backend_extra():
        from backend.access import Access
        from backend.database import Database
        from backend.logs import configure_logs
        from backend.server import run
        from backend.settings import Settings
    from engine.errors import EngineError

    settings = Settings() if data_dir is None else Settings(data_dir=data_dir)
    configure_logs()
    try:
        if host not in LOOPBACK_HOSTS:
            settings.data_dir.mkdir(parents=True, exist_ok=True)
            database = Database(settings.database)
            database.migrate()
            if Access(settings, database).is_unauthenticated():
                typer.echo(
                    f"no API keys are configured: listening on 127.0.0.1 and not on {host} "
                    "(framestream key USER makes one; or set TRUST_USER_HEADER=true behind a proxy)",
                    err=True,
                )
                host = "127.0.0.1"
            database.close()
        run(settings, host, port)
    except (EngineError, OSError) as error:
        typer.echo(f"error {error}", err=True)
        raise typer.Exit(1) from None


def key(
    user: Annotated[str, typer.Argument(metavar="USER", help="User that the key is for.")],
    data_dir: Annotated[
        Path | None, typer.Option(help="The server's data folder (framestream-data).")
    ] = None,
) -> None:
    """Make an API key for a user, and show it once.

    From the first key on, the server refuses every request without a key.
    """
    with _backend_extra():
        from backend.access import Access
        from backend.database import Database
        from backend.settings import Settings

    settings = Settings() if data_dir is None else Settings(data_dir=data_dir)
    settings.data_dir.mkdir(parents=True, exist_ok=True)
    database = Database(settings.database)
    database.migrate()
    try:
        typer.echo(Access(settings, database).make_key(user))
    except ValueError as error:
        typer.echo(f"error {error}", err=True)
        raise typer.Exit(2) from None
    finally:
        database.close()


@contextmanager
def _backend_extra() -> Iterator[None]:
    """Exits with a hint if the libraries of the server are not installed."""
    try:
        yield
    except ModuleNotFoundError as error:
        install = "pip install 'framestream[backend]'"
        typer.echo(f"error the server needs {error.name}: {install}", err=True)
        raise typer.Exit(1) from None
