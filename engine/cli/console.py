"""How a command speaks and ends: output, warnings, errors with their exit codes, signals."""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType
from typing import NoReturn

import typer
from rich.console import Console
from rich.text import Text

from engine.errors import Cancelled, EditError, EncoderError, EngineError, UpscalerError

EXIT_FAILED, EXIT_BAD_EDIT, EXIT_CANCELLED = 1, 2, 130

stdout, stderr = Console(), Console(stderr=True)


def say(*parts: str | tuple[str, str], to: Console = stderr) -> None:
    """Prints one line. A part is plain text, or text with its style.

    Characters that cannot be printed are escaped, so that a file's name can neither add a line nor
    control the terminal.
    """
    line = Text.assemble(*parts)
    if not line.plain.isprintable():
        line.plain = "".join(
            each if each.isprintable() else ascii(each)[1:-1] for each in line.plain
        )
    to.print(line, soft_wrap=True)


def warn(message: str) -> None:
    """Prints a warning on stderr."""
    say(("warning", "yellow"), " ", message)


def fail(message: str, exit_code: int) -> NoReturn:
    """Prints an error on stderr and ends the program with that exit code."""
    say(("error", "bold red"), " ", message)
    raise typer.Exit(exit_code)


@contextmanager
def errors_as_exit_codes(
    when_cancelled: str = "finished chunks are kept, the same command goes on from them",
) -> Iterator[None]:
    """Turns each error of the engine into one line on stderr and an exit code.

    `when_cancelled` says what is left of the work. Also works as a decorator of a command.
    """
    try:
        yield
    except Cancelled:
        say(f"cancelled; {when_cancelled}")
        raise typer.Exit(EXIT_CANCELLED) from None
    except KeyboardInterrupt:
        raise typer.Exit(EXIT_CANCELLED) from None
    except (EditError, EncoderError, UpscalerError) as error:
        fail(str(error), EXIT_BAD_EDIT)
    except EngineError as error:
        fail(str(error), EXIT_FAILED)
    except BrokenPipeError:  # the reader of a pipe, such as `head`, has closed it
        raise
    except OSError as error:
        fail(f"{error.filename or ''}: {error.strerror or error}".lstrip(": "), EXIT_FAILED)


@contextmanager
def stop_on_signals() -> Iterator[Callable[[], bool]]:
    """Yields a function that says whether Ctrl-C or SIGTERM has come.

    The export asks it between two frames. A second signal raises `KeyboardInterrupt` at once.
    """
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
