"""Reads and checks the configuration file.

Every problem is reported at once, each with the name of the setting and, for a misspelt name, the one that
was probably meant.
"""

from __future__ import annotations

import difflib
import tomllib
from pathlib import Path
from typing import Any, get_args

from pydantic import BaseModel, ValidationError

from orgseg_node.errors import ConfigError
from orgseg_node.node.config.alerts import resolve_web, watch_file_problems
from orgseg_node.node.config.database import database_problems
from orgseg_node.node.config.destinations import (
    WebDestination,
    destination_file_problems,
    resolve_destination,
    setting_path,
)
from orgseg_node.node.config.node_config import NodeConfig, contradictions
from orgseg_node.node.config.peers import REMOVED_OF_PEERS
from orgseg_node.node.config.rules import merge_rules_file, resolve_rules
from orgseg_node.node.config.stow import stow_problems
from orgseg_node.node.config.tls import resolve_peer_tls, tls_file_problems


def load_config(path: Path, *, secrets: bool = True) -> NodeConfig:
    """Read and check the configuration file.

    Parameters
    ----------
    path : a TOML file; relative folders in it are relative to the file
    secrets : whether the files of keys, certificates, passwords and tokens are read, too

    Raises
    ------
    ConfigError
        With one line for each problem.
    """
    try:
        data = tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise ConfigError(f"{path}: {error.strerror or error}.") from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path} is not TOML: {error}.") from error
    base = path.resolve().parent
    lines = merge_rules_file(data, base) + (_secret_problems(data, base) if secrets else [])
    try:
        config = NodeConfig.model_validate(data)
    except ValidationError as error:
        lines = [line for item in error.errors() for line in _problem_lines(dict(item))] + lines
        lines += [line for line in contradictions(data) if line not in lines]
        raise ConfigError(_message(path, lines)) from error
    if lines:
        raise ConfigError(_message(path, lines))
    return _resolved(config, base)


def _secret_problems(data: dict[str, Any], base: Path) -> list[str]:
    """List what is wrong with the files that hold keys, certificates, passwords and tokens."""
    found = tls_file_problems(data, base) + destination_file_problems(data, base) + stow_problems(data, base)
    return found + database_problems(data, base) + watch_file_problems(data, base)


def _message(path: Path, lines: list[str]) -> str:
    return f"{path}:\n" + "\n".join(f"  {line}" for line in lines)


def _resolved(config: NodeConfig, base: Path) -> NodeConfig:
    """The same with absolute paths of files and folders."""
    node = config.node.model_copy(update={"data_dir": base / config.node.data_dir.expanduser()})
    folders = tuple(base / folder.expanduser() for folder in config.inference.bundle_folders)
    inference = config.inference.model_copy(update={"bundle_folders": folders})
    contours = config.contours
    if contours.protocol.endswith(".toml"):
        own = str(base / Path(contours.protocol).expanduser())
        contours = contours.model_copy(update={"protocol": own})
    tls = config.tls.resolved(base)
    destinations = {name: resolve_destination(one, tls, base) for name, one in config.destinations.items()}
    sources = {name: resolve_peer_tls(one, tls, base) for name, one in config.sources.items()}
    update: dict[str, Any] = {"node": node, "inference": inference, "contours": contours, "sources": sources}
    update |= {"stow": config.stow.resolved(base), "tls": tls, "destinations": destinations}
    update |= {"web": resolve_web(config.web, base), "notices": config.notices.resolved(base)}
    update |= {"database": config.database.resolved(base)}
    update |= {"rule": resolve_rules(config.rule, config.rules, base)}
    return config.model_copy(update=update)


def _problem_lines(item: dict[str, Any]) -> list[str]:
    """One problem that pydantic reports, in plain words."""
    path = setting_path(tuple(item["loc"]))
    name = ".".join(str(part + 1) if isinstance(part, int) else part for part in path)
    if item["type"] == "extra_forbidden":
        if path[:1] == ("peers",) and path[-1] in REMOVED_OF_PEERS:
            return [f"{name}: {REMOVED_OF_PEERS[path[-1]]}"]
        near = difflib.get_close_matches(str(path[-1]), _known_settings(tuple(item["loc"])), n=1)
        return [f"{name}: there is no such setting{f'; did you mean {near[0]!r}?' if near else ''}"]
    if item["type"] == "missing":
        return [f"{name}: is missing"]
    if item["type"] == "value_error":
        message = str(item["ctx"]["error"])
        return [f"{name}: {line}" if name else line for line in message.splitlines()]
    return [f"{name}: {item['msg'][0].lower()}{item['msg'][1:]}, not {item['input']!r}"]


def _known_settings(path: tuple[Any, ...]) -> list[str]:
    """The names that are allowed where an unknown name was found.

    Parameters
    ----------
    path : as pydantic reports it: names of tables, numbers in lists, and the kind of a destination
    """
    models: list[type[BaseModel]] = [NodeConfig]
    for part in path[:-1]:
        fields = [model.model_fields[part] for model in models if part in model.model_fields]
        if fields:
            models = [model for field in fields for model in _models(field.annotation)]
        elif part in {"dicom", "web"}:
            models = [model for model in models if (model is WebDestination) == (part == "web")]
    return [name for model in models for name in model.model_fields]


def _models(annotation: Any) -> list[type[BaseModel]]:
    """The sections in the type of a field."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return [annotation]
    return [model for part in get_args(annotation) for model in _models(part)]
