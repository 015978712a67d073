"""The sound track of an export as a file beside its chunks: mixed, or found from an earlier run."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from engine.audio.mix import write_sound
from engine.errors import EngineError
from engine.files import file_hash
from engine.pipeline.progress import StageClock
from engine.records import read_record, write_record
from engine.storage.objects import ObjectReader
from engine.timeline.plan import Plan

SOUND_VERSION = 2
"""Raised whenever the engine would mix another track for the same plan."""


@dataclass(frozen=True, slots=True)
class Mixdown:
    """A finished sound track."""

    path: Path | None
    """None for an export without sound."""
    warnings: tuple[str, ...] = ()
    """Warnings from the run that mixed it, this one or an earlier one."""


def mixdown(
    plan: Plan,
    folder: Path,
    *,
    strict: bool,
    store: ObjectReader | None,
    clock: StageClock,
    on_step: Callable[[], None],
) -> Mixdown:
    """The sound track of `plan` as a file in `folder`, mixed unless it is there already.

    `store` holds the sources that are objects. `clock` counts the time of mixing as "sound".
    `on_step` is called now and then and may raise to stop. Raises SourceError, EncoderError,
    OutputError, and EngineError for any damage in a source where `strict`.
    """
    if not plan.sound:
        return Mixdown(None)
    path = folder / f"sound-{_digest(plan)}.m4a"
    record = path.with_suffix(".json")
    warnings = _recorded_warnings(path, record)
    if warnings is None or (strict and warnings):
        warnings = []
        with clock.working("sound"):
            write_sound(
                plan.sound,
                [clip.source for clip in plan.clips],
                plan.sample_count,
                path,
                on_warning=_refuse if strict else warnings.append,
                on_step=on_step,
                store=store,
            )
        write_record(record, {"file_hash": file_hash(path), "warnings": warnings})
    return Mixdown(path, tuple(warnings))


def _digest(plan: Plan) -> str:
    prints = [clip.source.fingerprint for clip in plan.clips]
    text = repr((SOUND_VERSION, plan.sound, prints, plan.sample_count))
    return hashlib.blake2b(text.encode(), digest_size=16).hexdigest()


def _recorded_warnings(sound: Path, record: Path) -> list[str] | None:
    """Warnings from the run that mixed the sound track. None where it must be mixed."""
    document = read_record(record)
    try:
        if document is None or document["file_hash"] != file_hash(sound):
            return None
        return [str(warning) for warning in document["warnings"]]
    except (OSError, LookupError, TypeError):
        return None


def _refuse(warning: str) -> None:
    raise EngineError(warning)
