"""The size of files and functions, and which file may import which; `make lint` checks the order of the folders."""

import ast
import inspect
from collections.abc import Iterator
from graphlib import CycleError, TopologicalSorter
from itertools import chain
from pathlib import Path

from retinacli.app import app

ROOT = Path(__file__).parents[1]
PACKAGES = ("retinanet", "retinacli")
LINES_PER_FILE, LINES_PER_FUNCTION, PARAMETERS = 350, 60, 8

Function = ast.FunctionDef | ast.AsyncFunctionDef


def python_files(*folders: str) -> list[Path]:
    return sorted(chain.from_iterable((ROOT / folder).rglob("*.py") for folder in folders))


def named(file: Path) -> str:
    return file.relative_to(ROOT).as_posix()


def functions() -> Iterator[tuple[str, Function]]:
    """Each function of the packages with its file's path and its name, such as "retinanet/model/boxes.py: encode"."""
    for file in python_files(*PACKAGES):
        for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
            if isinstance(node, Function):
                yield f"{named(file)}: {node.name}", node


def command_functions() -> set[str]:
    """The functions behind the commands, whose parameters are the commands' options; named as by `functions`."""
    callbacks = [inspect.unwrap(command.callback) for command in app.registered_commands if command.callback]
    return {f"{callback.__module__.replace('.', '/')}.py: {callback.__name__}" for callback in callbacks}


def parameters(function: Function) -> int:
    arguments = function.args
    return len([*arguments.posonlyargs, *arguments.args, *arguments.kwonlyargs])


def imported_files(file: Path, root: Path) -> set[Path]:
    """The files below `root` that `file` imports anywhere: also inside functions and under TYPE_CHECKING."""
    found = set()
    for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
        names = []
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            start = ".".join(file.relative_to(root).parts[: -node.level]) + "." if node.level else ""
            origin = (start + (node.module or "")).strip(".")
            names = [f"{origin}.{alias.name}" for alias in node.names]
        found |= {each for name in names if (each := defining_file(name, root)) is not None}
    return found - {file}


def defining_file(name: str, root: Path) -> Path | None:
    """The file of the module `name`, or of the module that has the attribute `name`; None: it is not below `root`."""
    for module in (name, name.rpartition(".")[0]):
        path = root.joinpath(*module.split("."))
        for file in (path.with_suffix(".py"), path / "__init__.py"):
            if module and file.is_file():
                return file
    return None


def test_no_file_is_long():
    lengths = {named(file): len(file.read_text(encoding="utf-8").splitlines()) for file in python_files(*PACKAGES)}
    assert {name: length for name, length in lengths.items() if length > LINES_PER_FILE} == {}


def test_no_function_is_long():
    commands = command_functions()
    lengths = []
    for name, function in functions():
        start = function.body[0].lineno if name in commands else function.lineno  # a command's options are a table
        lengths.append((name, (function.end_lineno or start) - start + 1))
    assert [each for each in lengths if each[1] > LINES_PER_FUNCTION] == []


def test_no_function_has_many_parameters():
    exempt = command_functions()
    assert all(name.startswith("retinacli/commands/") for name in exempt), exempt
    counts = [(name, parameters(function)) for name, function in functions() if function.name != "__init__"]
    assert [each for each in counts if each[1] > PARAMETERS and each[0] not in exempt] == []


def test_no_files_import_each_other_in_a_circle():
    graphs = [(ROOT, python_files(*PACKAGES)), (ROOT / "tests", python_files("tests"))]
    for root, files in graphs:
        try:
            TopologicalSorter({file: imported_files(file, root) for file in files}).prepare()
        except CycleError as error:
            raise AssertionError(" -> ".join(named(file) for file in error.args[1])) from None


def test_no_test_imports_another():
    tests = [file for file in python_files("tests") if file.name.startswith("test_")]
    imports = {file: imported_files(file, ROOT / "tests") | imported_files(file, ROOT) for file in tests}
    assert {named(file): each for file in tests if (each := sorted(map(named, imports[file] & set(tests))))} == {}


def test_imports_are_found_wherever_they_stand(tmp_path: Path):
    package = tmp_path / "package"
    package.mkdir()
    for name in ("__init__", "first", "second", "third", "fourth"):
        (package / f"{name}.py").touch()
    first = package / "first.py"
    first.write_text(
        "import os\nfrom typing import TYPE_CHECKING\nfrom package import second, NUMBER\n"
        "if TYPE_CHECKING:\n    from package.third import Name\n"
        "def function():\n    from .fourth import value\n"
    )
    names = ("second", "__init__", "third", "fourth")
    assert imported_files(first, tmp_path) == {package / f"{name}.py" for name in names}
