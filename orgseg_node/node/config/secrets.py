"""Secrets are read from files that only the node's user can read; the configuration holds none."""

from __future__ import annotations

import stat
from pathlib import Path
from typing import Final

from orgseg_node.errors import ConfigError

_LONGEST: Final = 1 << 16


def read_secret(path: Path) -> str:
    """Read a token or password: the text of a file without the line end.

    It is read each time it is needed, so that it can be renewed while the node runs.

    Raises
    ------
    ConfigError
        If it cannot be read, is empty, is not one line of printable ASCII, or other users can read it. A file
        of root may be readable by its group.
    """
    text = read_private(path).strip()
    if not text or not text.isascii() or not text.isprintable():
        raise ConfigError(f"{path} must hold one line of printable ASCII.")
    return text


def read_private(path: Path) -> str:
    """Read the text of a file that only its owner can read. Raises ConfigError."""
    try:
        status = path.stat()
        with path.open(encoding="utf-8") as file:
            text = file.read(_LONGEST)
    except OSError as error:
        raise ConfigError(f"{path} cannot be read: {error.strerror}.") from error
    except UnicodeDecodeError as error:
        raise ConfigError(f"{path} is not text.") from error
    allowed = stat.S_IRWXU | (stat.S_IRGRP if status.st_uid == 0 else 0)
    if stat.S_IMODE(status.st_mode) & ~allowed:
        raise ConfigError(f"{path} is open to other users; run chmod 600 on it.")
    return text
