"""Finds the delivered result that a structure set comes from; if that is not certain, it says so.

It refers to a CT series, or to images of one. Of the results of this CT that were delivered before it came,
it belongs to the one whose object it names as its predecessor, or to the only one; or a person names the job.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from orgseg_node.contouring.object_roles import RTSTRUCT, kind_of
from orgseg_node.dicom.objects.structure_set_facts import StructureSetFacts
from orgseg_node.node.config.node_config import NodeConfig
from orgseg_node.node.feedback.model import FeedbackState
from orgseg_node.node.store.model import Delivery, DeliveryState, Job, OutputObject
from orgseg_node.node.store.store import Store

_DELIVERED = frozenset({DeliveryState.STORED, DeliveryState.COMMITTED})


@dataclass(frozen=True, slots=True, kw_only=True)
class Match:
    """What a structure set is compared with, or why with nothing.

    Attributes
    ----------
    job, delivered : the job, and the structure set of it that was delivered
    state : why there is none; None if there is one
    """

    job: Job | None = None
    delivered: OutputObject | None = None
    state: FeedbackState | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Sending:
    """How a structure set came.

    Attributes
    ----------
    sender : AE title
    received_at : when
    job_id : the job that a person named; empty if none did
    """

    sender: str
    received_at: datetime
    job_id: str = ""


def match(store: Store, config: NodeConfig, facts: StructureSetFacts, sending: Sending) -> Match:
    """The delivered structure set that a structure set comes from.

    Parameters
    ----------
    store : the node's database
    config : names the destinations
    facts : what the structure set says of itself
    sending : how it came
    """
    if facts.own and not facts.approved:
        return Match(state=FeedbackState.OWN)
    if sending.job_id:
        jobs = [store.job(sending.job_id)]
    elif series := _known_series(store, facts):
        jobs = [job for uid in series for job in store.jobs_of(uid)]
    else:
        return Match(state=FeedbackState.UNKNOWN_CT)
    delivered = {job.job_id: rows for job in jobs if (rows := _deliveries(store, job, sending.received_at))}
    jobs = [job for job in jobs if job.job_id in delivered]
    if not jobs:
        return Match(state=FeedbackState.NOT_DELIVERED)
    jobs = _fitting(jobs, delivered, facts)
    if len(jobs) > 1:
        return Match(state=FeedbackState.AMBIGUOUS)
    (job,) = jobs
    if job.purged_at is not None:
        return Match(job=job, state=FeedbackState.PURGED)
    return Match(job=job, delivered=_object(store, config, delivered[job.job_id], facts, sending))


def _known_series(store: Store, facts: StructureSetFacts) -> list[str]:
    """UIDs of the received series that it refers to: by name, or else by their images."""
    known = {one.series_uid for one in store.series()}
    named = [uid for uid in facts.series if uid in known]
    if named:
        return named
    copies = (copy for image in facts.images for copy in store.copies(image))
    return sorted({copy.series_uid for copy in copies})


def _deliveries(store: Store, job: Job, before: datetime) -> list[Delivery]:
    """The structure sets of a job that were delivered, if the job was before a time."""
    if job.delivered_at is None or job.delivered_at > before:
        return []
    return [
        one
        for one in store.deliveries(job.job_id)
        if kind_of(one.role) == RTSTRUCT and one.state in _DELIVERED
    ]


def _fitting(jobs: list[Job], delivered: dict[str, list[Delivery]], facts: StructureSetFacts) -> list[Job]:
    """The job whose object it names as its predecessor or keeps; or all."""
    uids = {facts.sop_uid, *facts.predecessors}
    fitting = [job for job in jobs if any(one.sop_uid in uids for one in delivered[job.job_id])]
    if fitting:
        return fitting
    return [job for job in jobs if job.purged_at is None] or jobs[-1:]


def _object(
    store: Store, config: NodeConfig, rows: list[Delivery], facts: StructureSetFacts, sending: Sending
) -> OutputObject | None:
    """The delivered object: its predecessor, that which its sender got, or the first."""
    titles = {name: getattr(one, "ae_title", "") for name, one in config.destinations.items()}

    def rank(row: Delivery) -> tuple[bool, bool, str]:
        is_named = row.sop_uid in facts.predecessors
        return not is_named, titles.get(row.destination) != sending.sender, row.role

    best = min(rows, key=rank)
    return next((one for one in store.attempts.objects(best.job_id) if one.role == best.role), None)
