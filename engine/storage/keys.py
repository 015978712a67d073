"""Keys: names of objects that mean the same everywhere and lead out of nowhere.

A key is parts joined by `/`. What is refused is refused for every store alike, so that a key that
a bucket takes is also a file in a folder, and the other way round.
"""

from __future__ import annotations

import re
import unicodedata

from engine.errors import StoreError

MAX_KEY_BYTES = 1024
"""What S3 takes."""
MAX_PART_BYTES = 200
"""What file systems take as a name, less what is put around it while a file is unfinished."""

_USER_ID = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.@-]{0,127}")


def checked_key(key: str) -> str:
    """The key as it is. Raises StoreError where it is no relative path of plain names.

    Refused are empty parts, parts that begin with a dot or with white space or end with white
    space, backslashes, control and invisible characters, surrogates, characters that Unicode folds
    to one of these, and text that is not in normal form C.
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

    A part may itself hold slashes. Raises StoreError for a user's id that is not made of ASCII
    letters, digits and `_.@-`, and for what `checked_key` refuses.
    """
    if not _USER_ID.fullmatch(user_id):
        raise StoreError(f"user {user_id!a}", "is no id that objects can be stored under")
    if not parts:
        raise StoreError(f"user {user_id!a}", "a key needs a name below the user's own")
    return checked_key("/".join((user_id, *parts)))


def folder_prefix(prefix: str) -> str:
    """What the keys of a folder begin with: `7/temp` and `7/temp/` are both `7/temp/`.

    So what is listed or deleted below `7` is never `77`'s. Raises StoreError like `checked_key`.
    """
    return checked_key(prefix.removesuffix("/")) + "/"


def _fault(part: str) -> str | None:
    """What is wrong with one part of a key, None where nothing is."""
    folded = unicodedata.normalize("NFKC", part)
    if not folded:
        return "is an empty name"
    if folded.startswith("."):
        return "begins with a dot"
    if folded != folded.strip():
        return "begins or ends with white space"
    if "/" in folded or "\\" in folded:
        return "holds a slash or a backslash"
    if any(unicodedata.category(letter)[0] == "C" for letter in part + folded):
        return "holds a character that cannot be seen"
    if not unicodedata.is_normalized("NFC", part):
        return "is not in Unicode's normal form C"
    if len(part.encode()) > MAX_PART_BYTES:
        return f"is longer than {MAX_PART_BYTES} bytes"
    return None
