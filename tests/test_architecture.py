"""Holds the three rooms of the house apart: data <- model <- search, and what each may lean on."""

import ast
import importlib
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

PROJECT = Path(__file__).parents[1]
FILES = sorted(path for room in ("data", "model", "search") for path in (PROJECT / room).rglob("*.py"))

PIXELS = {"numpy", "PIL", "torch", "torchvision"}
LEARNING = PIXELS | {"safetensors", "yaml"}
# What a room's files may import where they begin, besides the standard library.
AT_THE_TOP = {"data": PIXELS | {"data"}, "model": LEARNING | {"data", "model"}}
# What only a command needs: imported by the function that is the command, so that a bare machine can import the rest.
INSIDE_FUNCTIONS = {
    "data": AT_THE_TOP["data"] | {"cyclopts", "cv2", "rich", "yaml"},
    "model": AT_THE_TOP["model"] | {"cyclopts", "onnxruntime", "rich"},
}
VAGUE_NAMES = {"utils", "util", "helpers", "helper", "manager", "base", "common", "misc"}


def imported_packages(node: ast.AST) -> Iterator[str]:
    """The top-level packages that an import statement, or an import by its name as a text, asks for."""
    if isinstance(node, ast.Import):
        yield from (alias.name.partition(".")[0] for alias in node.names)
    elif isinstance(node, ast.ImportFrom):
        assert node.level == 0, f"line {node.lineno}: write the import in full"
        yield str(node.module).partition(".")[0]
    elif isinstance(node, ast.Call) and ast.unparse(node.func).endswith(("__import__", "import_module")):
        name = node.args[0]
        assert isinstance(name, ast.Constant), f"line {node.lineno}: an import whose name is only known later"
        yield str(name.value).partition(".")[0]


def imports_of(tree: ast.AST, *, inside_function: bool = False) -> Iterator[tuple[str, bool]]:
    """Every package that the code imports, and whether it does so inside a function."""
    for node in ast.iter_child_nodes(tree):
        for package in imported_packages(node):
            yield package, inside_function
        is_function = isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda)
        yield from imports_of(node, inside_function=inside_function or is_function)


def forbidden_imports(room: str, code: str) -> list[str]:
    """The packages that code of this room imports although it must not."""
    found = []
    for package, inside_function in imports_of(ast.parse(code)):
        allowed = (INSIDE_FUNCTIONS if inside_function else AT_THE_TOP)[room]
        if package not in allowed and package not in sys.stdlib_module_names:
            found.append(package)
    return found


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(PROJECT)))
def test_every_file_says_what_it_is_for_and_bears_a_name_that_does(path: Path) -> None:
    assert ast.get_docstring(ast.parse(path.read_text(encoding="utf-8")))
    assert not VAGUE_NAMES & set(path.stem.split("_"))


@pytest.mark.parametrize(
    "path",
    [path for path in FILES if path.relative_to(PROJECT).parts[0] in AT_THE_TOP],
    ids=lambda path: str(path.relative_to(PROJECT)),
)
def test_a_file_imports_only_what_its_room_may(path: Path) -> None:
    room = path.relative_to(PROJECT).parts[0]
    assert forbidden_imports(room, path.read_text(encoding="utf-8")) == []


@pytest.mark.parametrize(
    ("room", "code", "found"),
    [
        ("data", "import model", ["model"]),
        ("data", "from model.config import TrainConfig", ["model"]),
        ("data", "def f():\n    import search.run", ["search"]),
        ("data", "import rich", ["rich"]),
        ("data", "def f():\n    import rich, cyclopts, yaml", []),
        ("data", "import yaml", ["yaml"]),
        ("data", "import json, numpy.typing\nfrom PIL import Image\nfrom data.split import split_data", []),
        ("model", "import yaml, safetensors.torch, data.prepare", []),
        ("model", "class A:\n    def f(self):\n        if True:\n            import ray.tune", ["ray"]),
        ("model", "if False:\n    import optuna", ["optuna"]),
        ("model", "def f():\n    import pandas, rich", ["pandas"]),
        ("model", "import importlib\nimportlib.import_module('search.space')", ["search"]),
    ],
)
def test_the_guard_sees_what_it_must(room: str, code: str, found: list[str]) -> None:
    assert forbidden_imports(room, code) == found


def test_data_and_model_load_without_what_only_commands_and_searches_need() -> None:
    modules = [
        ".".join(path.relative_to(PROJECT).with_suffix("").parts)
        for path in FILES
        if path.relative_to(PROJECT).parts[0] in AT_THE_TOP and path.stem != "__init__"
    ]
    code = (
        f"import importlib, sys\nfor name in {modules}: importlib.import_module(name)\n"
        "print(*sorted({'ray', 'optuna', 'pandas', 'cyclopts', 'rich', 'search'} & set(sys.modules)))"
    )
    ran = subprocess.run([sys.executable, "-c", code], cwd=PROJECT, capture_output=True, text=True, check=False)
    assert (ran.returncode, ran.stdout.strip()) == (0, ""), ran.stderr


@pytest.mark.parametrize("room", ["data", "model", "search"])
def test_a_room_is_the_one_in_this_checkout(room: str) -> None:
    assert Path(str(importlib.import_module(room).__file__)) == PROJECT / room / "__init__.py"
