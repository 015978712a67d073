"""The shape of the project, read from its folders and from the source's own imports."""

from __future__ import annotations

import ast
import subprocess
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest

import engine

ROOT = Path(engine.__file__).parents[1]
GROUND = "ground"
"""The files that lie in `engine/` itself."""

MAY_IMPORT = {
    GROUND: set[str](),
    "timeline": {GROUND},
    "storage": {GROUND},
    "pixels": {GROUND},
    "media": {GROUND, "pixels", "storage"},
    "audio": {GROUND, "media", "storage"},
    "gpu": {GROUND, "pixels", "media", "storage"},
    "upscale": {GROUND, "pixels", "gpu"},
    "pipeline": {GROUND, "timeline", "storage", "pixels", "media", "audio", "gpu", "upscale"},
    "cli": {
        GROUND,
        "timeline",
        "storage",
        "pixels",
        "media",
        "audio",
        "gpu",
        "upscale",
        "pipeline",
    },
}
"""Imports run from the bottom of this table to its top, never back."""

SURFACE = {"engine", "engine.__main__"}
"""What people import and start: it names every package, and no package names it."""

ABOVE_THE_ENGINE = {"backend", "modal_functions", "bench", "tests"}
HEAVY = {"av", "boto3", "llvmlite", "numba", "numpy", "torch", "rich.progress"}


def module_name(path: Path) -> str:
    parts = path.relative_to(ROOT).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def imported_names(path: Path) -> Iterator[str]:
    """Full names of all that a file imports, inside functions and for types too."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            yield node.module
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


FILES = {
    module_name(path): path
    for folder in ("engine", "backend", "modal_functions")
    for path in sorted((ROOT / folder).rglob("*.py"))
}
IMPORTS = {
    module: {name for name in imported_names(path) if name in FILES}
    for module, path in FILES.items()
}
ENGINE = [module for module in FILES if module.startswith("engine.") and module not in SURFACE]


def package_of(module: str) -> str:
    parts = module.split(".")
    return parts[1] if (ROOT / "engine" / parts[1]).is_dir() else GROUND


def top_level(module: str) -> set[str]:
    return {name.split(".")[0] for name in imported_names(FILES[module])}


def test_the_folders_of_the_engine_are_its_packages() -> None:
    folders = {path.parent.name for path in (ROOT / "engine").glob("*/__init__.py")}
    assert folders | {GROUND} == set(MAY_IMPORT)


@pytest.mark.parametrize("module", ENGINE)
def test_imports_run_one_way(module: str) -> None:
    package = package_of(module)
    allowed = MAY_IMPORT[package] | {package}
    against = {name for name in IMPORTS[module] if package_of(name) not in allowed}
    assert not against, f"{module} imports {sorted(against)}"


def circle_in(imports: Mapping[str, set[str]]) -> list[str]:
    """Modules that import each other in a circle, the first one again at the end; empty if none."""
    finished: set[str] = set()

    def visit(module: str, way: list[str]) -> list[str]:
        if module in way:
            return [*way[way.index(module) :], module]
        if module not in finished:
            for name in sorted(imports[module]):
                if circle := visit(name, [*way, module]):
                    return circle
            finished.add(module)
        return []

    return next(filter(None, (visit(module, []) for module in imports)), [])


def test_no_circle_of_imports() -> None:
    """Not even one that is hidden by an import inside a function, or for types only."""
    assert not circle_in(IMPORTS)


def test_a_circle_would_be_found(tmp_path: Path) -> None:
    source = "from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    import b\n"
    (tmp_path / "a.py").write_text(source + "def f():\n    from c import d\n")
    assert set(imported_names(tmp_path / "a.py")) >= {"b", "c", "c.d"}
    assert circle_in({"a": {"b"}, "b": {"c", "d"}, "c": {"a"}, "d": set()}) == ["a", "b", "c", "a"]
    assert circle_in({"a": {"b", "c"}, "b": {"c"}, "c": set()}) == []


def test_deciding_touches_no_file_format_and_no_network() -> None:
    for module in ENGINE:
        if package_of(module) in ("timeline", GROUND):
            assert not top_level(module) & {"av", "torch", "boto3"}, module


def test_where_plans_meet_pixels() -> None:
    """Only the pipeline sees both, and in it only what renders and what joins."""
    both = {
        module
        for module in ENGINE
        if any(package_of(name) == "timeline" for name in IMPORTS[module])
        and any(package_of(name) in ("pixels", "media", "audio") for name in IMPORTS[module])
    }
    assert {package_of(module) for module in both} <= {"pipeline", "cli"}


def test_one_file_names_boto3() -> None:
    named = {module for module in FILES if {"boto3", "botocore"} & top_level(module)}
    assert named == {"engine.storage.s3"}


def test_nothing_in_the_engine_imports_what_is_built_on_it() -> None:
    for module in (*ENGINE, *SURFACE):
        assert not top_level(module) & ABOVE_THE_ENGINE, module


def test_modal_functions_and_the_backend_share_the_protocol_only() -> None:
    for module in FILES:
        if module.startswith("modal_functions."):
            assert not top_level(module) & {"backend", "bench", "tests"}, module
        if module.startswith("backend."):
            assert not top_level(module) & {"bench", "tests"}, module
            shared = {name for name in IMPORTS[module] if name.startswith("modal_functions.")}
            assert shared <= {"modal_functions.protocol"}, module


def test_the_protocol_needs_no_modal() -> None:
    assert top_level("modal_functions.protocol") <= set(sys.stdlib_module_names) | {"engine"}


def test_only_the_command_line_prints_or_exits() -> None:
    for module in FILES:
        if module.startswith("engine."):
            names = {
                ast.unparse(node.func)
                for node in ast.walk(ast.parse(FILES[module].read_text()))
                if isinstance(node, ast.Call)
            }
            assert not names & {"print", "sys.exit", "exit", "os._exit"}, module


def lengths(path: Path) -> Iterator[tuple[str, int]]:
    """Names of a file's functions, and how many lines each has."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            yield node.name, (node.end_lineno or node.lineno) - node.lineno + 1


def test_files_and_functions_stay_small() -> None:
    for module, path in FILES.items():
        assert len(path.read_text().splitlines()) < 450, module
        long = [name for name, lines in lengths(path) if lines >= 60]
        assert not long, f"{module}: {long}"


def test_public_surface() -> None:
    assert engine.__all__ == [
        "Cancelled",
        "Clip",
        "CropKeyframe",
        "Ease",
        "Edit",
        "EditError",
        "Encoder",
        "EngineError",
        "Fit",
        "Listener",
        "LocalProcesses",
        "LocalWorkers",
        "Plan",
        "Progress",
        "Rect",
        "Report",
        "Size",
        "SpeedSegment",
        "Transition",
        "TransitionType",
        "Upscaler",
        "build_plan",
        "choose_encoder",
        "choose_upscaler",
        "export",
        "probe_sources",
    ]
    for name in engine.__all__:
        assert getattr(engine, name).__doc__


def public_definitions(tree: ast.Module) -> Iterator[ast.ClassDef | ast.FunctionDef]:
    """Functions and classes of a module, and methods of its public classes, that have no `_`."""
    for node in tree.body:
        if isinstance(node, ast.FunctionDef | ast.ClassDef) and not node.name.startswith("_"):
            yield node
            if isinstance(node, ast.ClassDef):
                for inner in node.body:
                    if isinstance(inner, ast.FunctionDef) and not inner.name.startswith("_"):
                        yield inner


@pytest.mark.parametrize("module", ENGINE)
def test_what_is_public_is_described(module: str) -> None:
    tree = ast.parse(FILES[module].read_text())
    bare = [node.name for node in public_definitions(tree) if not ast.get_docstring(node)]
    assert ast.get_docstring(tree) and not bare, f"{module}: {bare}"


def loaded_by(module: str) -> set[str]:
    """Modules that importing one loads, in a fresh interpreter."""
    code = f"import sys, {module}; print(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    return set(done.stdout.split())


def test_importing_the_command_line_loads_nothing_heavy() -> None:
    assert not HEAVY & loaded_by("engine.cli.main")


def test_the_server_decodes_nothing() -> None:
    """What opens strangers' files is a worker's: a crash of it is not the server's."""
    assert not HEAVY & loaded_by("backend.server")
