"""Keys: names of objects that mean the same in every store and never leave its folder.

A key is parts joined by `/`. Every store refuses the same keys, so a key that is valid in a bucket
is also a file in a folder, and the other way round.
"""

from __future__ import annotations

import re
import unicodedata

from engine.errors import StoreError

MAX_KEY_BYTES = 1024
"""S3's limit."""
MAX_PART_BYTES = 200
"""The limit of file systems on a name, less what an unfinished file has around it."""

_USER_ID = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.@-]{0,127}")


def checked_key(key: str) -> str:
    """The key, unchanged. Raises StoreError where it is not a relative path of plain names.

    Not allowed are empty parts, parts that begin with a dot or with white space or end with white
    space, backslashes, control and invisible characters, surrogates, characters that Unicode folds
    to one of these, text that is not in normal form C, and too long parts and keys.
    """
    for part in key.split("/"):
        fault = _fault(part)
        if fault:
            raise StoreError(f"key {key!a}", f"{part!a} {fault}")
    if len(key.encode()) > MAX_KEY_BYTES:
        raise StoreError(f"key {key!a}", f"is longer than {MAX_KEY_BYTES} bytes")
    return key


def user_key(user_id: str, *parts: str) -> str:
    """The key of a user's object: `user_key("7", "temp", "a.mp4")` is `7/temp/a.mp4`.

    A part may contain slashes. Raises StoreError for a user id that is not 1 to 128 ASCII letters,
    digits and `_.@-` beginning with a letter or digit, and for what `checked_key` refuses.
    """
    if not _USER_ID.fullmatch(user_id):
        raise StoreError(f"user {user_id!a}", "is not a valid user id")
    if not parts:
        raise StoreError(f"user {user_id!a}", "a key must have a name below the user's own")
    return checked_key("/".join((user_id, *parts)))


def folder_prefix(prefix: str) -> str:
    """The beginning of all keys in a folder: `7/temp` and `7/temp/` both give `7/temp/`.

    So a listing or deletion of `7` never includes keys of `77`. Raises StoreError like
    `checked_key`.
    """
    return checked_key(prefix.removesuffix("/")) + "/"


def _fault(part: str) -> str | None:
    """What is wrong with one part of a key; None for a valid part."""
    folded = unicodedata.normalize("NFKC", part)
    if not folded:
        return "is an empty name"
    if folded.startswith("."):
        return "begins with a dot"
    if folded != folded.strip():
        return "begins or ends with white space"
    if "/" in folded or "\\" in folded:
        return "contains a slash or a backslash"
    if any(unicodedata.category(letter)[0] == "C" for letter in part + folded):
        return "contains an invisible character"
    if not unicodedata.is_normalized("NFC", part):
        return "is not in Unicode's normal form C"
    if len(part.encode()) > MAX_PART_BYTES:
        return f"is longer than {MAX_PART_BYTES} bytes"
    return None
