"""Where the command line finds model bundles."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

from orgseg_node.errors import UnknownBundle

_VARIABLE = "ORGSEG_BUNDLES"


def own_bundles() -> Path:
    """The folder into which ``orgseg models add`` imports: the first of ORGSEG_BUNDLES, or the user's own."""
    return bundle_folders()[0]


def bundle_folders() -> tuple[Path, ...]:
    """Folders searched for bundles before those that come with the node.

    ORGSEG_BUNDLES may name several, separated as in PATH; without it, ``orgseg/bundles`` in the user's data
    folder (XDG Base Directory Specification).
    """
    named = [Path(part).expanduser() for part in os.environ.get(_VARIABLE, "").split(os.pathsep) if part]
    if named:
        return tuple(named)
    data = os.environ.get("XDG_DATA_HOME") or "~/.local/share"
    return (Path(data).expanduser() / "orgseg" / "bundles",)


def choose_bundles(names: Sequence[str] | None) -> list[str]:
    """The bundles that were named, or the only one there is.

    Raises
    ------
    UnknownBundle
        If none was named and there is none, or several to choose from.
    """
    from orgseg_node.inference.bundle import list_bundles  # noqa: PLC0415  # quick start of other commands

    if names:
        return list(names)
    found = sorted(bundle.manifest.name for bundle in list_bundles(bundle_folders()))
    if len(found) != 1:
        raise UnknownBundle(f"Name one with --bundle; there are: {', '.join(found) or 'none'}.")
    return found
