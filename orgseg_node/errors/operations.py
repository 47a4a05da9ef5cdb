"""Operation of the node: notices, audit, backup, reload."""

from __future__ import annotations

from orgseg_node.errors.base import OrgsegError


class OperationError(OrgsegError):
    """The operation on the node failed."""

    code = "OPERATION"


class NotNotified(OperationError):
    """A notice could not be sent."""

    code = "OPERATION_NOTICE"
    retryable = True
    next_step = "Check [notices] in node.toml and its server; the notice is kept and sent again."


class ItemsFailed(OperationError):
    """Single items of a periodic task failed; the others were done."""

    code = "OPERATION_ITEMS"
    next_step = "Search the node's log for 'item failed'; each entry names the item, the error and the place."


class AuditBroken(OperationError):
    """The audit trail was changed after it was sealed."""

    code = "OPERATION_AUDIT_BROKEN"
    next_step = "Do not change the database; find out who had write access, and compare it with a backup."


class BackupRefused(OperationError):
    """The backup was not created or not restored."""

    code = "OPERATION_BACKUP"
    next_step = "Remove the cause and run the command again; docs/operations.md describes backups."


class BackupInvalid(OperationError):
    """The backup is incomplete or was changed."""

    code = "OPERATION_BACKUP_INVALID"
    next_step = "Use another backup; nothing was restored."


class NodeNotRunning(OperationError):
    """No node runs on this data folder."""

    code = "OPERATION_NOT_RUNNING"
    next_step = "Start it with 'orgseg node run'."


class ReloadRefused(OperationError):
    """The new configuration was not activated; the previous one remains active."""

    code = "OPERATION_RELOAD"
    next_step = "Correct the file, or restart the node if a setting requires it."


class FeedbackError(OperationError):
    """A structure set that came back cannot be handled so."""

    code = "OPERATION_FEEDBACK"
    next_step = "Run 'orgseg feedback list' to see what came back."


class UnknownFeedback(FeedbackError):
    """No structure set with this number came back."""

    code = "OPERATION_UNKNOWN_FEEDBACK"
    next_step = "Run 'orgseg feedback list' to see what came back."


class NotAStructureSet(FeedbackError):
    """The file is not an RT Structure Set."""

    code = "OPERATION_NO_STRUCTURE_SET"
    next_step = "Name the RTSTRUCT file that the planning system exported."


class FeedbackUnmeasured(FeedbackError):
    """The process that measures a structure set ended without a result."""

    code = "OPERATION_FEEDBACK_DIED"
    next_step = "It is tried again; after that look at it in the planning system."
