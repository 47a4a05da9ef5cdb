"""Whose turn it is: urgent jobs first, but who waits becomes more urgent with time."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Final

from orgseg_node.node.jobs import Job

NORMAL: Final = 50
"""Priority of a job of which nothing is said; smaller is sooner."""


def in_turn(waiting: Sequence[Job], now: datetime, ageing_per_hour: float) -> list[Job]:
    """Jobs in the order in which they are to be run.

    A job's priority counts down by `ageing_per_hour` while it waits, so that no stream of urgent jobs keeps
    one of low priority waiting for ever. Of equals, the one that has waited longest goes first.

    Parameters
    ----------
    waiting : jobs that are QUEUED
    now : the time
    ageing_per_hour : by how much an hour of waiting counts; 0 for strict priorities
    """

    def rank(job: Job) -> tuple[float, datetime, str]:
        hours = (now - job.updated_at).total_seconds() / 3600
        return priority_of(job) - ageing_per_hour * max(hours, 0.0), job.updated_at, job.job_id

    return sorted(waiting, key=rank)


def priority_of(job: Job) -> float:
    """The priority a job was given; the usual one where nothing gave it one."""
    return float(getattr(job, "priority", NORMAL))
