"""The commands `framestream serve` and `framestream key`."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, NoReturn

import typer

if TYPE_CHECKING:
    from backend.api_keys import KeyFacts

MINUTE = "%Y-%m-%dT%H:%MZ"
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
                    "(framestream key USER makes one; or set TRUST_USER_HEADER=true behind a "
                    "proxy)",
                    err=True,
                )
                host = "127.0.0.1"
            database.close()
        run(settings, host, port)
    except (EngineError, OSError) as error:
        _fail(str(error), 1)


def key(
    user: Annotated[
        str | None, typer.Argument(metavar="USER", help="User that a new key is for.")
    ] = None,
    show_list: Annotated[
        bool, typer.Option("--list", help="List all keys: id, user, dates, open logins. No secret.")
    ] = False,
    revoke: Annotated[
        str | None,
        typer.Option(metavar="ID", help="Revoke the key with this id, and end its logins."),
    ] = None,
    data_dir: Annotated[
        Path | None, typer.Option(help="The server's data folder (framestream-data).")
    ] = None,
) -> None:
    """Make an API key for a user, and show it once. Or list keys, or revoke one.

    From the first key on, the server refuses every request without a key.
    It does so too when all keys are revoked. A revoked key is refused at once.
    """
    with _backend_extra():
        from sqlalchemy.exc import SQLAlchemyError

        from backend.api_keys import ApiKeys
        from backend.database import Database, reason_of
        from backend.settings import Settings
    from engine.errors import EngineError

    if [user is not None, show_list, revoke is not None].count(True) != 1:
        _fail("name either a USER, or --list, or --revoke ID", 2)
    settings = Settings() if data_dir is None else Settings(data_dir=data_dir)
    try:
        with closing(Database(settings.database)) as database:
            if user is not None:  # it may be what comes first of all
                settings.data_dir.mkdir(parents=True, exist_ok=True)
            database.migrate()
            keys = ApiKeys(database)
            if user is not None:
                typer.echo(keys.make(user))
            elif revoke is not None:
                was = keys.revoke(revoke)
                typer.echo(f"revoked {was.id} of {was.user_id}; logins ended: {was.open_sessions}")
            else:
                _show(keys.list())
    except ValueError as error:
        _fail(str(error), 2)
    except SQLAlchemyError as error:
        _fail(reason_of(error), 1)
    except (EngineError, OSError) as error:
        _fail(str(error), 1)


def _show(keys: Sequence[KeyFacts]) -> None:
    """Prints a line per key, in columns."""
    rows = [("ID", "USER", "CREATED", "REVOKED", "LOGINS")]
    for each in keys:
        revoked = each.revoked_at and f"{each.revoked_at:{MINUTE}}"
        created = f"{each.created_at:{MINUTE}}"
        rows.append((each.id, each.user_id, created, revoked or "-", str(each.open_sessions)))
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    for row in rows:
        cells = (cell.ljust(width) for cell, width in zip(row, widths, strict=True))
        typer.echo("  ".join(cells).rstrip())


def _fail(reason: str, exit_code: int) -> NoReturn:
    typer.echo(f"error {reason}", err=True)
    raise typer.Exit(exit_code)


@contextmanager
def _backend_extra() -> Iterator[None]:
    """Exits with a hint if the libraries of the server are not installed."""
    try:
        yield
    except ModuleNotFoundError as error:
        _fail(f"the server needs {error.name}: pip install 'framestream[backend]'", 1)
