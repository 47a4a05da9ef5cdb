"""The files of a folder."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path


def files_or_unreadable(folder: Path) -> Iterator[Path]:
    """All files in a folder and its subfolders except hidden ones, and the folders that cannot be listed.

    A folder that is not there, or no longer, has no files.
    """
    unreadable: list[Path] = []

    def not_listed(error: OSError) -> None:
        if not isinstance(error, FileNotFoundError):
            unreadable.append(Path(error.filename))

    for place, folders, names in os.walk(folder, onerror=not_listed):
        folders[:] = [name for name in folders if not name.startswith(".")]
        for name in names:
            path = Path(place, name)
            if not name.startswith(".") and _may_be_file(path):
                yield path
    yield from unreadable


def _may_be_file(path: Path) -> bool:
    """Whether it is a file, or cannot be asked; no pipe, socket or broken link."""
    try:
        return path.is_file()
    except OSError:
        return True
