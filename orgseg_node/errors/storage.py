"""Errors of disk and database."""

from __future__ import annotations

from orgseg_node.errors.base import OrgsegError


class StorageError(OrgsegError):
    """The node's storage failed."""

    code = "STORAGE"
    next_step = "Check the disk and the access rights of the folder."


class DiskFull(StorageError):
    """The disk is full, or nearly so."""

    code = "STORAGE_DISK_FULL"
    retryable = True
    next_step = "Free disk space; until then, senders are refused and try again."


class NotDurable(StorageError):
    """A file could not be written durably."""

    code = "STORAGE_NOT_DURABLE"
    retryable = True


class DatabaseUnreachable(StorageError):
    """The database does not respond."""

    code = "STORAGE_DATABASE"
    retryable = True
    next_step = (
        "Start the database, or correct [database] in node.toml; 'orgseg doctor' checks the connection."
    )


class IllegalTransition(StorageError):
    """The job cannot change from its present state to the requested one."""

    code = "STORAGE_TRANSITION"


class UnknownJob(StorageError):
    """There is no job with this ID."""

    code = "STORAGE_UNKNOWN_JOB"
    next_step = "Run 'orgseg jobs list' for the IDs."
