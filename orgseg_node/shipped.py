"""Paths of the files that come with the node, and of the model bundles of this machine."""

from __future__ import annotations

import os
from pathlib import Path

_BUNDLES_VARIABLE = "ORGSEG_BUNDLES"
_PACKAGE = Path(__file__).resolve().parent


def shipped_config(name: str) -> Path:
    """Path of a default configuration file, in the installed wheel or in ``config/`` of the checkout."""
    installed = _PACKAGE / "shipped_config" / name
    return installed if installed.exists() else _PACKAGE.parent / "config" / name


def shipped_document(name: str) -> Path:
    """Path of a page of the documentation that comes with the node, in the wheel or in ``docs/``."""
    installed = _PACKAGE / "shipped_docs" / name
    return installed if installed.exists() else _PACKAGE.parent / "docs" / name


def shipped_bundles() -> Path:
    """The folder of the model bundles that come with the node."""
    return _PACKAGE / "bundles"


def shipped_demo() -> Path:
    """The folder of the demonstration CT."""
    return _PACKAGE / "demo_data"


def user_bundles() -> Path:
    """The folder into which ``orgseg models add`` imports: the first of `bundle_folders`."""
    return bundle_folders()[0]


def bundle_folders() -> tuple[Path, ...]:
    """The folders with imported bundles, which are searched before those that come with the node.

    They are listed in the environment variable ORGSEG_BUNDLES, separated as in PATH. The default is
    ``orgseg/bundles`` in the user's data folder (XDG Base Directory Specification).
    """
    listed = [
        Path(part).expanduser() for part in os.environ.get(_BUNDLES_VARIABLE, "").split(os.pathsep) if part
    ]
    if listed:
        return tuple(listed)
    data = os.environ.get("XDG_DATA_HOME") or "~/.local/share"
    return (Path(data).expanduser() / "orgseg" / "bundles",)
