"""The edit document: the app's JSON, read into the arguments of an `Edit`.

`document_schema.py` says which keys there are and what they mean, and `document_writer.py` writes
the document back. Here are its errors and warnings, each with its place in the document.
"""

from __future__ import annotations

import difflib
import json
from collections.abc import Mapping, Sequence
from typing import Any, Literal, get_args

from pydantic import ValidationError
from pydantic_core import ErrorDetails

from engine.errors import EditError
from engine.timeline import validation
from engine.timeline.document_schema import (
    ClipObject,
    DocumentObject,
    EditArguments,
    EditObject,
)

MAX_WARNINGS = 20
"""So many unknown keys are named, and the others are counted."""

_LENIENT = (EditObject, ClipObject)
"""Where an unknown key can be left out. In the others it would make another film."""


def read_document(
    document: Mapping[str, Any] | str | bytes, unknown: Literal["error", "warn"]
) -> EditArguments:
    """The arguments of the edit that a document describes; see `Edit.parse`.

    Raises EditError. What is a plain value in the document is as written: `Edit` checks it.
    """
    content = _from_json(document) if isinstance(document, str | bytes) else document
    if not isinstance(content, Mapping):
        raise EditError("", f"an edit is a JSON object, not {validation.shown(content)}")
    try:
        return EditObject.model_validate(content).value
    except ValidationError as error:
        details = error.errors(include_url=False)
    unknown_keys = [each for each in details if _is_unknown_key(each)]
    tolerated = unknown == "warn" and all(
        issubclass(_object_at(each["loc"][:-1]), _LENIENT) for each in unknown_keys
    )
    if not unknown_keys or not tolerated:
        raise _first_error(details)
    try:
        arguments = EditObject.model_validate(content, extra="ignore").value
    except ValidationError as error:
        raise _first_error(error.errors(include_url=False)) from None
    warnings = [f"{_edit_error(each)}; it is left out" for each in unknown_keys[:MAX_WARNINGS]]
    if more := len(unknown_keys) - len(warnings):
        warnings.append(f"{more} more unknown keys are left out")
    return {**arguments, "warnings": [*warnings, *arguments["warnings"]]}


def _from_json(text: str | bytes) -> object:
    try:
        return json.loads(text, object_pairs_hook=validation.unique_keys)
    except validation.RepeatedKeyError as error:
        raise EditError("", str(error)) from None
    except json.JSONDecodeError as error:
        where = f"line {error.lineno}, column {error.colno}"
        raise EditError(where, f"not JSON: {error.msg.lower()}") from None
    except UnicodeDecodeError as error:
        raise EditError(f"byte {error.start}", "not JSON: not Unicode text") from None
    except ValueError:  # from int(), which refuses thousands of digits
        raise EditError("", "a number in it has too many digits") from None
    except RecursionError:
        raise EditError("", "it is nested too deeply") from None


def _first_error(details: Sequence[ErrorDetails]) -> EditError:
    """The first problem, and how many more there are; unknown keys first, as they cause others."""
    first = _edit_error(min(details, key=lambda each: not _is_unknown_key(each)))
    more = len(details) - 1
    if not more:
        return first
    count = "1 more problem" if more == 1 else f"{more} more problems"
    return EditError(first.where, f"{first.reason} (and {count})")


def _is_unknown_key(details: ErrorDetails) -> bool:
    return details["type"] == "extra_forbidden"


def _edit_error(details: ErrorDetails) -> EditError:
    """One of pydantic's errors in our words, with its place in the document's spelling."""
    steps = details["loc"]
    if steps[:1] == ("transition",):
        steps = steps[:1] + steps[2:]  # not the tag "one" or "many"
    where = validation.path(steps)
    match details["type"]:
        case "value":
            inner = details["ctx"]["where"]
            separator = "." if where and inner and not inner.startswith("[") else ""
            return EditError(f"{where}{separator}{inner}", details["ctx"]["reason"])
        case "extra_forbidden":
            close = difflib.get_close_matches(str(steps[-1]), _keys_of(_object_at(steps[:-1])), n=1)
            hint = f"; did you mean {close[0]}?" if close else ""
            return EditError(where, f"unknown key{hint}")
        case "missing":
            return EditError(where, "is missing")
        case "list_type":
            return EditError(where, f"must be a list, not {validation.shown(details['input'])}")
        case "invalid_key" | "string_type" | "string_unicode":  # not from JSON
            return EditError(where, "keys must be text")
        case _:
            return EditError(where, f"must be an object, not {validation.shown(details['input'])}")


def _object_at(steps: Sequence[int | str]) -> type[DocumentObject]:
    """The kind of object at a place in the document."""
    found: type[DocumentObject] = EditObject
    for step in steps:
        for key in found.model_fields.values():
            if key.alias == step:
                found = _object_in(key.annotation) or found
    return found


def _keys_of(kind: type[DocumentObject]) -> list[str]:
    return [str(key.alias) for key in kind.model_fields.values()]


def _object_in(annotation: Any) -> type[DocumentObject] | None:
    """The kind of object in an annotation such as `list[ClipObject] | None`."""
    if isinstance(annotation, type) and issubclass(annotation, DocumentObject):
        return annotation
    return next(filter(None, map(_object_in, get_args(annotation))), None)
