"""The one way to write a file that survives a power cut: wholly there afterwards, or not at all."""

from __future__ import annotations

import contextlib
import errno
import os
import secrets
import shutil
from pathlib import Path
from typing import Final

from orgseg_node.errors import (
    DiskFull,
    NotDurable,
    OrgsegError,
)

PART: Final = ".part"


def require_space(folder: Path, min_free_mb: int) -> None:
    """Raise DiskFull if less than so many megabytes are free."""
    try:
        free = shutil.disk_usage(folder).free
    except OSError as error:
        raise NotDurable(f"The disk cannot be asked for its space: {error.strerror}.") from error
    if free < min_free_mb * 1_000_000:
        raise DiskFull(f"{free // 1_000_000} MB are free, the limit is {min_free_mb} MB.")


def write_durably(path: Path, content: bytes) -> None:
    """Write a file that either is wholly there after a power cut, or not at all.

    ``*.part`` with O_EXCL, for its owner and, if the umask allows, its group; fsync, rename, folder fsync.
    Raises DiskFull or NotDurable if any of it fails; then the file may be there but must not be counted on.
    """
    part = path.with_name(f".{path.stem}.{secrets.token_hex(4)}{PART}")
    try:
        descriptor = os.open(part, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o660)
        try:
            view = memoryview(content)
            while view:
                view = view[os.write(descriptor, view) :]
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
        part.rename(path)
        sync_folder(path.parent)
    except OSError as error:
        with contextlib.suppress(OSError):
            part.unlink()
        raise _storage_error(error) from error


def make_folder(folder: Path) -> None:
    """Make a folder, and its name durable in the folder above."""
    try:
        if not folder.is_dir():
            folder.mkdir(mode=0o770, parents=True, exist_ok=True)
        sync_folder(folder.parent)
    except OSError as error:
        raise _storage_error(error) from error


def sync_folder(folder: Path) -> None:
    """Make the names in a folder durable."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _storage_error(error: OSError) -> OrgsegError:
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        return DiskFull(f"{error.strerror}.")
    return NotDurable(f"{error.strerror}.")
