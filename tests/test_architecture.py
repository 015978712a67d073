"""The shape of the project, read from the source's own imports."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import pytest

import engine

ROOT = Path(engine.__file__).parent
DECIDING = {
    "errors",
    "version",
    "timing",
    "geometry",
    "edit",
    "document",
    "checks",
    "source",
    "sound",
    "retime",
    "keyframes",
    "plan",
    "chunks",
    "fanout",
}
TOGETHER = {
    "concatenate",
    "render",
    "parts",
    "exporter",
    "executors",
    "processes",
    "worker",
    "report",
    "progress",
    "console",
    "describe",
    "estimate",
    "still",
    "demo",
    "doctor",
    "cli",
    "__init__",
    "__main__",
}
ABOVE_THE_ENGINE = {"backend", "modal_functions", "bench"}
HEAVY = {"av", "boto3", "numba", "numpy", "torch", "rich.progress"}


def module_name(path: Path) -> str:
    return ".".join(path.relative_to(ROOT).with_suffix("").parts)


def imports_of(path: Path) -> set[str]:
    """Full names of the modules a file imports, those under TYPE_CHECKING left out."""
    tree = ast.parse(path.read_text())
    for node in ast.walk(tree):
        if isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING":
            node.body = []
    found = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            found.add(node.module)
    return found


FILES = sorted(ROOT.rglob("*.py"))
IMPORTS = {module_name(path): imports_of(path) for path in FILES}


def engine_imports(module: str) -> set[str]:
    prefix = "engine."
    return {name.removeprefix(prefix) for name in IMPORTS[module] if name.startswith(prefix)}


@pytest.mark.parametrize("module", sorted(DECIDING))
def test_deciding_knows_no_pixels(module: str) -> None:
    foreign = {name for name in engine_imports(module) if name.split(".")[0] not in DECIDING}
    assert not foreign, f"{module} imports {foreign}"
    assert not {name.split(".")[0] for name in IMPORTS[module]} & {"av", "torch"}


@pytest.mark.parametrize("module", sorted(set(IMPORTS) - DECIDING - TOGETHER))
def test_doing_knows_no_edit_and_no_plan(module: str) -> None:
    assert not engine_imports(module) & ({"edit", "plan", "chunks"} | TOGETHER - {"progress"})


def test_only_render_and_the_exporter_see_a_plan_and_pixels() -> None:
    pixels = {"decode", "crop", "compose", "audio"}
    both = {
        module
        for module in IMPORTS
        if engine_imports(module) & {"plan", "chunks"} and engine_imports(module) & pixels
    }
    assert both == {"render", "exporter"}


def test_a_store_knows_bytes_and_keys_and_one_file_of_it_boto3() -> None:
    stores = {module for module in IMPORTS if module.startswith("store.")}
    assert {name for module in stores for name in engine_imports(module)} <= stores | {
        "errors",
        "files",
    }
    named = {module for module in IMPORTS if {"boto3", "botocore"} & top_level(module)}
    assert named == {"store.s3"}


def top_level(module: str) -> set[str]:
    return {name.split(".")[0] for name in IMPORTS[module]}


def test_nothing_in_the_engine_imports_what_is_built_on_it() -> None:
    for module, names in IMPORTS.items():
        assert not {name.split(".")[0] for name in names} & ABOVE_THE_ENGINE, module


@pytest.mark.parametrize(
    ("room", "stranger"), [("modal_functions", "backend"), ("backend", "modal_functions")]
)
def test_modal_functions_and_the_backend_meet_by_deployed_name(room: str, stranger: str) -> None:
    for path in sorted((ROOT.parent / room).rglob("*.py")):
        names = {name.split(".")[0] for name in imports_of(path)}
        assert not names & {stranger, "bench", "tests"}, path


def test_only_the_command_line_prints_or_exits() -> None:
    for path in FILES:
        names = {
            ast.unparse(node.func)
            for node in ast.walk(ast.parse(path.read_text()))
            if isinstance(node, ast.Call)
        }
        assert not names & {"print", "sys.exit", "exit", "os._exit"}, path


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


def test_importing_the_command_line_loads_nothing_heavy() -> None:
    code = "import sys, engine.cli.main; print(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert not HEAVY & set(done.stdout.split())


def test_the_server_decodes_nothing() -> None:
    """What opens strangers' files is a worker's: a crash of it is not the server's."""
    code = "import sys, backend.server; print(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert not HEAVY & set(done.stdout.split())
