"""What is done about each pair of what the store says of a job and the engine of its workflow.

The store is right about what a job is; the engine only lends hands. After any crash the two may say different
things, and each pair has one outcome here. The tables are whole: a test walks the product.
"""

from __future__ import annotations

from collections.abc import Mapping
from enum import StrEnum
from typing import Final

from orgseg_node.node.processing.engine import RunState
from orgseg_node.node.store.model import DeliveryState, JobState


class Outcome(StrEnum):
    """What is done about a job.

    Attributes
    ----------
    LEAVE : nothing: all is well, or it ends by itself
    HAND_OVER : it waits for its turn; `Dispatcher.dispatch` gives it to the engine
    REQUEUE : the engine knows nothing of it; back to QUEUED, where it gets its turn again
    ANEW : its workflow is over without a result, which counts as a death: back to QUEUED under a new number,
        or to the dead letter if there were too many
    """

    LEAVE = "leave"
    HAND_OVER = "hand over"
    REQUEUE = "requeue"
    ANEW = "anew"


class DeliveryOutcome(StrEnum):
    """What is done about a delivery of a job in SENDING, once its time has come.

    Attributes
    ----------
    LEAVE : nothing: it is on its way, or settled
    SUBMIT : give the attempt to the engine
    COUNT_ON : that attempt is over without having sent it; the next one has a number of its own
    FREE : nobody sends it any more; it is due again
    """

    LEAVE = "leave"
    SUBMIT = "submit"
    COUNT_ON = "count on"
    FREE = "free"


_J, _D, _R = JobState, DeliveryState, RunState

# in the order of the columns below
_COLUMNS: Final = (_R.ABSENT, _R.ALIVE, _R.FINISHED, _R.BROKEN, _R.GIVEN_UP)
_O, _P = Outcome, DeliveryOutcome
_OVER: Final = (_O.LEAVE,) * 5  # a workflow that still lives sees that the job is stopped, and ends
_HELD: Final = (_O.REQUEUE, _O.LEAVE, _O.ANEW, _O.ANEW, _O.ANEW)

_JOBS: Final[Mapping[JobState, tuple[Outcome, ...]]] = {
    #               ABSENT        ALIVE     FINISHED  BROKEN    GIVEN_UP
    _J.QUEUED: (_O.HAND_OVER, _O.LEAVE, _O.ANEW, _O.ANEW, _O.ANEW),
    _J.PREPARING: _HELD,
    _J.INFERRING: _HELD,
    _J.WRITING: _HELD,
    _J.CHECKING: _HELD,
    _J.RETRY_WAIT: _HELD,
    _J.REVIEW: _OVER,  # a person's turn
    _J.SENDING: _OVER,  # its deliveries have workflows of their own
    _J.DONE: _OVER,
    _J.FAILED: _OVER,
    _J.CANCELLED: _OVER,
    _J.SUPERSEDED: _OVER,
    _J.REJECTED: _OVER,
}

_DUE: Final = (_P.SUBMIT, _P.LEAVE, _P.COUNT_ON, _P.COUNT_ON, _P.COUNT_ON)
_SETTLED: Final = (_P.LEAVE,) * 5

_DELIVERIES: Final[Mapping[DeliveryState, tuple[DeliveryOutcome, ...]]] = {
    #              ABSENT     ALIVE      FINISHED     BROKEN       GIVEN_UP
    _D.PENDING: _DUE,
    _D.RETRY_WAIT: _DUE,
    _D.SENDING: (_P.FREE, _P.LEAVE, _P.FREE, _P.FREE, _P.FREE),
    _D.STORED: _SETTLED,
    _D.COMMITTED: _SETTLED,
    _D.FAILED: _SETTLED,
    _D.DROPPED: _SETTLED,
}


def outcome_of(job: JobState, run: RunState) -> Outcome:
    """What is done about a job in a state whose workflow is in a state."""
    return _JOBS[job][_COLUMNS.index(run)]


def delivery_outcome_of(delivery: DeliveryState, run: RunState) -> DeliveryOutcome:
    """What is done about a delivery in a state whose attempt is in a state."""
    return _DELIVERIES[delivery][_COLUMNS.index(run)]
