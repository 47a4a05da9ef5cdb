"""The command line of training: ``orgseg-train``."""

from orgseg_training.cli.app import main

__all__ = ["main"]
