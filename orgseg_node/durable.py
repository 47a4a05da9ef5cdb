"""The one way to write a file or folder that survives a power cut: afterwards it is complete, or not there.

Each function writes under a temporary name, fsyncs, renames, and fsyncs the parent folder. A failure removes
the temporary file and raises DiskFull or NotDurable; only a process that is killed leaves it behind.
"""

from __future__ import annotations

import contextlib
import errno
import os
import secrets
import shutil
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Final

from orgseg_node.errors import (
    DiskFull,
    NotDurable,
    OrgsegError,
)

PART: Final = ".part"
"""Ending of a file that `write_durably` has not finished."""

_FULL_BELOW: Final = 1_000_000
"""With fewer free bytes, a library that fails to write and gives no reason has met a full disk."""


def is_full(folder: Path) -> bool:
    """Whether the disk of a folder has hardly any space left; False if that cannot be read."""
    try:
        return shutil.disk_usage(folder).free < _FULL_BELOW
    except OSError:
        return False


def require_space(folder: Path, min_free_mb: int) -> None:
    """Raise DiskFull if less than so many megabytes are free."""
    try:
        free = shutil.disk_usage(folder).free
    except OSError as error:
        raise NotDurable(f"The free disk space cannot be read: {error.strerror}.") from error
    if free < min_free_mb * 1_000_000:
        raise DiskFull(f"{free // 1_000_000} MB are free, the limit is {min_free_mb} MB.")


def write_durably(path: Path, content: bytes | Iterable[bytes], *, mode: int = 0o660) -> None:
    """Write a file in one step: after a power cut it is complete, or not there.

    ``*.part`` with O_EXCL, fsync, rename, folder fsync.

    Parameters
    ----------
    path : the file
    content : its bytes, or pieces of them
    mode : its permissions, less those of the umask; usually for its owner and group

    Raises
    ------
    DiskFull, NotDurable
        If any of it fails; the file may be there but must not be relied on.
    """
    part = path.with_name(f".{path.stem}.{secrets.token_hex(4)}{PART}")
    with _as_storage_errors(), _removed(part):
        descriptor = os.open(part, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, mode)
        try:
            for piece in (content,) if isinstance(content, bytes) else content:
                view = memoryview(piece)
                while view:
                    view = view[os.write(descriptor, view) :]
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
        part.rename(path)
        sync_folder(path.parent)


def rename_durably(source: Path, target: Path) -> None:
    """Give a file that was written under a temporary name in the same file system its name.

    Parameters
    ----------
    source, target : the file, and its name afterwards

    Raises
    ------
    DiskFull, NotDurable
        If any of it fails; the file may be there but must not be relied on.
    """
    with _as_storage_errors():
        _sync(source)
        source.rename(target)
        sync_folder(target.parent)


@contextlib.contextmanager
def atomic_file(path: Path) -> Iterator[Path]:
    """Write a large or streamed file: the block writes to the path it is given, which is renamed at its end.

    The given path ends as `path` does, because some libraries choose the format by the ending. Missing
    parent folders are made, and an older file of the name stays until the new one is complete.

    Raises
    ------
    DiskFull, NotDurable
        If it cannot be written, also for any OSError in the block, and for any other exception if the disk is
        full: libraries that write themselves often give no reason.
    """
    part = path.with_name(f".{secrets.token_hex(4)}.{path.name}")
    with _as_storage_errors(), _removed(part):
        _make_parents(path)
        with _full_disk_seen(path.parent):
            yield part
        _sync(part)
        part.replace(path)
        sync_folder(path.parent)


@contextlib.contextmanager
def atomic_folder(path: Path, mode: int = 0o777) -> Iterator[Path]:
    """Write a folder: the block fills the folder it is given, which is renamed at its end.

    Missing parent folders are made. A folder of the name must not be there, or be empty.

    Parameters
    ----------
    path : of the folder, once it is complete
    mode : of the folder while it is filled and afterwards, as far as the umask allows

    Raises
    ------
    DiskFull, NotDurable
        If it cannot be written, also for any OSError in the block, and for any other exception if the disk is
        full.
    """
    part = path.with_name(f".{path.name}.{secrets.token_hex(4)}{PART}")
    with _as_storage_errors(), _removed(part):
        _make_parents(path)
        part.mkdir(mode)
        with _full_disk_seen(path.parent):
            yield part
        for inside in (*part.rglob("*"), part):
            _sync(inside)
        part.rename(path)
        sync_folder(path.parent)


def make_folder(folder: Path) -> None:
    """Make a folder, and its name durable in the folder above."""
    with _as_storage_errors():
        if not folder.is_dir():
            folder.mkdir(mode=0o770, parents=True, exist_ok=True)
        sync_folder(folder.parent)


def move_durably(source: Path, target: Path) -> None:
    """Move a file or folder within a file system. Raises DiskFull or NotDurable."""
    with _as_storage_errors():
        source.rename(target)
        sync_folder(target.parent)
        sync_folder(source.parent)


def sync_folder(folder: Path) -> None:
    """Make the names in a folder durable. Raises OSError."""
    _sync(folder, os.O_DIRECTORY)


def _sync(path: Path, flags: int = 0) -> None:
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | flags)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _make_parents(path: Path) -> None:
    if not path.parent.is_dir():
        path.parent.mkdir(parents=True, exist_ok=True)
        sync_folder(path.parent.parent)


@contextlib.contextmanager
def _removed(part: Path) -> Iterator[None]:
    """Remove a temporary neighbour that was not renamed."""
    try:
        yield
    finally:
        with contextlib.suppress(OSError):
            if part.is_dir():
                shutil.rmtree(part, ignore_errors=True)
            else:
                part.unlink(missing_ok=True)


@contextlib.contextmanager
def _full_disk_seen(folder: Path) -> Iterator[None]:
    """Before a part is removed, which frees its space: an exception without a reason means a full disk."""
    try:
        yield
    except (OSError, OrgsegError):
        raise
    except Exception as error:
        if is_full(folder):
            raise DiskFull("No space left on device.") from error
        raise


@contextlib.contextmanager
def _as_storage_errors() -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise storage_error(error) from error


def storage_error(error: OSError) -> OrgsegError:
    """DiskFull or NotDurable for an error of the operating system."""
    kind = DiskFull if error.errno in (errno.ENOSPC, errno.EDQUOT) else NotDurable
    return kind(f"{error.strerror or error}.")
