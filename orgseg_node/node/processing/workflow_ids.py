"""The workflow IDs of a job, under which the engine knows its workflows.

Contouring is ``JOB.RUN``, and ``JOB.RUN+N`` after N workflows of the run ended without a result (see
`Job.workflow_id`). Each attempt to send to a destination is ``JOB.RUN.DESTINATION.ATTEMPT``.
"""

from __future__ import annotations

from collections.abc import Iterable

from orgseg_node.node.store.model import Delivery, Job


def delivery_workflow_id(job: Job, destination: str, attempt: int) -> str:
    """The workflow of one attempt to send the objects of a job that are due at a destination.

    Parameters
    ----------
    job : in the run whose objects are sent
    destination : its name in the configuration
    attempt : from 1
    """
    return f"{job.job_id}.{job.run}.{destination}.{attempt}"


def every_workflow_id(job: Job, deliveries: Iterable[Delivery]) -> list[str]:
    """Every ID that a workflow of a job can have had, in all its runs and attempts."""
    runs = range(1, job.run + 1)
    contouring = [f"{job.job_id}.{run}" for run in runs]
    repeated = [f"{job.job_id}.{job.run}+{number}" for number in range(1, job.spent + 1)]
    attempts = sorted({(d.destination, number) for d in deliveries for number in range(1, d.attempts + 1)})
    sending = [f"{job.job_id}.{run}.{name}.{attempt}" for run in runs for name, attempt in attempts]
    return contouring + repeated + sending
