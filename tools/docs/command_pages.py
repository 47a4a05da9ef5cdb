"""A command line described in Markdown, for the node's commands and for those of training alike.

It is made from the signatures of the commands, so it does not depend on the version of typer. It stands
outside of the floors, as `orgseg_node.shipped` does: training may import it; it imports nothing of the house.
"""

from __future__ import annotations

import inspect
import types
import typing
from collections.abc import Callable, Iterator
from enum import Enum
from pathlib import Path
from typing import Any

import typer
from typer.models import ArgumentInfo, OptionInfo, TyperInfo


def describe_commands(app: typer.Typer, path: str) -> Iterator[str]:
    """A page for a command line and for each of its commands, with arguments, options and defaults.

    Parameters
    ----------
    app : the commands
    path : the words that call it, such as ``orgseg``
    """
    root = app.registered_callback.callback if app.registered_callback else None
    said = app.info.help or (root.__doc__ if root else None)
    yield f"## {path}\n\n```\n{path} COMMAND\n```\n\n{_text(said)}\n"
    for command in app.registered_commands:
        callback = command.callback
        if callback is not None:
            yield _page(callback, f"{path} {command.name or callback.__name__.replace('_', '-')}")
    for group in app.registered_groups:
        if group.typer_instance is not None:
            yield from describe_commands(group.typer_instance, f"{path} {_name(group)}")


def _name(group: TyperInfo) -> str:
    """A group is named where it is added, or where it is made."""
    instance = group.typer_instance
    return group.name or (instance.info.name if instance else None) or ""


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
    if isinstance(parameter.default, Path) and parameter.default.is_absolute():
        return f" Default: the `{parameter.default.name}` that comes with it."  # where it lies differs
    return f" Default: `{parameter.default}`."
