"""Where files are: those that come with the node, and the model bundles of this machine."""

from __future__ import annotations

import os
from pathlib import Path

_BUNDLES_VARIABLE = "ORGSEG_BUNDLES"
_PACKAGE = Path(__file__).resolve().parent


def shipped_config(name: str) -> Path:
    """A default configuration file, from the installed wheel or from the checkout's ``config/``."""
    installed = _PACKAGE / "shipped_config" / name
    return installed if installed.exists() else _PACKAGE.parent / "config" / name


def shipped_bundles() -> Path:
    """The folder of the model bundles that come with the node."""
    return _PACKAGE / "bundles"


def shipped_demo() -> Path:
    """The folder of the demonstration CT."""
    return _PACKAGE / "demo_data"


def own_bundles() -> Path:
    """The folder into which ``orgseg models add`` imports: the first of ORGSEG_BUNDLES, or the user's own."""
    return bundle_folders()[0]


def bundle_folders() -> tuple[Path, ...]:
    """Folders searched for bundles before those that come with the node.

    ORGSEG_BUNDLES may name several, separated as in PATH; without it, ``orgseg/bundles`` in the user's data
    folder (XDG Base Directory Specification).
    """
    named = [
        Path(part).expanduser() for part in os.environ.get(_BUNDLES_VARIABLE, "").split(os.pathsep) if part
    ]
    if named:
        return tuple(named)
    data = os.environ.get("XDG_DATA_HOME") or "~/.local/share"
    return (Path(data).expanduser() / "orgseg" / "bundles",)
