"""Paths of the configuration and the workflow of the training package."""

from __future__ import annotations

from pathlib import Path

_PACKAGE = Path(__file__).resolve().parent


def training_config(name: str) -> Path:
    """A configuration file, in the installed wheel or in ``training/config/`` of the source tree."""
    installed = _PACKAGE / "shipped_config"
    return (installed if installed.is_dir() else _PACKAGE.parent / "config") / name


def training_workflow() -> Path:
    """The folder of the Snakemake workflow, in the installed wheel or in ``training/workflow/``."""
    installed = _PACKAGE / "shipped_workflow"
    return installed if installed.is_dir() else _PACKAGE.parent / "workflow"
