"""The reference of training's commands: ``python -m orgseg_training.reference > docs/orgseg-train.md``."""

from __future__ import annotations

import sys

from orgseg_node.command_pages import describe_commands
from orgseg_training.cli import app

_HEAD = """\
# Command line reference of training

Made by `python -m orgseg_training.reference`; a test keeps it true.

"""


def reference() -> str:
    """Every command of ``orgseg-train`` with its arguments, options and defaults."""
    return _HEAD + "\n".join(describe_commands(app, "orgseg-train"))


if __name__ == "__main__":
    sys.stdout.write(reference())
