"""Which adapter reads which data set."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Final

from orgseg_node.errors import ConfigError
from orgseg_training.datasets import openkbp
from orgseg_training.datasets.case import SourceCase

Adapter = Callable[[str, Path, Mapping[str, Any]], tuple[SourceCase, ...]]
"""Called with the name of the data set in the experiment, its folder, and the options of the adapter."""

ADAPTERS: Final[Mapping[str, Adapter]] = {"openkbp": openkbp.source_cases}


def open_database(kind: str, name: str, folder: Path, options: Mapping[str, Any]) -> tuple[SourceCase, ...]:
    """The scans of a data set.

    Raises
    ------
    ConfigError
        If there is no adapter of this kind.
    InputError
        If the folder does not hold such a data set.
    """
    if kind not in ADAPTERS:
        raise ConfigError(f"databases.{name}: kind {kind!r} must be {', '.join(sorted(ADAPTERS))}.")
    return ADAPTERS[kind](name, folder, options)
