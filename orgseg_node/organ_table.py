"""The organ table of this machine: the one that comes with the node, and the organs of the site's own."""

from __future__ import annotations

import os
from pathlib import Path

from orgseg_node.core.organs import OrganTable, join_tables, load_organs
from orgseg_node.shipped import shipped_config

_ORGANS_VARIABLE = "ORGSEG_ORGANS"


def organ_table() -> OrganTable:
    """The shipped table, with the rows of the file that the environment variable ORGSEG_ORGANS names.

    A row of that file replaces the shipped row of the same key.

    Raises
    ------
    ConfigError
        If a file cannot be read or is invalid, or uses a name that another organ has.
    """
    table = load_organs(shipped_config("organs.toml"))
    named = os.environ.get(_ORGANS_VARIABLE)
    if not named:
        return table
    path = Path(named).expanduser()
    return join_tables(table, load_organs(path), path.name)
