"""What is done for each pair of the state of a job in the store and the state of its workflow in the engine.

DBOS executes, the store decides. After a crash the two may disagree, and for each pair of states the tables
here have exactly one action. A test checks that no pair is missing.
"""

from __future__ import annotations

from collections.abc import Mapping
from enum import StrEnum
from typing import Final

from orgseg_node.node.processing.engine import WorkflowState
from orgseg_node.node.store.model import DeliveryState, JobState


class JobAction(StrEnum):
    """What is done about a job.

    Attributes
    ----------
    LEAVE : nothing: all is well, or its workflow will finish
    WAIT : it waits for its turn; `Dispatcher.dispatch` submits it to the engine
    REQUEUE : the engine does not know it; back to QUEUED, where it waits for its turn again
    RESTART : its workflow ended without a result, which counts as a failed run: back to QUEUED under a new
        workflow ID, or to the dead letter if there were too many failed runs
    """

    LEAVE = "leave"
    WAIT = "wait"
    REQUEUE = "requeue"
    RESTART = "restart"


class DeliveryAction(StrEnum):
    """What is done about a delivery of a job in SENDING, once it is due.

    Attributes
    ----------
    LEAVE : nothing: it is being sent, or it is finished
    SUBMIT : submit the attempt to the engine
    SKIP_ATTEMPT : the attempt ended without sending; the next attempt has a workflow ID of its own
    MAKE_DUE : no workflow sends it any more; it is due again
    """

    LEAVE = "leave"
    SUBMIT = "submit"
    SKIP_ATTEMPT = "skip attempt"
    MAKE_DUE = "make due"


_J, _D, _W = JobState, DeliveryState, WorkflowState

# in the order of the columns below
_COLUMNS: Final = (_W.ABSENT, _W.ACTIVE, _W.FINISHED, _W.FAILED, _W.GIVEN_UP)

_LEAVE, _WAIT, _REQUEUE, _RESTART = JobAction.LEAVE, JobAction.WAIT, JobAction.REQUEUE, JobAction.RESTART
_RUNNING: Final = (_REQUEUE, _LEAVE, _RESTART, _RESTART, _RESTART)
_NO_WORKFLOW_NEEDED: Final = (_LEAVE,) * 5  # a workflow that is still active sees the state and ends

_JOBS: Final[Mapping[JobState, tuple[JobAction, ...]]] = {
    #           ABSENT  ACTIVE  FINISHED  FAILED    GIVEN_UP
    _J.QUEUED: (_WAIT, _LEAVE, _RESTART, _RESTART, _RESTART),
    _J.PREPARING: _RUNNING,
    _J.INFERRING: _RUNNING,
    _J.WRITING: _RUNNING,
    _J.CHECKING: _RUNNING,
    _J.RETRY_WAIT: _RUNNING,
    _J.REVIEW: _NO_WORKFLOW_NEEDED,  # a person decides
    _J.SENDING: _NO_WORKFLOW_NEEDED,  # its deliveries have workflows of their own
    _J.DONE: _NO_WORKFLOW_NEEDED,
    _J.FAILED: _NO_WORKFLOW_NEEDED,
    _J.CANCELLED: _NO_WORKFLOW_NEEDED,
    _J.SUPERSEDED: _NO_WORKFLOW_NEEDED,
    _J.REJECTED: _NO_WORKFLOW_NEEDED,
}

_SUBMIT, _SKIP, _MAKE_DUE = DeliveryAction.SUBMIT, DeliveryAction.SKIP_ATTEMPT, DeliveryAction.MAKE_DUE
_NOTHING: Final = DeliveryAction.LEAVE
_DUE: Final = (_SUBMIT, _NOTHING, _SKIP, _SKIP, _SKIP)
_OVER: Final = (_NOTHING,) * 5

_DELIVERIES: Final[Mapping[DeliveryState, tuple[DeliveryAction, ...]]] = {
    #             ABSENT     ACTIVE    FINISHED   FAILED     GIVEN_UP
    _D.SENDING: (_MAKE_DUE, _NOTHING, _MAKE_DUE, _MAKE_DUE, _MAKE_DUE),
    _D.PENDING: _DUE,
    _D.RETRY_WAIT: _DUE,
    _D.STORED: _OVER,
    _D.COMMITTED: _OVER,
    _D.FAILED: _OVER,
    _D.DROPPED: _OVER,
}


def job_action(job: JobState, workflow: WorkflowState) -> JobAction:
    """What is done about a job in a state whose workflow is in a state."""
    return _JOBS[job][_COLUMNS.index(workflow)]


def delivery_action(delivery: DeliveryState, workflow: WorkflowState) -> DeliveryAction:
    """What is done about a delivery in a state whose attempt's workflow is in a state."""
    return _DELIVERIES[delivery][_COLUMNS.index(workflow)]
