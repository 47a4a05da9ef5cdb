"""Files that are there completely or not at all."""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from orgseg_node.errors import DiskFull, StorageError
from orgseg_training.errors import FolderInUse


@contextmanager
def whole_file(path: Path) -> Iterator[Path]:
    """A temporary name to write to; the file gets its own name once it is complete and on the disk.

    Raises
    ------
    DiskFull, StorageError
        If it cannot be written; nothing is left behind.
    """
    part = path.with_name(f".{os.getpid()}.{path.name}")  # the ending tells writers the format
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        yield part
        with part.open("rb") as stream:
            os.fsync(stream.fileno())
        part.replace(path)
    except OSError as error:
        raise _storage(error) from error
    finally:
        part.unlink(missing_ok=True)


@contextmanager
def whole_folder(path: Path) -> Iterator[Path]:
    """A temporary folder to fill; it gets its own name once it is complete.

    Raises
    ------
    DiskFull, StorageError
        If it cannot be written; nothing is left behind.
    """
    part = path.with_name(f".{os.getpid()}.{path.name}")
    shutil.rmtree(part, ignore_errors=True)
    try:
        part.mkdir(parents=True)
        yield part
        part.replace(path)
    except OSError as error:
        raise _storage(error) from error
    finally:
        shutil.rmtree(part, ignore_errors=True)


@contextmanager
def sole_user(folder: Path) -> Iterator[int]:
    """Hold a working folder, also for processes that are given the descriptor; the system lets go of it.

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
    """Write JSON, whole or not at all. Raises DiskFull or StorageError."""
    with whole_file(path) as part:
        part.write_text(json.dumps(content, indent=1, sort_keys=True) + "\n", encoding="utf-8")


def read_json(path: Path) -> Any:
    """Read JSON. Raises StorageError if it is not there or damaged."""
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise StorageError(f"{path.name} cannot be read: {error}.") from error


def text_sha256(text: str) -> str:
    """SHA-256 of a text, in hexadecimal digits."""
    return hashlib.sha256(text.encode()).hexdigest()


def _storage(error: OSError) -> StorageError:
    if error.errno in (28, 122):  # ENOSPC, EDQUOT
        return DiskFull(f"{error.strerror}.")
    return StorageError(f"{error.strerror or error}.")
