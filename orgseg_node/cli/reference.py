"""The reference of all commands, as Markdown: ``python -m orgseg_node.cli.reference > docs/cli.md``.

It is made from the signatures of the commands, so it does not depend on the version of typer.
"""

from __future__ import annotations

import inspect
import sys
import types
import typing
from collections.abc import Callable, Iterator
from enum import Enum
from typing import Any

import typer
from typer.models import ArgumentInfo, OptionInfo

from orgseg_node.cli.app import build_app

_HEAD = """\
# Command line reference

Made by `python -m orgseg_node.cli.reference`; a test keeps it true.

"""


def reference() -> str:
    """Every command with its arguments, options and defaults."""
    return _HEAD + "\n".join(_pages(build_app(), "orgseg"))


def _pages(app: typer.Typer, path: str) -> Iterator[str]:
    yield f"## {path}\n\n```\n{path} COMMAND\n```\n\n{_text(app.info.help)}\n"
    for command in app.registered_commands:
        callback = command.callback
        if callback is not None:
            yield _page(callback, f"{path} {command.name or callback.__name__.replace('_', '-')}")
    for group in app.registered_groups:
        if group.typer_instance is not None:
            yield from _pages(group.typer_instance, f"{path} {group.typer_instance.info.name}")


def _page(callback: Callable[..., Any], path: str) -> str:
    arguments, options = [], []
    hints = typing.get_type_hints(callback, include_extras=True)
    for name, parameter in inspect.signature(callback).parameters.items():
        kind, info = typing.get_args(hints[name])
        if isinstance(info, ArgumentInfo):
            arguments.append((info.metavar or name.upper(), info.help))
        elif isinstance(info, OptionInfo):
            options.append((_option(name, kind, info), f"{_sentence(info.help)}{_default(parameter)}"))
    usage = " ".join([path, *(metavar for metavar, _ in arguments), *(["[OPTIONS]"] if options else [])])
    lines = [f"## {path}", "", f"```\n{usage}\n```", "", _text(callback.__doc__), ""]
    lines += [f"* `{metavar}`: {_sentence(text)}" for metavar, text in arguments]
    lines += [f"* `{name}`: {text}" for name, text in options]
    return "\n".join(lines).rstrip() + "\n"


def _text(text: str | None) -> str:
    return "\n\n".join(" ".join(part.split()) for part in inspect.cleandoc(text or "").split("\n\n"))


def _sentence(text: str | None) -> str:
    return (text or "").rstrip(".") + "."


def _option(name: str, kind: Any, info: OptionInfo) -> str:
    declared = [info.default, *(info.param_decls or ())]  # in Annotated the first name stands as default
    names = ", ".join(each for each in declared if isinstance(each, str)) or f"--{name.replace('_', '-')}"
    return names if bool in {kind, *typing.get_args(kind)} else f"{names} {_kind(kind)}"


def _kind(kind: Any) -> str:
    if isinstance(kind, types.UnionType):
        return _kind(next(each for each in typing.get_args(kind) if each is not type(None)))
    if typing.get_origin(kind) is typing.Literal:
        return "|".join(typing.get_args(kind))
    if typing.get_origin(kind) is list:
        return _kind(typing.get_args(kind)[0])
    if isinstance(kind, type) and issubclass(kind, Enum):
        return "|".join(str(each) for each in kind)
    return {int: "NUMBER", float: "NUMBER", str: "TEXT"}.get(kind, "PATH")


def _default(parameter: inspect.Parameter) -> str:
    if parameter.default is inspect.Parameter.empty:
        return " Required."
    if parameter.default is None or parameter.default is False or parameter.default == "":
        return ""
    return f" Default: `{parameter.default}`."


if __name__ == "__main__":
    sys.stdout.write(reference())
