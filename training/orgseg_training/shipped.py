"""Where the configuration of the training package is."""

from __future__ import annotations

from pathlib import Path

_PACKAGE = Path(__file__).resolve().parent


def training_config(name: str) -> Path:
    """A configuration file, from the installed wheel or from the checkout's ``training/config/``."""
    installed = _PACKAGE / "shipped_config"
    return (installed if installed.is_dir() else _PACKAGE.parent / "config") / name


def training_workflow() -> Path:
    """The folder of the Snakemake workflow, likewise."""
    installed = _PACKAGE / "shipped_workflow"
    return installed if installed.is_dir() else _PACKAGE.parent / "workflow"
