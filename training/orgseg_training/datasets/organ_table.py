"""The organ table of training: the shipped one, and beside it the organs of a site."""

from __future__ import annotations

from functools import cache
from pathlib import Path

from orgseg_node.core.organs import OrganTable, join_tables, load_organs
from orgseg_node.shipped import shipped_config


@cache
def shipped_organs() -> OrganTable:
    """The organ table that comes with the node."""
    return load_organs(shipped_config("organs.toml"))


def with_own_organs(path: Path) -> OrganTable:
    """The shipped table with the organs of a site; a site's row replaces the shipped row of the same key.

    Raises
    ------
    ConfigError
        If the file is invalid, or uses a name that another organ has.
    """
    return join_tables(shipped_organs(), load_organs(path), path.name)
