"""Disk and database."""

from __future__ import annotations

from orgseg_node.errors.base import OrgsegError


class StorageError(OrgsegError):
    """The node's storage failed."""

    code = "STORAGE"
    next_step = "Check the disk and the rights of the data folder."


class DiskFull(StorageError):
    """The disk is full, or nearly so."""

    code = "STORAGE_DISK_FULL"
    retryable = True
    next_step = "Free disk space; senders are told to try again until then."


class NotDurable(StorageError):
    """An instance could not be written durably."""

    code = "STORAGE_NOT_DURABLE"
    retryable = True


class DatabaseUnreachable(StorageError):
    """The database does not answer."""

    code = "STORAGE_DATABASE"
    retryable = True
    next_step = "Start the database, or correct [database] in node.toml; 'orgseg doctor' says if it answers."


class IllegalTransition(StorageError):
    """A job cannot go from its state to the one asked for."""

    code = "STORAGE_TRANSITION"


class UnknownJob(StorageError):
    """There is no job with this number."""

    code = "STORAGE_UNKNOWN_JOB"
    next_step = "Run 'orgseg jobs list'."
