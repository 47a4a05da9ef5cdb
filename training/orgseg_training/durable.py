"""JSON files, and the lock of a working folder; see `orgseg_node.durable` for all other files."""

from __future__ import annotations

import fcntl
import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from orgseg_node.durable import atomic_file
from orgseg_node.errors import StorageError
from orgseg_training.errors import FolderInUse


@contextmanager
def lock_folder(folder: Path) -> Iterator[int]:
    """Lock a working folder, also for processes that inherit the descriptor; released when the last one ends.

    Raises
    ------
    FolderInUse
        If another process works in it.
    """
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / "run.lock").open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise FolderInUse(f"{folder}.") from None
        yield lock.fileno()


def write_json(path: Path, content: Any) -> None:
    """Write JSON, complete or not at all. Raises DiskFull or StorageError."""
    with atomic_file(path) as part:
        part.write_bytes(encode_json(content))


def encode_json(content: Any) -> bytes:
    """The bytes that `write_json` writes."""
    return (json.dumps(content, indent=1, sort_keys=True) + "\n").encode()


def read_json(path: Path) -> Any:
    """Read JSON. Raises StorageError if it is not there or damaged."""
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise StorageError(f"{path.name} cannot be read: {error}.") from error
