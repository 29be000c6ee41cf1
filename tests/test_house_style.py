"""What CONTRIBUTING.md asks for, as far as a program can see it."""

from __future__ import annotations

import ast
import tomllib
from collections.abc import Iterator
from pathlib import Path

import pytest

import plumbline

ROOT = Path(__file__).parent.parent
ROOMS = ("analyzer", "calibration", "profilers", "reports")
LONGEST_FILE = 400
LONGEST_FUNCTION = 60
WRITERS = ("reports/console.py", "__main__.py", "_worker.py")
"""The only modules that write to the terminal, by the end of their path."""
WORKERS = "profilers/"
"""Worker processes speak to their parent over standard output."""
PURE = {"numpy", "msgspec"}
HEAVY = {"torch", "transformers", "sklearn", "scipy", "pandas", "matplotlib", "aiohttp", "rich"}
LEFTOVERS = ("TO" + "DO", "FIX" + "ME", "X" * 3)
FOREIGN = ("/" + "work/", "/" + "root/", ".." + "/shared", "find-" + "links")
"""What must not be known here: other machines' folders, and where packages come from."""


def sources(*rooms: str) -> list[Path]:
    """The Python files of some rooms, and the front door."""
    found = [path for room in rooms for path in sorted((ROOT / room).rglob("*.py"))]
    return [*found, ROOT / "plumbline.py"]


CODE = sources(*ROOMS)
EVERYTHING = [
    *CODE,
    *sorted((ROOT / "tests").rglob("*.py")),
    *sorted((ROOT / "bench").glob("*.py")),
]


def name(path: Path) -> str:
    """A path as people write it."""
    return path.relative_to(ROOT).as_posix()


def tree(path: Path) -> ast.Module:
    """A file, parsed."""
    return ast.parse(path.read_text(encoding="utf-8"))


def functions(path: Path) -> Iterator[ast.FunctionDef | ast.AsyncFunctionDef]:
    """Every function of a file."""
    for node in ast.walk(tree(path)):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            yield node


def test_files_are_short() -> None:
    long = {name(p): n for p in CODE if (n := len(p.read_text().splitlines())) > LONGEST_FILE}
    assert not long


def test_functions_are_short() -> None:
    long = {
        f"{name(path)}:{function.name}": lines
        for path in CODE
        for function in functions(path)
        if (lines := (function.end_lineno or 0) - function.lineno + 1) > LONGEST_FUNCTION
    }
    assert not long


def test_only_the_console_writes() -> None:
    guilty = [
        f"{name(path)}:{node.lineno}"
        for path in CODE
        if not name(path).endswith(WRITERS) and not name(path).startswith(WORKERS)
        for node in ast.walk(tree(path))
        if isinstance(node, ast.Call) and _writes(node)
    ]
    assert not guilty


def _writes(call: ast.Call) -> bool:
    return ast.unparse(call.func) in ("print", "sys.stdout.write", "sys.stderr.write")


def test_faults_are_named_and_never_swallowed() -> None:
    guilty = [
        f"{name(path)}:{node.lineno}"
        for path in CODE
        for node in ast.walk(tree(path))
        if isinstance(node, ast.ExceptHandler) and _broad(node)
    ]
    assert not guilty


def _broad(handler: ast.ExceptHandler) -> bool:
    if handler.type is not None and ast.unparse(handler.type) not in ("Exception", "BaseException"):
        return False
    inside = list(ast.walk(handler))
    raised = any(isinstance(node, ast.Raise) for node in inside)
    handed_on = any(isinstance(node, ast.Name) and node.id == handler.name for node in inside)
    return not raised and not handed_on


def test_input_is_checked_by_errors_not_by_assertions() -> None:
    guilty = [
        f"{name(path)}:{node.lineno}"
        for path in CODE
        for node in ast.walk(tree(path))
        if isinstance(node, ast.Assert) and not _narrows(node.test)
    ]
    assert not guilty


def _narrows(test: ast.expr) -> bool:
    """`isinstance(x, T)` and `x is not None` tell the type checker what the author knows."""
    if isinstance(test, ast.Call):
        return ast.unparse(test.func) == "isinstance"
    return isinstance(test, ast.Compare) and ast.unparse(test).endswith(" is not None")


def test_nothing_is_left_for_later() -> None:
    guilty = {
        f"{name(path)}: {word}"
        for path in EVERYTHING
        for word in LEFTOVERS
        if word in path.read_text(encoding="utf-8")
    }
    assert not guilty


def test_every_module_and_every_public_function_says_what_it_is() -> None:
    silent = [name(path) for path in CODE if not ast.get_docstring(tree(path))]
    silent += [
        f"{name(path)}:{node.name}"
        for path in CODE
        for node in tree(path).body
        if isinstance(node, ast.FunctionDef | ast.ClassDef)
        and not node.name.startswith("_")
        and not ast.get_docstring(node)
    ]
    assert not silent


def test_the_analyzer_needs_numpy_and_msgspec_only() -> None:
    used = {
        (name(path), module)
        for path in sources("analyzer")[:-1]
        for module in _imported(tree(path), everywhere=True)
        if module not in PURE and module != "analyzer" and not _standard(module)
    }
    assert {(path, module) for path, module in used if module != "huggingface_hub"} == set()


def test_the_front_door_opens_without_heavy_packages() -> None:
    """What `plumbline predict` loads before it knows what is asked."""
    doors = ("plumbline.py", "reports/commands/shell.py", "reports/commands/predict.py")
    for path in doors:
        assert not HEAVY & set(_imported(tree(ROOT / path), everywhere=False)), path


def _imported(module: ast.Module, everywhere: bool) -> Iterator[str]:
    for node in ast.walk(module) if everywhere else module.body:
        if isinstance(node, ast.Import):
            yield from (alias.name.partition(".")[0] for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            yield node.module.partition(".")[0]


def _standard(module: str) -> bool:
    import sys

    return module in sys.stdlib_module_names


def test_public_names_exist_and_are_all_there() -> None:
    assert sorted(plumbline.__all__, key=str.lower) == sorted(plumbline.__dir__(), key=str.lower)
    for public in plumbline.__all__:
        assert getattr(plumbline, public) is not None
    with pytest.raises(AttributeError, match="no_such_name"):
        plumbline.no_such_name  # noqa: B018 - looking it up is the test


def test_nothing_knows_the_machine_it_was_made_on() -> None:
    texts = [p for p in ROOT.glob("[!.]*") if p.suffix in (".md", ".toml", "") and p.is_file()]
    texts += [*EVERYTHING, *(ROOT / "docs").rglob("*.md"), ROOT / ".ci" / "run"]
    guilty = {
        f"{name(path)}: {word}"
        for path in texts
        for word in FOREIGN
        if word in path.read_text(encoding="utf-8", errors="replace")
    }
    assert not guilty


def test_every_room_says_what_lives_there() -> None:
    folders = {path.parent for path in CODE if path.parent != ROOT}
    silent = [name(folder) for folder in folders if not (folder / "__init__.py").is_file()]
    assert not silent


def test_commands_are_where_they_are_said_to_be() -> None:
    from reports.commands.shell import COMMANDS

    for command in COMMANDS.values():
        path = ROOT / Path(*command.module.split(".")).with_suffix(".py")
        assert path.is_file(), command.module
        assert {"declare", "run"} <= {function.name for function in functions(path)}


def test_the_readme_names_commands_and_files_that_exist() -> None:
    from reports.commands.shell import COMMANDS

    readme = (ROOT / "README.md").read_text()
    for line in readme.splitlines():
        words = line.split()
        if words[:1] == ["plumbline"]:
            assert words[1] in COMMANDS
    for part in readme.split("](")[1:]:
        assert (ROOT / part.partition(")")[0]).exists(), part[:40]


def test_the_package_ships_what_it_needs() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())
    assert project["project"]["scripts"] == {
        "plumbline": "plumbline:main",
        "calibrate": "plumbline:calibrate_main",
    }
    assert "catalog/**/*" in project["tool"]["setuptools"]["package-data"]["analyzer"]
