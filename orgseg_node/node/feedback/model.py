"""The rows of feedback: states of a structure set that came back, outcomes of its organs."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import Final


class FeedbackState(StrEnum):
    """What became of a structure set that came back."""

    RECEIVED = "RECEIVED"
    COUNTED = "COUNTED"
    UNAPPROVED = "UNAPPROVED"
    SUPERSEDED = "SUPERSEDED"
    REPEATED = "REPEATED"
    OWN = "OWN"
    UNKNOWN_CT = "UNKNOWN_CT"
    OTHER_FRAME = "OTHER_FRAME"
    OTHER_PATIENT = "OTHER_PATIENT"
    NOT_DELIVERED = "NOT_DELIVERED"
    AMBIGUOUS = "AMBIGUOUS"
    PURGED = "PURGED"
    EMPTY = "EMPTY"
    NOTHING_MATCHED = "NOTHING_MATCHED"
    UNUSABLE = "UNUSABLE"
    ORIGINAL_UNREADABLE = "ORIGINAL_UNREADABLE"
    UNREADABLE = "UNREADABLE"


_S = FeedbackState

SENTENCES: Final[Mapping[FeedbackState, str]] = {
    _S.RECEIVED: "It waits to be measured.",
    _S.COUNTED: "It is approved, was compared with what was delivered, and counts.",
    _S.UNAPPROVED: "It was compared with what was delivered, but nobody approved it: it does not count.",
    _S.SUPERSEDED: "A later structure set of the same result counts instead.",
    _S.REPEATED: "Its contours are those of another one that came back before.",
    _S.OWN: "The node wrote it itself, and nobody has approved it.",
    _S.UNKNOWN_CT: "It refers to no CT that this node received.",
    _S.OTHER_FRAME: "Its contours are in another frame of reference than the CT that it refers to.",
    _S.OTHER_PATIENT: "It has another Patient ID than the CT that it refers to.",
    _S.NOT_DELIVERED: "No contours of its CT had been delivered when it came.",
    _S.AMBIGUOUS: "Contours of its CT were delivered several times, and it does not say which it comes from.",
    _S.PURGED: "What was delivered for its CT is deleted already, so it cannot be compared.",
    _S.EMPTY: "None of its ROIs has contours.",
    _S.NOTHING_MATCHED: "None of its ROIs with contours stands for an organ that was delivered.",
    _S.UNUSABLE: "Its ROIs stand for organs that were delivered, but none of them can be compared.",
    _S.ORIGINAL_UNREADABLE: "What was delivered for its CT, or the CT, cannot be read any more.",
    _S.UNREADABLE: "It could not be read.",
}
"""What each state means, for people."""

MEASURED: Final = (_S.COUNTED, _S.UNAPPROVED, _S.SUPERSEDED)
"""States of structure sets whose organs were measured."""


FADING: Final = "fading"
"""Measure and kind of the alarm that a person edits an organ less and less."""


class OrganOutcome(StrEnum):
    """What became of one organ, or of one ROI that is none."""

    EDITED = "EDITED"
    """It differs by more than one pixel from what was delivered."""
    UNCHANGED = "UNCHANGED"
    """It is what was delivered, within one pixel everywhere."""
    DELETED = "DELETED"
    """It was delivered and did not come back."""
    ADDED = "ADDED"
    """It is an organ that was not delivered."""
    UNMATCHED = "UNMATCHED"
    """Its name means no organ for certain."""
    UNUSABLE = "UNUSABLE"
    """Its contours cannot be compared; the note says why."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Feedback:
    """One structure set that came back.

    Attributes
    ----------
    number : counted from 1
    sop_uid, sha256 : of the instance, and hash of its dataset
    path : of the file, relative to the data folder
    sender : AE title of the sender; ``(file)`` if a person added the file
    note : a sentence more than the state says
    job_id, role : the job and the delivered object that it was compared with; empty if not known
    planner : keyed hash of the name of the person in its header; empty if it has none
    written : date and time of the structure set as its header says, as digits
    contours_sha256 : hash of names and contours of its ROIs
    attempts : how often a process died over it
    """

    number: int
    sop_uid: str
    sha256: str
    path: str
    sender: str
    received_at: datetime
    state: FeedbackState
    note: str
    job_id: str
    role: str
    planner: str
    written: str
    contours_sha256: str
    attempts: int
    updated_at: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class Measures:
    """How an organ that came back differs from what was delivered; -1 for a measure that is not defined.

    Attributes
    ----------
    dice : overlap, 0 to 1
    surface_dice_2mm : share of both surfaces within 2 mm of the other
    hd95_mm, mean_distance_mm : 95 % Hausdorff distance, mean surface distance
    added_path_mm : length of the approved contour that was not delivered
    delivered_ml, approved_ml : volumes
    slices_edited : share of the slices in which the contours differ by more than one pixel
    near_target_dice : surface Dice at 2 mm of the surfaces near the target
    """

    dice: float = -1.0
    surface_dice_2mm: float = -1.0
    hd95_mm: float = -1.0
    mean_distance_mm: float = -1.0
    added_path_mm: float = -1.0
    delivered_ml: float = -1.0
    approved_ml: float = -1.0
    slices_edited: float = -1.0
    near_target_dice: float = -1.0


@dataclass(frozen=True, slots=True, kw_only=True)
class OrganFeedback(Measures):
    """One organ of a structure set that came back.

    Attributes
    ----------
    number, position : of the structure set, and within it
    roi : name of the ROI as it came back, or as it was delivered if it did not
    organ : key of the organ; empty if the name means none for certain
    note : why it could not be compared
    model : names, versions and hashes of the models that made what was delivered
    protocol : name of the protocol
    """

    number: int
    position: int
    roi: str
    organ: str
    outcome: str
    note: str = ""
    model: str = ""
    protocol: str = ""

    @property
    def is_measured(self) -> bool:
        """Whether it was compared with what was delivered."""
        return self.outcome in {OrganOutcome.EDITED, OrganOutcome.UNCHANGED}
