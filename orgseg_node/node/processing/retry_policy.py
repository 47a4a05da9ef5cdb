"""What is done when an attempt of a job fails: the one table of which failures are tried again.

::

    kind           which failures                                       attempts
    transient      errors that are retryable: disk full, not durable    inference.attempts
    out of memory  memory ran out                                       2, the second with half of the memory
    crash          a process died: the child's, or the node's own       until worker.deaths processes died
    permanent      everything else: the input, the model, time, and     1
                   exceptions that have no code of their own

A job over which processes die again and again is given up (dead letter), so that it affects no other job.
"""

from __future__ import annotations

from collections.abc import Mapping
from enum import StrEnum
from typing import Final

from orgseg_node.errors import OutOfMemory, WorkerDied


class FailureKind(StrEnum):
    """Kinds of failures, by what helps against them."""

    TRANSIENT = "transient"
    OUT_OF_MEMORY = "out of memory"
    CRASH = "crash"
    PERMANENT = "permanent"


_BY_CODE: Final[Mapping[str, FailureKind]] = {
    OutOfMemory.code: FailureKind.OUT_OF_MEMORY,
    WorkerDied.code: FailureKind.CRASH,
}


def classify_failure(code: str, *, retryable: bool) -> FailureKind:
    """The kind of a failure.

    Parameters
    ----------
    code : of the error
    retryable : whether another attempt may help, according to the error
    """
    default = FailureKind.TRANSIENT if retryable else FailureKind.PERMANENT
    return _BY_CODE.get(code, default)
