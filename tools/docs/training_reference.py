"""The reference of training's commands: standard output is ``docs/orgseg-train.md``."""

from __future__ import annotations

import sys

from orgseg_training.cli.app import app
from tools.docs.command_pages import describe_commands

_HEAD = """\
# Command line reference of training

Made by `python -m tools.docs.training_reference`; a test keeps it true.

"""


def reference() -> str:
    """Every command of ``orgseg-train`` with its arguments, options and defaults."""
    return _HEAD + "\n".join(describe_commands(app, "orgseg-train"))


if __name__ == "__main__":
    sys.stdout.write(reference())
