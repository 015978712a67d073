"""Machine code of numba's compiler, which runs without numba.

To import numba and to have it load a function takes half a second. Its code needs none of that:
LLVM alone links an object file in two milliseconds. The code is called by numba's convention
(`CPUCallConv` in `numba/core/callconv.py`): a place for the result, a place for an exception, and
every argument, an array in parts; a status comes back. `emit` checks all that this relies on, and
makes no object file of code that does not keep to it.
"""

from __future__ import annotations

import ctypes
import hashlib
import os
import sys
from collections.abc import Callable, Sequence
from functools import cache
from importlib.machinery import PathFinder
from importlib.util import find_spec, module_from_spec
from pathlib import Path
from struct import Struct
from typing import Any, Final, NamedTuple

import llvmlite
import llvmlite.binding as llvm
import numpy as np

_HELPERS: Final = (
    ("NRT_", "numba.core.runtime._nrt_python"),
    ("numba_", "numba._helperlib"),
)
"""numba's modules in C that compiled code calls, with the prefix of their symbols: the memory of
arrays, and mathematics."""

_STATUS_OK: Final = (0, -2)
"""With a result, and without."""


class ArrayType(NamedTuple):
    """What machine code assumes of an array."""

    dtype: str
    dimensions: int
    layout: str
    """C, F, or A where samples have gaps between them."""
    writable: bool


Number = type[bool] | type[int] | type[float]
Signature = tuple[Number | ArrayType, ...]
"""The types of a kernel's arguments."""

_POINTER: Final = ("P", "ptr")
_NUMBERS: Final[dict[Number, tuple[str, str]]] = {
    bool: ("?", "i8"),
    int: ("q", "i64"),
    float: ("d", "double"),
}
"""A field of a struct, as Python's `struct` and as LLVM name it."""


def signature_of(arguments: Sequence[object]) -> Signature:
    """The types of these arguments. Raises `TypeError` for what a kernel cannot take."""
    return tuple(map(_type_of, arguments))


def _type_of(value: object) -> Number | ArrayType:
    if isinstance(value, np.ndarray):
        flags = value.flags
        if flags.aligned and value.dtype.isnative:
            layout = "C" if flags.c_contiguous else "F" if flags.f_contiguous else "A"
            return ArrayType(value.dtype.str, value.ndim, layout, flags.writeable)
    elif isinstance(value, bool | np.bool_):
        return bool
    elif isinstance(value, int | np.integer):
        return int
    elif isinstance(value, float):
        return float
    raise TypeError(f"a kernel takes numbers and aligned arrays, not {value!r}")


@cache
def machine() -> str:
    """What all machine code depends on: the processor, and the programs that made the code."""
    settings = sorted(
        f"{name}={value}" for name, value in os.environ.items()
        if name.startswith("NUMBA_") and name != "NUMBA_CACHE_DIR"
    )  # fmt: skip
    this_module = hashlib.sha256(
        Path(__file__).read_bytes()
    ).hexdigest()  # calls what it has emitted
    made_by = (sys.version, _numba_version(), llvmlite.__version__, this_module)
    return "\n".join((*made_by, llvm.get_process_triple(), *_processor(), *settings))


def emit(ir: str, entry: str, signature: Signature) -> bytes | None:
    """The object file of the function `entry`, which numba has compiled to this text of LLVM's.

    None where the function has other parameters than its signature promises, or calls something
    that may not be there in the next process.
    """
    fields = [name for each in signature for _, name in _fields(each)]
    module = llvm.parse_assembly(ir + _adapter(entry, fields))
    parameters = [str(each.type) for each in module.get_function(entry).arguments]
    if parameters != ["ptr", "ptr", *fields]:
        return None
    for each in (*module.functions, *module.global_variables):
        if not each.is_declaration and each.name != "kernel":
            each.linkage = "internal"
    target = _target_machine()
    passes = llvm.create_new_module_pass_manager()
    passes.add_global_dead_code_eliminate_pass()
    passes.run(module, llvm.create_pass_builder(target, llvm.create_pipeline_tuning_options()))
    for each in (*module.functions, *module.global_variables):
        if "NumbaEnv" in each.name or (each.is_declaration and not _is_in_every_process(each.name)):
            return None
    return bytes(target.emit_object(module))


def load(code: bytes, signature: Signature, result: Number | None, name: str) -> Callable[..., Any]:
    """The function in an object file. Calling it releases the GIL.

    It raises `RuntimeError` with its `name` where the code reports an exception, such as a division
    by zero.
    """
    _helpers()
    engine = llvm.create_mcjit_compiler(llvm.parse_assembly(""), _target_machine())
    engine.add_object_file(llvm.ObjectFileRef.from_data(code))
    engine.finalize_object()
    function = ctypes.CFUNCTYPE(ctypes.c_int32, ctypes.c_char_p, ctypes.c_char_p)(
        engine.get_function_address("kernel")
    )
    pack = Struct("".join(name for each in signature for name, _ in _fields(each))).pack
    unpack = Struct(_NUMBERS[result or int][0]).unpack_from
    place_of = ctypes.c_char * 8

    def call(*arguments: Any, _engine: object = engine) -> Any:  # which owns the code
        place = place_of()
        status = function(pack(*_values(arguments)), place)
        if status not in _STATUS_OK:
            raise RuntimeError(f"{name} ended with numba's status {status}")
        return unpack(place)[0] if result else None

    return call


def _values(arguments: Sequence[Any]) -> list[Any]:
    """The values of the fields that stand for these arguments; see `_fields`."""
    values: list[Any] = []
    for each in arguments:
        if isinstance(each, np.ndarray):
            values += (0, 0, each.size, each.itemsize, each.ctypes.data, *each.shape, *each.strides)
        else:
            values.append(each)
    return values


def _fields(kind: Number | ArrayType) -> list[tuple[str, str]]:
    """The fields that stand for an argument.

    An array is two owners (nobody here), how many items, the size of one, where the first is, and
    for each dimension an extent and a stride in bytes.
    """
    if not isinstance(kind, ArrayType):
        return [_NUMBERS[kind]]
    number = _NUMBERS[int]
    return [_POINTER, _POINTER, number, number, _POINTER, *[number] * 2 * kind.dimensions]


def _adapter(entry: str, fields: Sequence[str]) -> str:
    """A function `kernel` that calls `entry` with the fields of a struct as its arguments."""
    struct = f"{{ {', '.join(fields)} }}"
    parts = [f"%a{i} = extractvalue {struct} %all, {i}" for i in range(len(fields))]
    arguments = "".join(f", {field} %a{i}" for i, field in enumerate(fields))
    return "\n".join((
        "", "define i32 @kernel(ptr %struct, ptr %result) {", "%exception = alloca ptr",
        f"%all = load {struct}, ptr %struct", *parts,
        f"%status = call i32 @{entry}(ptr %result, ptr %exception{arguments})",
        "ret i32 %status", "}",
    ))  # fmt: skip


def _processor() -> tuple[str, str]:
    """The name and the features of the processor that code is made for, as numba takes them."""
    name, features = (os.environ.get(f"NUMBA_CPU_{what}") for what in ("NAME", "FEATURES"))
    host_features = llvm.get_host_cpu_features().flatten()
    return name or llvm.get_host_cpu_name(), host_features if features is None else features


@cache
def _target_machine() -> llvm.TargetMachine:
    """What makes code to be linked at run time, with numba's options."""
    llvm.initialize_native_target()
    llvm.initialize_native_asmprinter()
    target = llvm.Target.from_triple(llvm.get_process_triple())
    name, features = _processor()
    return target.create_target_machine(
        cpu=name,
        features=features,
        opt=3,
        reloc="static" if target.name.startswith("x86") else "default",
        codemodel="jitdefault",
        jit=True,
    )


def _is_in_every_process(symbol: str) -> bool:
    """Whether it is LLVM's own, one of numba's functions in C, or of C's libraries."""
    own = symbol.startswith("llvm.") or symbol in _helpers()
    return own or hasattr(ctypes.CDLL(None), symbol)


@cache
def _helpers() -> dict[str, int]:
    """The addresses of numba's functions in C, by their symbols.

    Their modules are loaded from their files, since importing one by its name imports numba.
    """
    addresses: dict[str, int] = {}
    for prefix, name in _HELPERS:
        module = sys.modules.get(name) or _module_alone(name)
        for function, address in module.c_helpers.items():
            addresses[function if function.startswith("_") else prefix + function] = address
    for symbol, address in addresses.items():
        llvm.add_symbol(symbol, address)
    return addresses


def _module_alone(name: str) -> Any:
    """A module in C of numba's, without the packages that it lies in."""
    folder = _numba_folder().joinpath(*name.split(".")[1:-1])
    spec = PathFinder.find_spec(name, [str(folder)])
    if spec is None or spec.loader is None:
        raise ImportError(f"numba has no {name}", name=name)
    module = module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def _numba_folder() -> Path:
    spec = find_spec("numba")
    if spec is None or spec.origin is None:
        raise ImportError("numba is not installed", name="numba")
    return Path(spec.origin).parent


def _numba_version() -> str:
    """As numba's own file has it: asking for the metadata of packages takes 40 ms."""
    try:
        return (_numba_folder() / "_version.py").read_text()
    except OSError:
        from importlib.metadata import version  # slow to load

        return version("numba")
