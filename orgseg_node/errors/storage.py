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
    next_step = "Start the database server, or correct [database] in node.toml and the file of the password."


class NeverStarted(StorageError):
    """No node has run yet with this configuration."""

    code = "STORAGE_NO_NODE"
    next_step = "Start it with 'orgseg node run', or correct data_dir or [database] in the file of --config."


class DatabaseNewer(StorageError):
    """A newer version of this program has used the database."""

    code = "STORAGE_NEWER"
    next_step = "Start the newer version again, or restore the backup that was made before the upgrade."


class IllegalTransition(StorageError):
    """The job cannot change from its present state to the requested one."""

    code = "STORAGE_TRANSITION"
    next_step = "Run 'orgseg jobs show' for its state; it may have changed in the meantime."


class UnknownJob(StorageError):
    """No job, or more than one, has this number."""

    code = "STORAGE_UNKNOWN_JOB"
    next_step = "Run 'orgseg jobs list' for the numbers; any part that only one job has is enough."


class UnknownSeries(StorageError):
    """No received series, or more than one, has this UID."""

    code = "STORAGE_UNKNOWN_SERIES"
    next_step = "Run 'orgseg jobs list' or 'orgseg series list'; any part that only one UID has is enough."
