"""Series, jobs and deliveries: their states, the allowed transitions, and the rows of the database.

The tables below are the only list of allowed transitions. The database gets the same rows and refuses every
other transition.

::

    Series    RECEIVING -> READY | HOLD | IGNORED | CONFLICT         (late image or person: RECEIVING)
    Job       QUEUED -> PREPARING -> INFERRING -> WRITING -> CHECKING -> (REVIEW) -> SENDING -> DONE
              side exits RETRY_WAIT, FAILED, CANCELLED, SUPERSEDED, REJECTED
    Delivery  PENDING -> SENDING -> STORED -> COMMITTED              (or RETRY_WAIT, FAILED, DROPPED)
    Model     CANDIDATE -> SHADOW -> LIVE -> RETIRED                 (rollback: RETIRED -> LIVE)
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum
from typing import Final

from orgseg_node.contouring.identity import ResultSettings, derive_job_id
from orgseg_node.contouring.object_roles import IMAGE
from orgseg_node.dicom.reading.part10 import Encoded


class SeriesState(StrEnum):
    """The state of a received series."""

    RECEIVING = "RECEIVING"
    READY = "READY"
    HOLD = "HOLD"
    IGNORED = "IGNORED"
    CONFLICT = "CONFLICT"


class JobState(StrEnum):
    """The state of the contouring of a series."""

    QUEUED = "QUEUED"
    PREPARING = "PREPARING"
    INFERRING = "INFERRING"
    WRITING = "WRITING"
    CHECKING = "CHECKING"
    REVIEW = "REVIEW"
    SENDING = "SENDING"
    DONE = "DONE"
    RETRY_WAIT = "RETRY_WAIT"
    FAILED = "FAILED"
    CANCELLED = "CANCELLED"
    SUPERSEDED = "SUPERSEDED"
    REJECTED = "REJECTED"


class DeliveryState(StrEnum):
    """The state of one object for one destination."""

    PENDING = "PENDING"
    SENDING = "SENDING"
    STORED = "STORED"
    COMMITTED = "COMMITTED"
    RETRY_WAIT = "RETRY_WAIT"
    FAILED = "FAILED"
    DROPPED = "DROPPED"


class Confirmation(StrEnum):
    """Whether a destination confirms a stored object by storage commitment."""

    NONE = ""
    WANTED = "WANTED"
    WAIVED = "WAIVED"


class ModelState(StrEnum):
    """The state of a version of a model."""

    CANDIDATE = "CANDIDATE"
    SHADOW = "SHADOW"
    LIVE = "LIVE"
    RETIRED = "RETIRED"


_S, _J, _D, _M = SeriesState, JobState, DeliveryState, ModelState

SERIES_TRANSITIONS: Final[Mapping[SeriesState, frozenset[SeriesState]]] = {
    _S.RECEIVING: frozenset({_S.READY, _S.HOLD, _S.IGNORED, _S.CONFLICT}),
    _S.READY: frozenset({_S.RECEIVING, _S.CONFLICT}),
    _S.HOLD: frozenset({_S.RECEIVING, _S.CONFLICT}),
    _S.IGNORED: frozenset({_S.RECEIVING, _S.CONFLICT}),
    # only after a user has chosen which image with the same SOP Instance UID is valid
    _S.CONFLICT: frozenset({_S.RECEIVING}),
}

_STOPPED: Final = frozenset({_J.FAILED, _J.CANCELLED, _J.SUPERSEDED})

JOB_TRANSITIONS: Final[Mapping[JobState, frozenset[JobState]]] = {
    _J.QUEUED: frozenset({_J.PREPARING}) | _STOPPED,
    # back to QUEUED: the process died and the engine runs the job again
    # PREPARING -> REVIEW: the scan is doubtful; a person decides before the network runs
    _J.PREPARING: frozenset({_J.INFERRING, _J.REVIEW, _J.QUEUED, _J.RETRY_WAIT}) | _STOPPED,
    _J.INFERRING: frozenset({_J.WRITING, _J.QUEUED, _J.RETRY_WAIT}) | _STOPPED,
    _J.WRITING: frozenset({_J.CHECKING, _J.QUEUED, _J.RETRY_WAIT}) | _STOPPED,
    _J.CHECKING: frozenset({_J.REVIEW, _J.SENDING, _J.QUEUED, _J.RETRY_WAIT}) | _STOPPED,
    # FAILED: approved, but the objects are no longer those that were proven;
    # QUEUED: a person has a doubtful scan contoured
    _J.REVIEW: frozenset({_J.SENDING, _J.QUEUED, _J.REJECTED, _J.CANCELLED, _J.SUPERSEDED, _J.FAILED}),
    _J.SENDING: frozenset({_J.DONE}) | _STOPPED,
    _J.RETRY_WAIT: frozenset({_J.QUEUED}) | _STOPPED,
    # DONE -> QUEUED: retention deleted the series and it was sent again, or it has a new destination;
    # DONE -> SENDING: a person sends the objects again
    _J.DONE: frozenset({_J.QUEUED, _J.SENDING}),
    _J.FAILED: frozenset({_J.QUEUED, _J.SENDING, _J.SUPERSEDED}),
    _J.CANCELLED: frozenset({_J.QUEUED, _J.SENDING}),
    # the same images came back after another revision
    _J.SUPERSEDED: frozenset({_J.QUEUED}),
    _J.REJECTED: frozenset({_J.SUPERSEDED}),
}

DELIVERY_TRANSITIONS: Final[Mapping[DeliveryState, frozenset[DeliveryState]]] = {
    _D.PENDING: frozenset({_D.SENDING, _D.DROPPED}),
    # SENDING -> RETRY_WAIT also if the process died: sending the same object twice is harmless
    _D.SENDING: frozenset({_D.STORED, _D.RETRY_WAIT, _D.FAILED}),
    _D.STORED: frozenset({_D.COMMITTED, _D.RETRY_WAIT, _D.PENDING}),
    _D.COMMITTED: frozenset({_D.PENDING}),
    _D.RETRY_WAIT: frozenset({_D.SENDING, _D.FAILED, _D.DROPPED}),
    _D.FAILED: frozenset({_D.PENDING, _D.DROPPED}),
    _D.DROPPED: frozenset({_D.PENDING}),
}

MODEL_TRANSITIONS: Final[Mapping[ModelState, frozenset[ModelState]]] = {
    _M.CANDIDATE: frozenset({_M.SHADOW, _M.LIVE, _M.RETIRED}),
    _M.SHADOW: frozenset({_M.CANDIDATE, _M.LIVE, _M.RETIRED}),
    _M.LIVE: frozenset({_M.RETIRED}),
    # LIVE: rollback; CANDIDATE: it is proposed again, with another gate
    _M.RETIRED: frozenset({_M.LIVE, _M.CANDIDATE}),
}

COMPUTING: Final = frozenset(
    {_J.QUEUED, _J.PREPARING, _J.INFERRING, _J.WRITING, _J.CHECKING, _J.REVIEW, _J.RETRY_WAIT}
)
"""A series has at most one job in these states; a partial unique index enforces it."""

RUNNING: Final = frozenset({_J.PREPARING, _J.INFERRING, _J.WRITING, _J.CHECKING})
"""A child process works on the job."""

NEEDS_WORKER: Final = frozenset({_J.QUEUED, _J.RETRY_WAIT}) | RUNNING
"""The engine must have an active workflow for a job in one of these states."""

BY_RULE: Final = "REVIEW_BY_RULE"
"""Reason of a job in REVIEW that no check holds: a rule asks for a review of every result."""

NOT_DELIVERED: Final = "NOT_DELIVERED"
"""Reason of a FAILED job whose objects exist, but did not reach every destination."""

SENDING_STOPPED: Final = "SENDING_STOPPED"
"""Reason of a CANCELLED job whose objects were being sent."""


def transition_rows() -> Iterable[tuple[str, str, str]]:
    """Every allowed transition as (kind, from, to), for the database."""
    for series, after_series in SERIES_TRANSITIONS.items():
        yield from (("series", series.value, target.value) for target in after_series)
    for job, after_job in JOB_TRANSITIONS.items():
        yield from (("job", job.value, target.value) for target in after_job)
    for delivery, after_delivery in DELIVERY_TRANSITIONS.items():
        yield from (("delivery", delivery.value, target.value) for target in after_delivery)
    for model, after_model in MODEL_TRANSITIONS.items():
        yield from (("model_version", model.value, target.value) for target in after_model)


@dataclass(frozen=True, slots=True, kw_only=True)
class Instance:
    """One accepted image; its file is `path`, relative to the data folder."""

    sop_uid: str
    series_uid: str
    sha256: str
    size: int
    path: str
    transfer_syntax: str
    calling_ae: str
    received_at: datetime
    called_ae: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Series:
    """One received series."""

    series_uid: str
    state: SeriesState
    reason: str
    note: str
    revision: int
    instances: int
    calling_ae: str
    created_at: datetime
    last_received_at: datetime
    called_ae: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Job:
    """The contouring of one revision of one series.

    Attributes
    ----------
    run : number of the run, from 1; a person or a new decision starts another run
    progress : fraction done, 0 to 1
    stage : what is being done, in words
    reason : stable error code of the last failure, or empty
    note : the sentence for the last change of state
    deaths : how often a process died over the job in this run
    at_risk : 1 while a child process works on it; if that is so at the next start, the process died
    spent : workflows of this run that ended without a result
    memory_budget_mb : the smaller budget for the attempt after memory ran out
    remark : an additional sentence for its objects
    delivered_at : when a destination first had one of its objects
    rule : name of the routing rule; empty in a job that is older than the rules
    protocol, protocol_json : name of the protocol, and its content when the job was made
    destinations : names of those that get its objects; None means all, in a job older than the rules
    priority : jobs with a smaller number are contoured first
    review : whether a person has to release the result before it is sent
    scan_released : whether a person decided that its doubtful scan is contoured anyway
    config_revision : revision of the configuration under which the job was made
    models : SHA-256 of each bundle, in the same order, where an alias such as ``head-neck@live`` was followed
    """

    job_id: str
    series_uid: str
    revision: int
    content_sha256: str
    bundles: tuple[str, ...]
    slices: int
    state: JobState
    run: int
    progress: float
    stage: str
    reason: str
    note: str
    created_at: datetime
    updated_at: datetime
    purged_at: datetime | None = None
    deaths: int = 0
    at_risk: int = 0
    spent: int = 0
    memory_budget_mb: int | None = None
    remark: str = ""
    delivered_at: datetime | None = None
    rule: str = ""
    protocol: str = ""
    protocol_json: str = ""
    destinations: tuple[str, ...] | None = None
    priority: int = 50
    review: bool = False
    scan_released: bool = False
    config_revision: str = ""
    models: tuple[str, ...] = ()

    @property
    def workflow_id(self) -> str:
        """The number of the engine's workflow that contours this run."""
        return f"{self.job_id}.{self.run}" + (f"+{self.spent}" if self.spent else "")


@dataclass(frozen=True, slots=True, kw_only=True)
class NewJob:
    """The job to make for a series that became READY; the fields are those of `Job`."""

    series_uid: str
    content_sha256: str
    bundles: tuple[str, ...]
    slices: int
    settings: ResultSettings = field(default_factory=ResultSettings)
    remark: str = ""
    rule: str = ""
    protocol: str = ""
    protocol_json: str = ""
    destinations: tuple[str, ...] | None = None
    priority: int = 50
    review: bool = False
    config_revision: str = ""
    models: tuple[str, ...] = ()

    @property
    def job_id(self) -> str:
        """The number the job will have."""
        return derive_job_id(self.series_uid, self.content_sha256, self.settings)


@dataclass(frozen=True, slots=True, kw_only=True)
class Delivery:
    """One object of a job for one destination.

    Attributes
    ----------
    confirmation : wanted if the destination has to confirm it by storage commitment, waived if it was asked
        and did not answer
    instead_of : the destination for which this one is the alternate, or empty
    """

    job_id: str
    role: str
    destination: str
    path: str
    sop_uid: str
    state: DeliveryState
    attempts: int
    status: int | None
    note: str
    next_attempt_at: datetime
    first_attempt_at: datetime | None
    confirmation: Confirmation = Confirmation.NONE
    instead_of: str = ""

    @property
    def is_image(self) -> bool:
        """Whether it is an image of the CT, and not something that the job made."""
        return self.role.startswith(IMAGE)

    @property
    def outcome(self) -> str:
        """The state in words; it claims no more than the destination answered."""
        if self.state is DeliveryState.COMMITTED:
            return "confirmed by the archive"
        if self.state is DeliveryState.STORED:
            more = {
                Confirmation.WANTED: ", waiting for the confirmation",
                Confirmation.WAIVED: ", not confirmed",
            }
            return f"stored{more.get(self.confirmation, '')}"
        return self.state.value.lower().replace("_", " ")


@dataclass(frozen=True, slots=True, kw_only=True)
class OutputObject:
    """A written DICOM object: role (``RTSTRUCT``, ``SEG``), file, SOP Instance UID, hash of the file."""

    role: str
    path: str
    sop_uid: str
    sha256: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Event:
    """One line of the history, appended by the database itself and never changed."""

    number: int
    at: datetime
    kind: str
    subject: str
    change: str
    note: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Notice:
    """A message for the staff, stored as an event of kind ``notice``.

    Attributes
    ----------
    subject : number of the job, or Series Instance UID
    code : stable code of the message
    note : the message as a sentence
    """

    subject: str
    code: str
    note: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Incoming:
    """One C-STORE request.

    Attributes
    ----------
    sop_class_uid, sop_uid : SOP Class UID and SOP Instance UID of the request
    transfer_syntax : Transfer Syntax UID of the dataset
    calling_ae, called_ae : AE titles of the association
    association : number of the association
    encoded : the dataset as it was received; a large one in a file, which is renamed when it is accepted
    """

    sop_class_uid: str
    sop_uid: str
    transfer_syntax: str
    calling_ae: str
    association: int
    encoded: Encoded
    called_ae: str = ""
