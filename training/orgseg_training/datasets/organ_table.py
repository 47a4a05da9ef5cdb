"""The organ table of training: the shipped one, with the organs of a site added."""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import Final

from orgseg_node.core.organs import OrganTable, join_tables, load_organs
from orgseg_node.errors import ConfigError
from orgseg_node.organ_table import organ_table
from orgseg_training.errors import TrainingSettingsInvalid

OWN_ORGANS: Final = "organs.toml"
"""File of organs of its own in the folder of a site, or of an experiment."""


@cache
def shipped_organs() -> OrganTable:
    """The organ table of this machine."""
    return organ_table()


def organs_of_folder(folder: Path) -> OrganTable:
    """The organ table for a working folder: with the organs of its own ``organs.toml``, if it has one.

    Raises
    ------
    TrainingSettingsInvalid
        If the file is invalid.
    """
    own = folder / OWN_ORGANS
    return with_own_organs(own) if own.is_file() else shipped_organs()


def with_own_organs(path: Path) -> OrganTable:
    """The shipped table with the organs of a site; a site's row replaces the shipped row of the same key.

    Raises
    ------
    TrainingSettingsInvalid
        If the file is invalid, or uses a name that another organ has.
    """
    shipped = shipped_organs()
    try:
        return join_tables(shipped, load_organs(path), path.name)
    except ConfigError as error:
        raise TrainingSettingsInvalid(error.detail) from error
