"""Everything that the node has, as one list: what needs a person comes first.

Patient, study and description are read from the received images when they are asked for. They are in no table
of the database, so they end with the images, and nobody sees them who may not read the images.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path
from typing import Final

import pydicom

from orgseg_node.dicom.reading.files import whole_text, without_pydicom_warnings
from orgseg_node.dicom.reading.limits import open_bounded
from orgseg_node.errors import (
    SCAN_CODES,
    HeldByRule,
    IncompleteSeries,
    LateImages,
    MissingSlices,
    RuleUndecided,
    SendingBroken,
    SeveralParts,
)
from orgseg_node.node.config.node_config import NodeConfig
from orgseg_node.node.routing.decision import destinations_of
from orgseg_node.node.store.clock import stamp
from orgseg_node.node.store.model import Instance, Job, JobState, Series, SeriesState
from orgseg_node.node.store.store import Store

_TAGS: Final = (
    *("SpecificCharacterSet", "PatientID", "PatientName", "StudyInstanceUID", "AccessionNumber"),
    *("StudyDescription", "SeriesDescription"),
)
_JOBS_FOR_A_PERSON: Final = frozenset({JobState.REVIEW, JobState.FAILED})
_SERIES_FOR_A_PERSON: Final = frozenset({SeriesState.HOLD, SeriesState.CONFLICT})
_APPROVE: Final = "orgseg jobs approve"
_THEN: Final[Mapping[str, tuple[str, ...]]] = {
    JobState.REVIEW: (f"{_APPROVE} {{0}}", "orgseg jobs reject {0}"),
    JobState.FAILED: ("orgseg jobs retry {0}",),
    SeriesState.CONFLICT: ("orgseg series settle {0} --keep first", "orgseg series settle {0} --keep last"),
    SeriesState.HOLD: ("orgseg series judge {0}",),
}
_FORCEABLE: Final = frozenset(
    error.code
    for error in (MissingSlices, IncompleteSeries, SendingBroken, LateImages, HeldByRule, RuleUndecided)
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Identity:
    """Whose images a series has. These are patient data: for the terminal of the node's user only.

    Attributes
    ----------
    patient_id, patient_name, study_uid, accession : as in the images
    description : study and series description
    """

    patient_id: str
    patient_name: str
    study_uid: str
    accession: str
    description: str


@dataclass(frozen=True, slots=True, kw_only=True)
class FailingDelivery:
    """The objects of a job that are still to be sent to a destination, after attempts that failed.

    Attributes
    ----------
    job_id, destination : of the delivery
    attempts : how many failed
    next_attempt_at : time of the next one
    note : why the last one failed, as a sentence
    """

    job_id: str
    destination: str
    attempts: int
    next_attempt_at: datetime
    note: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Entry:
    """One job, or one series that has no job or needs a person itself.

    Attributes
    ----------
    job : the job; None for a series
    series : the series
    destinations : names of those that get the objects
    late : names of destinations that have not taken them for long
    failing : the destinations that have not taken objects so far, and when they are tried again
    approved_by : persons who have approved the job, while it is in REVIEW
    approvals_needed : number of persons who have to
    """

    job: Job | None
    series: Series
    destinations: tuple[str, ...] = ()
    late: tuple[str, ...] = ()
    failing: tuple[FailingDelivery, ...] = ()
    approved_by: tuple[str, ...] = ()
    approvals_needed: int = 1

    @property
    def is_approved(self) -> bool:
        """Whether enough persons have approved it: the node sends it at its next cycle."""
        return len(self.approved_by) >= self.approvals_needed

    @property
    def subject(self) -> str:
        """Number of the job, or Series Instance UID."""
        return self.series.series_uid if self.job is None else self.job.job_id

    @property
    def state(self) -> str:
        """State of the job, or of the series."""
        return self.series.state.value if self.job is None else self.job.state.value

    @property
    def changed_at(self) -> datetime:
        """When the job last changed, or the last image came."""
        return self.series.last_received_at if self.job is None else self.job.updated_at

    @property
    def needs_person(self) -> bool:
        """Whether nothing more happens, or not for long, until a person decides or repairs something."""
        if self.job is None:
            return self.series.state in _SERIES_FOR_A_PERSON
        return (self.job.state in _JOBS_FOR_A_PERSON and not self.is_approved) or bool(self.late)

    @property
    def note(self) -> str:
        """What is being done, or the reason of the state."""
        if self.job is None:
            parts = [self.series.reason, self.series.note]
        else:
            parts = [self.job.reason, self.job.stage or self.job.note]
        if self.late:
            parts.append(f"Not delivered yet to {', '.join(self.late)}.")
        return " ".join(part for part in parts if part)

    @property
    def commands(self) -> tuple[str, ...]:
        """The commands that continue it, each whole; none if no person is needed."""
        then = [text.format(self.subject) for text in _THEN.get(self.state, ())]
        if self.is_approved:
            then = [text for text in then if not text.startswith(_APPROVE)]
        if self.job is None and self.series.state is SeriesState.HOLD and self.series.reason in _FORCEABLE:
            then.insert(0, f"orgseg series force {self.subject}")
        if (
            self.job is None
            and self.series.state is SeriesState.HOLD
            and self.series.reason == SeveralParts.code
        ):
            then.insert(0, f"orgseg series choose {self.subject}")
        if self.job is not None and self.job.state is JobState.REVIEW and self.job.reason in SCAN_CODES:
            then.append(f"orgseg series judge {self.series.series_uid}")
        if self.late:
            then.append(f"orgseg jobs show {self.subject}")
        return tuple(then)


def overview(config: NodeConfig, store: Store, now: datetime) -> list[Entry]:
    """Every job, and each series without a job or in need of a person; those first, then the newest.

    Parameters
    ----------
    config : the node's configuration
    store : its database
    now : the present time
    """
    every = {series.series_uid: series for series in store.series()}
    jobs = store.jobs()
    failing = _failing(store)
    late = _late(store, now - timedelta(hours=config.watch.delivery_late_h))
    approved = _approved(store)
    entries = [
        Entry(
            job=job,
            series=every[job.series_uid],
            destinations=destinations_of(config, job),
            late=late.get(job.job_id, ()),
            failing=failing.get(job.job_id, ()),
            approved_by=approved.get(job.job_id, ()),
            approvals_needed=config.review.persons,
        )
        for job in jobs
    ]
    with_job = {job.series_uid for job in jobs}
    entries += [
        Entry(job=None, series=series)
        for series in every.values()
        if series.series_uid not in with_job or series.state in _SERIES_FOR_A_PERSON
    ]
    return sorted(entries, key=lambda one: (not one.needs_person, -one.changed_at.timestamp()))


@dataclass(frozen=True, slots=True, kw_only=True)
class _Late:
    job_id: str
    destination: str


def _late(store: Store, since: datetime) -> dict[str, tuple[str, ...]]:
    """The destinations that have been failing to take objects since a time, by number of the job."""
    rows = store.database.read(
        _Late,
        "SELECT DISTINCT d.job_id, d.destination FROM delivery d JOIN job j ON j.job_id = d.job_id"
        " WHERE j.state = 'SENDING' AND d.state IN ('RETRY_WAIT', 'SENDING') AND d.first_attempt_at <= ?"
        " ORDER BY d.job_id, d.destination",
        (stamp(since),),
    )
    found: dict[str, tuple[str, ...]] = {}
    for row in rows:
        found[row.job_id] = (*found.get(row.job_id, ()), row.destination)
    return found


@dataclass(frozen=True, slots=True, kw_only=True)
class _Approved:
    job_id: str
    person: str


def _approved(store: Store) -> dict[str, tuple[str, ...]]:
    """Who has approved the present objects of jobs in REVIEW, by number of the job."""
    rows = store.database.read(
        _Approved,
        "SELECT a.job_id, a.person FROM job_approval a JOIN job j ON j.job_id = a.job_id AND j.run = a.run"
        " WHERE j.state = 'REVIEW' ORDER BY a.job_id, a.at, a.person",
    )
    found: dict[str, tuple[str, ...]] = {}
    for row in rows:
        found[row.job_id] = (*found.get(row.job_id, ()), row.person)
    return found


def _failing(store: Store) -> dict[str, tuple[FailingDelivery, ...]]:
    """The destinations at which objects of a job wait for another try, by number of the job."""
    rows = store.database.read(
        FailingDelivery,
        "SELECT d.job_id, d.destination, d.attempts, d.next_attempt_at, d.note FROM delivery d"
        " JOIN job j ON j.job_id = d.job_id WHERE j.state = 'SENDING' AND d.state = 'RETRY_WAIT'"
        " ORDER BY d.job_id, d.destination, d.next_attempt_at, d.role",
    )
    found: dict[str, dict[str, FailingDelivery]] = {}
    for row in rows:  # the first of a destination is the one that is tried next
        found.setdefault(row.job_id, {}).setdefault(row.destination, row)
    return {job_id: tuple(places.values()) for job_id, places in found.items()}


def identity_of(data_dir: Path, instances: Iterable[Instance]) -> Identity | None:
    """Whose images these are, from the first that can be read; None if none can, or none is here any more.

    Parameters
    ----------
    data_dir : the node's data folder
    instances : of one series
    """
    return next(_identities(data_dir, instances), None)


def _identities(data_dir: Path, instances: Iterable[Instance]) -> Iterator[Identity]:
    for instance in instances:
        try:
            with open_bounded(data_dir / instance.path) as file, without_pydicom_warnings():
                header = pydicom.dcmread(file, stop_before_pixels=True, specific_tags=list(_TAGS))
        except Exception:  # noqa: BLE001, S112  # damaged bytes make the parser raise any exception
            continue
        descriptions = dict.fromkeys(
            whole_text(header, name) for name in ("StudyDescription", "SeriesDescription")
        )
        yield Identity(
            patient_id=whole_text(header, "PatientID"),
            patient_name=whole_text(header, "PatientName"),
            study_uid=whole_text(header, "StudyInstanceUID"),
            accession=whole_text(header, "AccessionNumber"),
            description=", ".join(filter(None, descriptions)),
        )


def is_of(identity: Identity | None, *, patient: str = "", study: str = "") -> bool:
    """Whether images are of a patient and of a study; never if it is not known whose they are.

    Parameters
    ----------
    identity : whose images they are; None if that is not known
    patient : the patient ID, or a part of the name; empty for any
    study : the accession number, or a part of the Study Instance UID; empty for any
    """
    if identity is None:
        return not (patient or study)
    wanted, name = patient.casefold(), identity.patient_name.casefold()
    is_patient = wanted == identity.patient_id.casefold() or wanted.strip() in name
    return is_patient and (study == identity.accession or study in identity.study_uid)
