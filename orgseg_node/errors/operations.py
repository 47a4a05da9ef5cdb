"""Running the node from day to day: notices, audit, backup, reload."""

from __future__ import annotations

from orgseg_node.errors.base import OrgsegError


class OperationError(OrgsegError):
    """What was asked of the running or stored node was not done."""

    code = "OPERATION"


class NotNotified(OperationError):
    """A notice could not be sent."""

    code = "OPERATION_NOTICE"
    retryable = True
    next_step = "Check [notices] in node.toml and the server it names; the notice is kept and tried again."


class AuditBroken(OperationError):
    """The history was changed after it was sealed."""

    code = "OPERATION_AUDIT_BROKEN"
    next_step = "Keep the database as it is, find out who could write to it, and compare with a backup."


class BackupRefused(OperationError):
    """The backup was not made or not restored."""

    code = "OPERATION_BACKUP"
    next_step = "Choose a folder that does not exist yet; see docs/operations.md."


class BackupInvalid(OperationError):
    """The backup is incomplete or was changed."""

    code = "OPERATION_BACKUP_INVALID"
    next_step = "Use another backup; nothing was restored."


class NodeNotRunning(OperationError):
    """No node runs on this data folder."""

    code = "OPERATION_NOT_RUNNING"
    next_step = "Start it with 'orgseg node run'."


class ReloadRefused(OperationError):
    """The new configuration was not put into force; the old one stays."""

    code = "OPERATION_RELOAD"
    next_step = "Correct the file, or restart the node for settings that need it."
