"""Gives up a job over which processes die again and again, so that it affects no other job."""

from __future__ import annotations

import structlog

from orgseg_node.errors import DeadLetter
from orgseg_node.node.store.model import JobState
from orgseg_node.node.store.store import Store

_log = structlog.get_logger("orgseg.worker")


def move_to_dead_letter(store: Store, job_id: str, deaths: int, last: str) -> str:
    """Fail a job with the code of the dead letter; the sentence for the operator.

    Parameters
    ----------
    store : the node's database
    job_id : of the job
    deaths : how many processes died over it
    last : a sentence on the last time
    """
    error = DeadLetter(f"That was {deaths} times.")
    text = f"{error.sentence} {last} {error.next_step}"
    store.move(job_id, JobState.FAILED, text, reason=error.code)
    _log.error("job given up", job=job_id, code=error.code, deaths=deaths)
    return text
