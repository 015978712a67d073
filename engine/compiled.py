"""Functions compiled by numba, which keeps their machine code between runs where that is possible.

A folder that cannot be written, a full disk or a torn file costs the time to compile, and no film.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from typing import Any, TypeVar

from numba import njit

F = TypeVar("F", bound=Callable[..., Any])


def compiled(*, fastmath: bool = False) -> Callable[[F], F]:
    """Has numba compile a function at its first call, without Python objects and the GIL.

    `fastmath` lets LLVM reorder sums, so that the last bits depend on the processor.
    """

    def decorate(function: F) -> F:
        dispatcher: Any = njit(nogil=True, fastmath=fastmath)(function)
        with suppress(RuntimeError, OSError):  # no folder that numba may write to
            dispatcher.enable_caching()
            dispatcher._cache = _OptionalCache(dispatcher._cache)
        return dispatcher  # type: ignore[no-any-return]

    return decorate


def load_compiler() -> None:
    """Has numba read its tables of types, a third of a second's work, before the first call does.

    A process does it once for all workers that it forks afterwards. It starts no thread.
    """
    _nothing()


class _OptionalCache:
    """numba's cache of one function's machine code, as far as it can be read and written."""

    def __init__(self, cache: Any) -> None:
        self._cache = cache

    def load_overload(self, *key: Any) -> Any:
        """The code for arguments of some types, None where it must be compiled."""
        try:
            return self._cache.load_overload(*key)
        except Exception:  # a torn file may raise whatever unpickling does
            with suppress(OSError):
                self._cache.flush()
            return None

    def save_overload(self, *key_and_code: Any) -> None:
        """Keeps the code."""
        with suppress(OSError):
            self._cache.save_overload(*key_and_code)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._cache, name)


@compiled()
def _nothing() -> None:
    """What is called where any compiled function will do."""
