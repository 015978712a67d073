"""The command line. The only place in the engine that prints, reads signals and exits.

Commands import what they use when they run, so that `--help` answers at once.
"""

from __future__ import annotations

import os
import re
import signal
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import timedelta
from enum import StrEnum
from fractions import Fraction
from importlib.metadata import entry_points
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING, Annotated, NoReturn

import typer
from rich.console import Console
from rich.text import Text

from engine.errors import (
    Cancelled,
    EditError,
    EncoderError,
    EngineError,
    StoreError,
    UpscalerError,
)

if TYPE_CHECKING:
    from engine.media.encoders import Encoder
    from engine.pipeline.cache import StoreCache
    from engine.pipeline.report import Report
    from engine.timeline.plan import Plan
    from engine.upscale.stage import Upscaler

EXIT_FAILED, EXIT_BAD_EDIT, EXIT_CANCELLED = 1, 2, 130

app = typer.Typer(
    name="framestream",
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode="rich",
    pretty_exceptions_enable=False,
    help="Export highlight reels: crop, retime, join and encode in one pass.\n\n"
    "Start with [bold]framestream demo[/bold]: it makes its own footage and renders a reel.",
    epilog="Exit codes: 0 done, 1 failed, 2 bad edit or bad option, 130 cancelled.",
)


class Device(StrEnum):
    """Where an upscaling network runs."""

    AUTO = "auto"
    CPU = "cpu"
    CUDA = "cuda"


EditArgument = Annotated[
    Path, typer.Argument(metavar="EDIT.json", help="The edit document.", show_default=False)
]

UpscalerOption = Annotated[
    str,
    typer.Option(
        metavar="auto|none|NAME",
        help="How crops are enlarged: [bold]auto[/bold] runs a network where there is CUDA, "
        "[bold]none[/bold] is bicubic; NAME is realesr-general-x4v3, realesrgan (the best, and "
        "slow), or another that [bold]framestream doctor[/bold] lists.",
    ),
]
DeviceOption = Annotated[Device, typer.Option(help="Where the network runs.")]
ModelPathOption = Annotated[
    Path | None, typer.Option(metavar="FILE", help="A checkpoint to use for the network NAME.")
]
DenoiseOption = Annotated[
    float, typer.Option(help="1 to 0, of realesr-general-x4v3: how much noise is taken away.")
]
EncoderOption = Annotated[
    str,
    typer.Option(
        metavar="auto|h264_nvenc|hevc_nvenc|libx264",
        help="[bold]auto[/bold] takes h264_nvenc where it opens, else libx264.",
    ),
]
LenientOption = Annotated[
    bool, typer.Option("--allow-unknown-keys", help="Unknown keys of the edit only warn.")
]


@app.command()
def render(
    edit: EditArgument,
    output: Annotated[
        Path, typer.Option("--output", "-o", metavar="OUT.mp4", help="The file to write.")
    ],
    upscaler: UpscalerOption = "auto",
    device: DeviceOption = Device.AUTO,
    model_path: ModelPathOption = None,
    denoise: DenoiseOption = 1.0,
    encoder: EncoderOption = "auto",
    quality: Annotated[
        float | None,
        typer.Option(help="Constant quality, lower is better: crf of libx264 (18), cq of NVENC."),
    ] = None,
    preset: Annotated[
        str | None, typer.Option(help="The encoder's preset: veryfast for libx264, p5 for NVENC.")
    ] = None,
    encoder_option: Annotated[
        list[str] | None,
        typer.Option(metavar="KEY=VALUE", help="Passed on to the encoder; may be repeated."),
    ] = None,
    workers: Annotated[
        int,
        typer.Option(
            "--workers",
            metavar="N",
            min=1,
            help="Render N chunks at a time, each in a process of its own: one per GPU, or a few "
            "on a CPU with more cores than libx264 keeps busy.",
        ),
    ] = 1,
    cache: Annotated[
        Path | None,
        typer.Option(
            metavar="FOLDER",
            envvar="FRAMESTREAM_CACHE_DIR",
            help="Keep finished chunks there for other exports, and take from there what they "
            "share with this one.",
        ),
    ] = None,
    work_dir: Annotated[
        Path | None, typer.Option(help="Where finished chunks lie (OUT.mp4.parts).")
    ] = None,
    keep_parts: Annotated[
        bool, typer.Option("--keep-parts", help="Keep the finished chunks after success.")
    ] = False,
    strict: Annotated[
        bool, typer.Option("--strict", help="Any damage in a source is an error.")
    ] = False,
    lenient: LenientOption = False,
    report: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Write what was done, and why, as JSON.")
    ] = None,
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="No progress, no result.")] = False,
) -> None:
    """Render an edit into one MP4.

    File names in the edit are relative to its folder.
    Given once more, a command that was cut short goes on where it stopped.
    """
    with _errors_as_exit_codes():
        from engine.media.encoders import choose_encoder

        _check_files(edit, output, report)
        plan = _planned(edit, lenient)
        made = _watched_export(
            plan,
            output,
            upscaler=_chosen_upscaler(upscaler, device, model_path, denoise),
            encoder=choose_encoder(
                plan.size,
                plan.fps,
                name=encoder,
                quality=quality,
                preset=preset,
                options=_pairs(encoder_option or []),
            ),
            workers=workers,
            cache=_cache(cache) if cache else None,
            work_dir=work_dir,
            keep_parts=keep_parts,
            strict=strict,
            quiet=quiet,
        )
        if report is not None:
            made.write(report)


@app.command(name="plan")
def plan_command(
    edit: EditArgument,
    as_json: Annotated[bool, typer.Option("--json", help="For programs.")] = False,
    frames: Annotated[
        bool,
        typer.Option("--frames", help="Every output frame as CSV: source time, crop, weight."),
    ] = False,
    upscaler: UpscalerOption = "auto",
    device: DeviceOption = Device.AUTO,
    encoder: EncoderOption = "auto",
    preset: Annotated[str | None, typer.Option(help="The encoder's preset.")] = None,
    workers: Annotated[int, typer.Option(metavar="N", min=1, help="Chunks at a time.")] = 1,
    lenient: LenientOption = False,
) -> None:
    """Show what an edit would become, and what that would take; renders nothing.

    Options are those of [bold]render[/bold].
    """
    with _errors_as_exit_codes():
        from engine.cli.describe import (
            dump_document,
            estimate_document,
            estimate_table,
            timeline_document,
            timeline_table,
            write_frames,
        )

        plan = _planned(edit, lenient)
        for warning in plan.warnings:
            _warn(warning)
        if frames:
            write_frames(plan, sys.stdout)
            return
        from engine.media.encoders import choose_encoder
        from engine.pipeline.estimate import estimate
        from engine.pipeline.history import History
        from engine.upscale.choice import choose_upscaler

        takes = estimate(
            plan,
            History.of_user(),
            upscaler=choose_upscaler(upscaler, device),
            encoder=choose_encoder(plan.size, plan.fps, name=encoder, preset=preset),
            workers=workers,
            modal_upscaler=upscaler,
        )
        if as_json:
            document = {**timeline_document(plan), "estimate": estimate_document(takes)}
            typer.echo(dump_document(document))
        else:
            _output.print(timeline_table(plan))
            _output.print(estimate_table(takes))


@app.command()
def frame(
    edit: EditArgument,
    at: Annotated[
        str,
        typer.Option(metavar="SECONDS", help="When in the export, like 3.2.", show_default=False),
    ],
    output: Annotated[
        Path, typer.Option("--output", "-o", metavar="OUT.png", help="The file to write.")
    ],
    upscaler: UpscalerOption = "auto",
    device: DeviceOption = Device.AUTO,
    model_path: ModelPathOption = None,
    denoise: DenoiseOption = 1.0,
    lenient: LenientOption = False,
) -> None:
    """Write one frame of the export as a PNG: the picture that its encoder is given."""
    with _errors_as_exit_codes():
        from engine.files import whole_file
        from engine.media.image import png
        from engine.pipeline.still import frame_at, render_still

        _check_files(edit, output, None)
        time_s = _seconds(at)
        plan = _planned(edit, lenient)
        number = frame_at(plan, time_s)
        chosen = _chosen_upscaler(upscaler, device, model_path, denoise)
        data = png(render_still(plan, number, chosen, on_warning=_warn))
        with whole_file(output) as unfinished:
            unfinished.write_bytes(data)
        typer.echo(f"{output}: {plan.size}, frame {number} of {plan.frame_count}, {chosen.name}")


@app.command()
def probe(
    files: Annotated[list[Path], typer.Argument(metavar="FILE...", show_default=False)],
    as_json: Annotated[bool, typer.Option("--json", help="For programs.")] = False,
) -> None:
    """Show what the engine makes of source files."""
    with _errors_as_exit_codes():
        from engine.cli.describe import dump_document, source_document, source_table
        from engine.media.probe import probe as probe_file

        sources = [probe_file(path) for path in files]
        if as_json:
            typer.echo(dump_document({"files": [source_document(each) for each in sources]}))
        else:
            for source in sources:
                _output.print(source_table(source))


@app.command(name="cache")
def cache_command(
    folder: Annotated[
        Path, typer.Argument(metavar="FOLDER", envvar="FRAMESTREAM_CACHE_DIR", show_default=False)
    ],
    max_gb: Annotated[float, typer.Option(min=0, help="The most it may hold.")] = 10,
    max_days: Annotated[
        float, typer.Option(min=0, help="How long a chunk is kept that nothing uses.")
    ] = 30,
) -> None:
    """Show how large a cache of chunks is, and drop what is too old or too much.

    The least recently used goes first. An export does the same after it, with these defaults.
    """
    with _errors_as_exit_codes():
        swept = _cache(folder).sweep(
            max_bytes=round(max_gb * 10**9), max_age=timedelta(days=max_days)
        )
        typer.echo(
            f"{folder}: {swept.kept} chunks, {swept.kept_bytes / 1e6:.1f} MB; "
            f"{swept.removed} dropped, {swept.removed_bytes / 1e6:.1f} MB"
        )


@app.command()
def doctor() -> None:
    """Say what this machine can do: encoders, decoders, disk."""
    from engine.cli.doctor import findings

    marks = {True: ("yes", "green"), False: ("no ", "yellow"), None: ("   ", "")}
    for finding in findings(Path()):
        what = f"{finding.what:<15}", "bold"
        _say(_output, marks[finding.works], " ", what, " ", finding.detail)


@app.command()
def demo(
    folder: Annotated[
        Path, typer.Argument(metavar="FOLDER", help="Where clips, edit and reel are put.")
    ] = Path("framestream-demo"),
    size: Annotated[
        str, typer.Option(metavar="WIDTHxHEIGHT", help="The reel's size.")
    ] = "1080x1920",
) -> None:
    """Make three clips, and render a reel of them: pan, zoom, slow motion, dissolve, fade."""
    with _errors_as_exit_codes():
        from engine.cli.demo import make_demo

        _say(_console, f"making three clips in {folder}")
        edit = make_demo(folder, *_sides(size))
        _watched_export(_planned(edit, lenient=False), folder / "reel.mp4", quiet=False)
        typer.echo(f"The edit is {edit}; change it and run: framestream render {edit} -o reel.mp4")


_output, _console = Console(), Console(stderr=True)


def _chosen_upscaler(
    name: str, device: Device, model_path: Path | None, denoise: float
) -> Upscaler:
    from engine.upscale.choice import choose_upscaler
    from engine.upscale.options import Settings

    return choose_upscaler(name, device, Settings(model_path, denoise, on_download=_fetching))


def _cache(folder: Path) -> StoreCache:
    from engine.pipeline.cache import StoreCache
    from engine.storage import LocalStore

    return StoreCache(LocalStore(folder))


def _check_files(edit: Path, output: Path, report: Path | None) -> None:
    """What will be written can be, over nothing that is needed: asked before the work is done."""
    needed = {edit.resolve(): "the edit"}
    for path, what in ((output, "the output"), (report, "the report")):
        if path is None:
            continue
        if path.resolve() in needed:
            raise EngineError(f"{path}: is {needed[path.resolve()]}; it is not overwritten")
        if not path.parent.is_dir():
            raise EngineError(f"{path}: there is no folder {path.parent}")
        if not os.access(path.parent, os.W_OK):
            raise EngineError(f"{path}: the folder {path.parent} cannot be written to")
        needed[path.resolve()] = what


def _planned(edit: Path, lenient: bool) -> Plan:
    from engine.pipeline.exporter import probe_sources
    from engine.timeline.edit import Edit
    from engine.timeline.plan import build_plan

    document = Edit.load(edit, unknown="warn" if lenient else "error")
    for warning in document.warnings:
        _warn(warning)
    return build_plan(document, probe_sources(document, edit.parent))


def _watched_export(
    plan: Plan,
    output: Path,
    *,
    upscaler: Upscaler | None = None,
    encoder: Encoder | None = None,
    workers: int = 1,
    cache: StoreCache | None = None,
    work_dir: Path | None = None,
    keep_parts: bool = False,
    strict: bool = False,
    quiet: bool,
) -> Report:
    """Exports with progress on the console; Ctrl-C stops it between two frames."""
    from engine.cli.console import progress_view
    from engine.pipeline.executors import InProcess
    from engine.pipeline.exporter import Listener, export
    from engine.pipeline.processes import LocalProcesses

    with _stop_on_signals() as stopped, progress_view(_console, quiet=quiet) as view:
        made = export(
            plan,
            output,
            upscaler=upscaler,
            encoder=encoder,
            executor=InProcess() if workers == 1 else LocalProcesses(workers),
            cache=cache,
            work_dir=work_dir,
            keep_parts=keep_parts,
            strict=strict,
            listener=Listener(on_progress=view.show, on_warning=_warn, should_stop=stopped),
        )
    if cache is not None:
        try:
            cache.sweep()
        except StoreError as error:  # the film is made all the same
            _warn(f"the cache was not swept: {error}")
    _remember(plan, made)
    if not quiet:
        typer.echo(
            f"{made.output}: {plan.size}, {made.duration_s:.3f} s, {made.frames} frames "
            f"({made.frames_resumed} kept from an earlier run) in {made.wall_s:.1f} s, "
            f"{made.frames_per_s:.1f} frames/s, {made.encoder}"
        )
    return made


def _remember(plan: Plan, made: Report) -> None:
    """What the export teaches for later estimates."""
    from engine.pipeline.estimate import measured
    from engine.pipeline.history import History

    try:
        if (run := measured(plan, made)) is not None:
            History.of_user().add(run)
    except OSError as error:
        _warn(f"the speed of this export is not remembered: {error}")


@contextmanager
def _stop_on_signals() -> Iterator[Callable[[], bool]]:
    """Turns Ctrl-C and SIGTERM into a question the export asks; a second Ctrl-C ends at once."""
    stop = threading.Event()

    def request(_number: int, _frame: FrameType | None) -> None:
        if stop.is_set():
            raise KeyboardInterrupt
        stop.set()

    before = {number: signal.signal(number, request) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield stop.is_set
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


@contextmanager
def _errors_as_exit_codes() -> Iterator[None]:
    """Each error of the engine becomes one line on stderr and an exit code."""
    try:
        yield
    except Cancelled:
        _say(_console, "cancelled; finished chunks are kept, the same command goes on from them")
        raise typer.Exit(EXIT_CANCELLED) from None
    except KeyboardInterrupt:
        raise typer.Exit(EXIT_CANCELLED) from None
    except (EditError, EncoderError, UpscalerError) as error:
        _fail(str(error), EXIT_BAD_EDIT)
    except EngineError as error:
        _fail(str(error), EXIT_FAILED)
    except BrokenPipeError:  # `| head`: who reads has read enough
        raise
    except OSError as error:
        _fail(f"{error.filename or ''}: {error.strerror or error}".lstrip(": "), EXIT_FAILED)


def _fail(message: str, code: int) -> NoReturn:
    _say(_console, ("error", "bold red"), " ", message)
    raise typer.Exit(code)


def _warn(message: str) -> None:
    _say(_console, ("warning", "yellow"), " ", message)


def _say(console: Console, *parts: str | tuple[str, str]) -> None:
    """One line, each part plain or with a style; what cannot be printed is shown escaped."""
    line = Text.assemble(*parts)
    if not line.plain.isprintable():
        line.plain = "".join(
            each if each.isprintable() else ascii(each)[1:-1] for each in line.plain
        )
    console.print(line, soft_wrap=True)


def _fetching(done_bytes: int, total_bytes: int) -> None:
    """One line at the start of a download, and one at its end."""
    if done_bytes == total_bytes:
        _say(_console, f"weights fetched: {total_bytes / 1e6:.1f} MB")


def _pairs(options: list[str]) -> dict[str, str]:
    pairs = {}
    for option in options:
        key, equals, value = option.partition("=")
        if not (key and equals and value):
            raise EncoderError(f"--encoder-option {option}: is not KEY=VALUE")
        pairs[key] = value
    return pairs


def _seconds(text: str) -> Fraction:
    if not re.fullmatch(r"\d{1,6}(\.\d{1,6})?", text, re.ASCII):
        raise EditError("--at", f"{text} is not seconds, like 3.2")
    return Fraction(text)


def _sides(size: str) -> tuple[int, int]:
    width, _, height = size.partition("x")
    if not (width.isdecimal() and height.isdecimal()):
        raise EditError("--size", f"{size} is not WIDTHxHEIGHT")
    return int(width), int(height)


def _add_commands() -> None:
    """Commands of what is built on the engine, by their entry points: nothing here imports them."""
    for entry in entry_points(group="framestream.commands"):
        app.command(name=entry.name)(entry.load())


_add_commands()


def main() -> None:
    """The `framestream` program."""
    app()
