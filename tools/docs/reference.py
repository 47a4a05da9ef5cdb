"""The reference of all commands, as Markdown: ``python -m tools.docs.reference > docs/cli.md``."""

from __future__ import annotations

import sys

from orgseg_node.cli.app import build_app
from tools.docs.command_pages import describe_commands

_HEAD = """\
# Command line reference

Made by `python -m tools.docs.reference`; a test keeps it true.

"""


def reference() -> str:
    """Every command with its arguments, options and defaults."""
    return _HEAD + "\n".join(describe_commands(build_app(), "orgseg"))


if __name__ == "__main__":
    sys.stdout.write(reference())
