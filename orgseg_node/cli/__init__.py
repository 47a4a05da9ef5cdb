"""The command line: ``orgseg``."""

from orgseg_node.cli.app import main

__all__ = ["main"]
