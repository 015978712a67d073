"""Options that belong together, each group of them as one value.

Typer knows one parameter per option. `with_option_groups` lets a command take a dataclass instead:
each field is an option, declared as Typer declares a parameter.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable
from dataclasses import dataclass, fields, is_dataclass
from fractions import Fraction
from functools import wraps
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, get_type_hints

import typer

from engine.cli.console import say
from engine.errors import EncoderError
from engine.timing import KEY_INTERVALS_S

if TYPE_CHECKING:
    from engine.geometry import Size
    from engine.media.encoders import Encoder
    from engine.pipeline.executors import Executor
    from engine.upscale.stage import Upscaler


AUTO = "auto"


def _checked_workers(text: str) -> str:
    if text != AUTO and not (text.isdecimal() and int(text) > 0):
        raise typer.BadParameter(f"{text!r} is neither auto nor a number of 1 or more.")
    return text


def worker_count(text: str) -> int | None:
    """What `--workers` says; None for `auto`."""
    return None if text == AUTO else int(text)


FilmOption = Annotated[
    Path,
    typer.Option("--output", "-o", metavar="OUT.mp4", help="The file to write."),
]
ReportOption = Annotated[
    Path | None, typer.Option(metavar="FILE", help="Write what was done, and why, as JSON.")
]
QuietOption = Annotated[bool, typer.Option("--quiet", "-q", help="No progress, no result.")]
WorkersOption = Annotated[
    str,
    typer.Option(
        metavar="auto|N",
        callback=_checked_workers,
        help="Render N chunks at a time. [bold]auto[/bold] is as many as processors and memory "
        "carry, and one per GPU for a network.",
    ),
]
EncoderOption = Annotated[
    str,
    typer.Option(
        metavar="auto|h264_nvenc|hevc_nvenc|h264_videotoolbox|libx264",
        help="[bold]auto[/bold] takes h264_nvenc where it opens, h264_videotoolbox on Apple "
        "machines, else libx264.",
    ),
]


@dataclass(frozen=True, slots=True)
class UpscalerChoice:
    """Which upscaler, on which device."""

    upscaler: Annotated[
        str,
        typer.Option(
            metavar="auto|none|NAME",
            help="How crops are enlarged: [bold]auto[/bold] runs a network where there is CUDA, "
            "[bold]none[/bold] is bicubic; NAME is realesr-general-x4v3, realesrgan (the best, "
            "and slow), or another that [bold]framestream doctor[/bold] lists.",
        ),
    ] = "auto"
    device: Annotated[
        str,
        typer.Option(
            metavar="auto|cpu|cuda|mps|openvino|openvino:GPU",
            help="Where the network runs. [bold]auto[/bold] takes a GPU, else OpenVINO where it "
            "is installed and the CPU computes in bfloat16, else the CPU.",
        ),
    ] = "auto"


@dataclass(frozen=True, slots=True)
class UpscalerOptions(UpscalerChoice):
    """Which upscaler, on which device, and how its network is set."""

    model_path: Annotated[
        Path | None, typer.Option(metavar="FILE", help="A checkpoint to use for the network NAME.")
    ] = None
    denoise: Annotated[
        float, typer.Option(help="1 to 0, of realesr-general-x4v3: how much noise is taken away.")
    ] = 1.0

    compile: Annotated[
        str | None,
        typer.Option(
            metavar="tensorrt",
            help="What compiles the network for an NVIDIA GPU, once for each size of picture.",
        ),
    ] = None

    def choose(self) -> Upscaler:
        """The upscaler that these options name. Raises `UpscalerError`."""
        from engine.upscale.choice import choose_upscaler
        from engine.upscale.options import NetworkOptions

        network = NetworkOptions(
            self.model_path,
            self.denoise,
            compile=self.compile,
            on_download=_say_when_downloaded,
        )
        return choose_upscaler(self.upscaler, self.device, network)


@dataclass(frozen=True, slots=True)
class EncoderOptions:
    """Which encoder, and how it is set."""

    encoder: EncoderOption = "auto"
    quality: Annotated[
        float | None,
        typer.Option(help="Constant quality, lower is better: crf of libx264 (18), cq of NVENC."),
    ] = None
    preset: Annotated[
        str | None, typer.Option(help="The encoder's preset: veryfast for libx264, p5 for NVENC.")
    ] = None
    key_interval: Annotated[
        float | None,
        typer.Option(
            metavar="SECONDS",
            min=float(KEY_INTERVALS_S[0]),
            max=float(KEY_INTERVALS_S[1]),
            help="From one key frame to the next, at most: a player jumps to any place from the "
            "key frame before it, so a shorter time scrubs faster and makes a larger file. "
            "By default the edit's [bold]keyInterval[/bold], else 2.",
        ),
    ] = None
    encoder_option: Annotated[
        list[str] | None,
        typer.Option(metavar="KEY=VALUE", help="Passed on to the encoder; may be repeated."),
    ] = None

    def choose(self, size: Size, fps: Fraction, key_interval_s: Fraction | None = None) -> Encoder:
        """The encoder that these options name, for pictures of that size and rate.

        `key_interval_s` counts where there is no `--key-interval`. Raises `EncoderError`.
        """
        from engine.media.encoders import choose_encoder

        return choose_encoder(
            size,
            fps,
            name=self.encoder,
            quality=self.quality,
            preset=self.preset,
            options=_pairs(self.encoder_option or []),
            key_interval_s=key_interval_s if self.key_interval is None else self.key_interval,
        )


@dataclass(frozen=True, slots=True)
class ChunkOptions:
    """How many chunks are rendered at a time, by what, and where they lie."""

    workers: WorkersOption = AUTO
    processes: Annotated[
        bool,
        typer.Option(
            "--processes",
            help="Render each chunk of several in a process of its own: slower to start, takes "
            "more memory, and a decoder that crashes costs one chunk.",
        ),
    ] = False
    work_dir: Annotated[
        Path | None, typer.Option(help="Where finished chunks lie (OUT.mp4.parts).")
    ] = None

    def executor(self) -> Executor:
        """What renders the chunks."""
        from engine.pipeline.local import LocalWorkers

        return LocalWorkers(worker_count(self.workers), processes=self.processes)


@dataclass(frozen=True, slots=True)
class WorkOptions(ChunkOptions):
    """How the chunks of an export are rendered and kept."""

    cache: Annotated[
        Path | None,
        typer.Option(
            metavar="FOLDER",
            envvar="FRAMESTREAM_CACHE_DIR",
            help="Keep finished chunks there for other exports, and take from there what they "
            "share with this one.",
        ),
    ] = None
    keep_parts: Annotated[
        bool, typer.Option("--keep-parts", help="Keep the finished chunks after success.")
    ] = False
    strict: Annotated[
        bool, typer.Option("--strict", help="Any damage in a source is an error.")
    ] = False


def with_option_groups(command: Callable[..., None]) -> Callable[..., None]:
    """Makes a command with dataclass parameters one that Typer can call.

    Typer sees each field of such a dataclass as a parameter in its place. The command is called
    with the dataclass made of them.
    """
    signature = inspect.signature(command, eval_str=True)
    groups: dict[str, Any] = {}
    parameters: list[inspect.Parameter] = []
    for parameter in signature.parameters.values():
        if is_dataclass(parameter.annotation):
            groups[parameter.name] = parameter.annotation
            parameters += _parameters_of(parameter.annotation)
        else:
            parameters.append(parameter.replace(kind=inspect.Parameter.KEYWORD_ONLY))

    @wraps(command)
    def ungrouped(**given: Any) -> None:
        for name, group in groups.items():
            given[name] = group(**{field.name: given.pop(field.name) for field in fields(group)})
        command(**given)

    ungrouped.__signature__ = signature.replace(parameters=parameters)  # type: ignore[attr-defined]
    return ungrouped


def _parameters_of(group: Any) -> list[inspect.Parameter]:
    """One parameter for each field of a dataclass; every field must have a default."""
    hints = get_type_hints(group, include_extras=True)
    return [
        inspect.Parameter(
            field.name,
            inspect.Parameter.KEYWORD_ONLY,
            default=field.default,
            annotation=hints[field.name],
        )
        for field in fields(group)
    ]


def _pairs(options: list[str]) -> dict[str, str]:
    """The `KEY=VALUE` texts as a dictionary. Raises `EncoderError`."""
    pairs = {}
    for option in options:
        key, equals, value = option.partition("=")
        if not (key and equals and value):
            raise EncoderError(f"--encoder-option {option}: is not KEY=VALUE")
        pairs[key] = value
    return pairs


def _say_when_downloaded(done_bytes: int, total_bytes: int) -> None:
    if done_bytes == total_bytes:
        say(f"weights fetched: {total_bytes / 1e6:.1f} MB")
