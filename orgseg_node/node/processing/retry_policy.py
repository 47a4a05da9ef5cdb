"""What is done when a try of a job fails: the one table of what is worth another try.

::

    kind        which failures                                   tries
    transient   errors that say so: disk full, not durable       inference.attempts
    memory      memory ran out                                   2, the second with half of the memory
    death       a process died: the child's, or the node's own   until worker.deaths processes died
    permanent   everything else: the input, the model, time      1

A job over which processes keep dying is poison: it goes to the dead letter, so that it takes no other job
with it.
"""

from __future__ import annotations

from collections.abc import Mapping
from enum import StrEnum
from typing import Final

from orgseg_node.errors import OutOfMemory, WorkerDied


class Failure(StrEnum):
    """Kinds of failures, by what helps."""

    TRANSIENT = "transient"
    MEMORY = "memory"
    DEATH = "death"
    PERMANENT = "permanent"


_BY_CODE: Final[Mapping[str, Failure]] = {
    OutOfMemory.code: Failure.MEMORY,
    WorkerDied.code: Failure.DEATH,
}


def kind_of(code: str, *, retryable: bool) -> Failure:
    """What kind a failure is.

    Parameters
    ----------
    code : of the error
    retryable : whether the error says that another try may help
    """
    usual = Failure.TRANSIENT if retryable else Failure.PERMANENT
    return _BY_CODE.get(code, usual)
