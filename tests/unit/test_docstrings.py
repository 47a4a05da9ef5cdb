"""Public functions with three or more parameters describe each of them.

A command of the command line describes its parameters by their help texts, which ``--help`` prints.
"""

from __future__ import annotations

import ast
import typing
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import typer

from orgseg_node.cli.app import build_app
from orgseg_training.cli.app import app as training_app

_ROOT = Path(__file__).resolve().parents[2]
_FOLDERS = ("orgseg_node", "training/orgseg_training", "tools")
_FILES = sorted(path for folder in _FOLDERS for path in (_ROOT / folder).rglob("*.py"))

Function = ast.FunctionDef | ast.AsyncFunctionDef


def _public(node: ast.Module | ast.ClassDef, *, within: bool = False) -> Iterator[tuple[Function, bool]]:
    for child in node.body:
        if isinstance(child, ast.ClassDef) and not child.name.startswith("_"):
            yield from _public(child, within=True)
        elif isinstance(child, Function) and not child.name.startswith("_"):
            yield child, within


def _count(function: Function, *, within: bool) -> int:
    arguments = function.args
    count = len(arguments.posonlyargs + arguments.args + arguments.kwonlyargs)
    static = any(isinstance(each, ast.Name) and each.id == "staticmethod" for each in function.decorator_list)
    return count - (within and not static)


def _callbacks(app: typer.Typer) -> Iterator[Callable[..., object]]:
    yield from (command.callback for command in app.registered_commands if command.callback is not None)
    for group in app.registered_groups:
        if group.typer_instance is not None:
            yield from _callbacks(group.typer_instance)


_COMMANDS = [*_callbacks(build_app()), *_callbacks(training_app)]
_NAMES = frozenset(command.__name__ for command in _COMMANDS)


@pytest.mark.parametrize("path", _FILES, ids=lambda path: str(path.relative_to(_ROOT)))
def test_parameters_are_described(path: Path) -> None:
    tree = ast.parse(path.read_text(encoding="utf-8"))
    commands = _NAMES if "cli" in path.parts else frozenset()
    lacking = [
        function.name
        for function, within in _public(tree)
        if _count(function, within=within) >= 3
        and "Parameters\n---" not in (ast.get_docstring(function) or "")
        and function.name not in commands
    ]
    assert lacking == []


def test_every_parameter_of_a_command_has_a_help_text() -> None:
    assert len(_COMMANDS) > 40
    lacking = [
        f"{command.__name__} {name}"
        for command in _COMMANDS
        for name, hint in typing.get_type_hints(command, include_extras=True).items()
        if name != "return" and not any(getattr(each, "help", None) for each in typing.get_args(hint))
    ]
    assert lacking == []
