"""Kernels: functions that numba compiles once, and whose machine code then runs without numba."""

from __future__ import annotations

import hashlib
import threading
from collections.abc import Callable
from functools import cache, cached_property, partial, update_wrapper
from importlib import import_module
from pathlib import Path
from types import BuiltinFunctionType, ModuleType
from typing import Any, TypeVar

import numpy as np

from engine.code_files import code_files, make_code, read_code
from engine.machine_code import Number, Signature, emit, load, machine, signature_of

F = TypeVar("F", bound=Callable[..., Any])

KERNELS: list[Kernel] = []
"""The kernels of all modules that are imported."""

_RESULTS: dict[Any, Number | None] = {"None": None, "bool": bool, "int": int, "float": float}
"""What a kernel can return to Python, by its annotation as a text."""


def compiled(*, fastmath: bool = False) -> Callable[[F], F]:
    """Has numba compile a function at its first call, without Python objects and the GIL.

    It takes numbers and arrays, and returns a number or nothing, where Python calls it. It may call
    others of its kind. `fastmath` lets LLVM reorder sums, so that the last bits depend on the
    processor.
    """

    def decorate(function: F) -> F:
        kernel = Kernel(function, fastmath)
        KERNELS.append(kernel)
        return kernel  # type: ignore[return-value]

    return decorate


class Kernel:
    """A compiled function, with machine code for each combination of its arguments' types."""

    def __init__(self, function: Callable[..., Any], fastmath: bool) -> None:
        self.py_func: Any = function
        """What was compiled."""
        self.signatures: set[Signature] = set()
        """The types that Python has called it with in this process."""
        self._fastmath = fastmath
        annotation = function.__annotations__["return"]
        self._result = _RESULTS.get(annotation, annotation)
        self._loaded: dict[object, Callable[..., Any]] = {}
        """By types as they are told apart fastest."""
        self._lock = threading.Lock()
        self._name = f"{function.__module__}.{function.__qualname__}"
        update_wrapper(self, function)

    def __call__(self, *arguments: Any) -> Any:
        """Runs the machine code.

        Raises `TypeError` for an argument that no kernel takes, `RuntimeError` where the code
        reports an error.
        """
        types = tuple(
            [
                (each.dtype, each.ndim, each.flags.num)
                if isinstance(each, np.ndarray)
                else type(each)
                for each in arguments
            ]
        )
        function = self._loaded.get(types)
        if function is None:
            with self._lock:
                function = self._loaded.get(types) or self._load(arguments)
                self._loaded[types] = function
        return function(*arguments)

    @cached_property
    def digest(self) -> str:
        """Stands for the source: of this function, of all that it calls, and of their constants."""
        code = self.py_func.__code__
        names = [name for name in code.co_names if name in self.py_func.__globals__]
        values = [*code.co_consts, *(self.py_func.__globals__[name] for name in names)]
        content = (
            self._fastmath, self._result, code.co_code, code.co_names, code.co_varnames, names,
            [self._described(each) for each in values],
        )  # fmt: skip
        return hashlib.sha256(repr(content).encode()).hexdigest()

    @cached_property
    def dispatcher(self) -> Any:
        """What numba makes of the function."""
        _let_kernels_call_each_other()
        return import_module("numba").njit(nogil=True, fastmath=self._fastmath)(self.py_func)

    def _load(self, arguments: tuple[Any, ...]) -> Callable[..., Any]:
        """The machine code for these types, from a file if possible. Other calls wait meanwhile."""
        signature = signature_of(arguments)
        self.signatures.add(signature)
        made_for = hashlib.sha256(repr((signature, machine())).encode()).hexdigest()
        name = f"{self._name}-{made_for[:16]}.code"
        files = partial(code_files, Path(self.py_func.__code__.co_filename), name)
        key = f"{self.digest} {made_for}"
        code = read_code(files(), key)
        if code is None:
            code = make_code(files(), key, lambda: self._compile(signature, arguments))
        if code is None:  # it needs numba when it runs
            dispatcher: Callable[..., Any] = self.dispatcher
            return dispatcher
        return load(code, signature, self._result, self._name)

    def _compile(self, signature: Signature, arguments: tuple[Any, ...]) -> bytes | None:
        """See `machine_code.emit`. Raises numba's errors, `TypeError` for what it cannot return."""
        numba: Any = import_module("numba")
        types = numba.types
        numbers = {bool: types.boolean, int: types.int64, float: types.float64, None: types.none}
        kinds = tuple(
            numbers[kind] if kind in numbers else numba.typeof(value)
            for kind, value in zip(signature, arguments, strict=True)
        )
        self.dispatcher.compile(kinds)
        made = self.dispatcher.overloads[kinds]
        if made.signature.return_type != numbers.get(self._result):
            raise TypeError(f"{self._name} returns {made.signature.return_type}")
        return emit(self.dispatcher.inspect_llvm(kinds), made.fndesc.llvm_func_name, signature)

    def _described(self, value: object) -> str:
        """A constant of the function, the same in every process."""
        if isinstance(value, Kernel):
            return value.digest
        if isinstance(value, ModuleType | BuiltinFunctionType | type):
            return value.__name__
        if value is None or isinstance(value, int | float | str | tuple | np.generic):
            return repr(value)
        raise TypeError(f"{self._name} uses {value!r}, which may change unnoticed")


@cache
def _let_kernels_call_each_other() -> None:
    """Has numba take a kernel for its dispatcher."""
    numba: Any = import_module("numba.extending")

    @numba.typeof_impl.register(Kernel)
    def _(kernel: Kernel, context: object) -> Any:
        return numba.typeof_impl(kernel.dispatcher, context)
