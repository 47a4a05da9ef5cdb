"""Options that several commands for the node share, and what they stand for."""

from __future__ import annotations

import getpass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from orgseg_node.errors import NeverStarted, OptionInvalid

if TYPE_CHECKING:
    from orgseg_node.node.config.node_config import NodeConfig
    from orgseg_node.node.store.store import Store

Config = Annotated[
    Path,
    typer.Option("--config", envvar="ORGSEG_CONFIG", help="The node's configuration, such as node.toml."),
]
Json = Annotated[bool, typer.Option("--json", help="Print JSON on stdout.")]
By = Annotated[
    str, typer.Option("--by", metavar="NAME", help="Your name; by default the user of the operating system.")
]
Why = Annotated[
    str, typer.Option("--why", metavar="TEXT", help="Reason; it is kept in the history, so name no patient.")
]

_MAX_CHARACTERS = 200


def attribution(by: str, why: str) -> str:
    """Who gives a command and why, as a text for the history. Raises OptionInvalid if it is not one line."""
    name = person_of(by)
    for what, text in (("--by", name), ("--why", why)):
        if not text.isprintable() or len(text) > _MAX_CHARACTERS:
            raise OptionInvalid(f"{what} is one line of at most {_MAX_CHARACTERS} characters.")
    return f"by {name}{f': {why.strip()}' if why.strip() else ''}"


def person_of(by: str) -> str:
    """Who gives a command: the name in --by, or the user of the operating system."""
    return by.strip() or _user()


def _user() -> str:
    try:
        return getpass.getuser()
    except (KeyError, OSError):  # a container's user may have no name
        return "unknown"


def open_store(config: NodeConfig, *, read_only: bool = False) -> Store:
    """Open the database of a node that has run before. Raises NeverStarted if it does not exist."""
    from orgseg_node.node.store.database import Database  # noqa: PLC0415  # quick start of other commands
    from orgseg_node.node.store.store import Store  # noqa: PLC0415

    place = config.database_location
    if isinstance(place, Path) and not place.exists():
        raise NeverStarted(f"There is no node database in {config.node.data_dir}.")
    return Store(Database(place, read_only=read_only))
