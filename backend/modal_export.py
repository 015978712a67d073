"""One export on Modal from the command line, without a server.

    python -m backend.modal_export edit.json -o reel.mp4

Uploads the files that the bucket does not have, follows the export and fetches the film. The same
edit of the same files is the same job: after a lost connection, run the same command again to get
the result.
"""

from __future__ import annotations

import asyncio
import hashlib
import json
import os
from pathlib import Path
from typing import Annotated, Any

import typer

from backend.modal_client import (
    ExportJob,
    ModalProgress,
    cancel_export,
    follow_export,
    start_export,
)
from engine.destination import FILM_SUFFIXES, output_file
from engine.errors import EngineError
from engine.media.fingerprint import fingerprint
from engine.storage import S3Store, Store, s3_settings, user_key
from engine.timeline.edit import Edit

app = typer.Typer(add_completion=False, pretty_exceptions_enable=False)


@app.command()
def export(
    edit: Annotated[Path, typer.Argument(metavar="EDIT.json", show_default=False)],
    output: Annotated[Path, typer.Option("--output", "-o", metavar="OUT.mp4")],
    user: Annotated[str, typer.Option(help="Whose folder of the bucket is used.")] = "me",
    upscaler: Annotated[str, typer.Option(metavar="auto|none|NAME")] = "auto",
    max_containers: Annotated[int, typer.Option(min=1)] = 10,
) -> None:
    """Export an edit on Modal. R2_* in the environment name the bucket."""
    try:
        film = output_file(output, suffixes=FILM_SUFFIXES, keep={edit: "the edit"})
        store = S3Store(s3_settings(os.environ))
        job = _job(edit, user, upscaler, max_containers, store)
        result = asyncio.run(_run_export(job, store))
        if result["status"] != "success":
            raise EngineError(result["error"])
        store.get_file(job.output_key, film)
    except EngineError as error:
        typer.echo(f"error: {error}", err=True)
        raise typer.Exit(1) from None
    for warning in result["warnings"]:
        typer.echo(f"warning: {warning}", err=True)
    containers = result["containers"]
    typer.echo(f"{output}: {result['duration']:.1f} s, {containers['containers']} containers")
    typer.echo(containers["why"])


def _job(edit: Path, user: str, upscaler: str, max_containers: int, store: Store) -> ExportJob:
    """The job of an edit. Uploads the sources that the bucket does not have."""
    document = Edit.load(edit).to_document()
    keys: dict[str, str] = {}
    for clip in document["clips"]:
        name = clip["fileName"]
        if name not in keys:
            keys[name] = _upload_source(edit.parent / name, user, store)
    asked: dict[str, Any] = {
        "edit": document,
        "source_keys": keys,
        "upscaler": upscaler,
        "max_containers": max_containers,
    }
    job_id = hashlib.sha256(json.dumps(asked, sort_keys=True).encode()).hexdigest()[:16]
    output_key = user_key(user, "exports", f"{job_id}.mp4")
    return ExportJob(job_id=job_id, user_id=user, output_key=output_key, **asked)


def _upload_source(path: Path, user: str, store: Store) -> str:
    """The key of a source, made from its content. Uploads it if needed."""
    try:
        key = user_key(user, "sources", fingerprint(path) + path.suffix.lower())
    except OSError as error:
        raise EngineError(f"{path}: cannot be read: {(error.strerror or '').lower()}") from error
    if store.stat(key) is None:
        typer.echo(f"uploading {path}")
        store.put_file(key, path)
    return key


async def _run_export(job: ExportJob, store: Store) -> dict[str, Any]:
    starting = asyncio.ensure_future(start_export(job, store))
    call_id = None
    try:
        call_id = await asyncio.shield(starting)
        return await follow_export(call_id, job, store, _print_progress)
    except asyncio.CancelledError:  # Ctrl-C
        if call_id is None:  # a call that was asked for may exist
            await asyncio.wait([starting])
            call_id = None if starting.exception() else starting.result()
        await cancel_export(call_id, job, store)
        raise


def _print_progress(progress: ModalProgress) -> None:
    about = "about " if progress.estimated else ""
    typer.echo(f"{about}{progress.percent:5.1f} %  {progress.message}")


if __name__ == "__main__":
    app()
