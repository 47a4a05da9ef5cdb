"""Where the files that come with the node are."""

from __future__ import annotations

from pathlib import Path

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
