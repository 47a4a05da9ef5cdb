"""The verdict on a stable series: ready, held with a reason, or ignored by a rule.

Three things are judged in this order: the images and their geometry, the answer of the source on whether the
series is complete, and whether contours were delivered before. A person may override all except the first.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Final

from orgseg_node.contouring.protocol import ASK, FIRST, Protocol, load_protocol
from orgseg_node.dicom.reading.image_kind import Reason
from orgseg_node.dicom.reading.missing_images import FEWER_THAN_COUNTED
from orgseg_node.dicom.reading.series import CtSeries, Inventory, choose
from orgseg_node.dicom.reading.stacking import MISSING_SLICES
from orgseg_node.errors import (
    HeldByRule,
    IncompleteSeries,
    LateImages,
    MissingSlices,
    NoLiveVersion,
    OrgsegError,
    ProtocolInvalid,
    RuleUndecided,
    SendingBroken,
    SeveralParts,
    TooFewSlices,
)
from orgseg_node.node.config.rules import Action
from orgseg_node.node.routing.decision import Decision
from orgseg_node.node.store.model import Job, JobState, NewJob, Notice, Series, SeriesState
from orgseg_node.node.store.source_answers import Answer, Completeness
from orgseg_node.node.store.transfer_rows import BrokenTransfer

OTHER_CLASSES: Final = "OTHER_CLASSES"
"""Reason of a series that was received with a study and is no CT (``receiver.other_classes``)."""

BY_CONFIGURATION: Final = frozenset(
    one.code for one in (HeldByRule, RuleUndecided, ProtocolInvalid, SeveralParts, NoLiveVersion)
)
"""Reasons for which a series is held that another configuration may not have."""

_OTHER_CLASSES: Final = frozenset({Reason.OTHER_OBJECT, Reason.OTHER_MODALITY, Reason.CAPTURE})
_INCOMPLETE: Final = "INCOMPLETE"
_BROKEN_OFF: Final = "BROKEN OFF"


@dataclass(frozen=True, slots=True, kw_only=True)
class Verdict:
    """The state that a series gets, and why.

    Attributes
    ----------
    state : READY, HOLD or IGNORED
    reason : code of the error or name of the rule; empty if READY
    note : a sentence for the operator
    content_sha256, slices : hash of the slices that are contoured, and their number; empty unless READY
    remark : text that the objects of the job must contain
    """

    state: SeriesState
    reason: str = ""
    note: str = ""
    content_sha256: str = ""
    slices: int = 0
    remark: str = ""


def judge_series(
    decision: Decision, inventory: Inventory, *, forced: bool = False, volume: str | None = None
) -> tuple[Verdict, Protocol | None]:
    """The verdict on a series by the rules and by its images, and the protocol of its job.

    A rule may ignore any series, and hold one that could be contoured unless a person overrides this; it
    never makes a series usable. If the protocol cannot be read the series is held, since it would not be
    known what to contour.

    Parameters
    ----------
    decision : of the routing rules
    inventory : of the files of the series
    forced : whether a person has decided that it is contoured as it is
    volume : name of the one that a person has chosen, if there are several
    """
    if decision.action is Action.IGNORE:
        note = f"Rule {decision.rule!r} ignores it."
        return Verdict(state=SeriesState.IGNORED, reason=decision.rule, note=note), None
    try:
        protocol = load_protocol(decision.protocol)
    except OrgsegError as error:
        verdict = judge_images(inventory, forced=forced)
        return (_held(error) if verdict.state is SeriesState.READY else verdict), None
    verdict = judge_images(inventory, phase=volume or protocol.phase, forced=forced)
    if verdict.state is SeriesState.READY and decision.action is Action.HOLD and not forced:
        held = RuleUndecided if decision.undecided else HeldByRule
        return _held(held(f"The rule is {decision.rule!r}.")), None
    return verdict, protocol


def judge_images(inventory: Inventory, *, phase: str = ASK, forced: bool = False) -> Verdict:
    """READY for exactly one usable CT; HOLD with the reason; IGNORED if there are only images to set aside.

    A series with a refused image is held as a whole: leaving the image out would be a guess. A series with
    missing slices is held too, since they may still arrive. If a person overrides this, it is contoured
    without them and the objects say so; nothing else can be overridden here.

    Parameters
    ----------
    inventory : of the files of the series
    phase : of the protocol: which of several volumes is contoured
    forced : whether a person has decided that it is contoured as it is
    """
    if inventory.refused:
        return _held(inventory.refused[0].error)
    if inventory.accepted:
        try:
            return _ready(choose(inventory, part=_part(inventory, phase)), forced=forced)
        except OrgsegError as error:
            return _held(error)
    rules = ", ".join(f"{count} {rule}" for rule, count in sorted(inventory.set_aside.items()))
    if {item.reason for item in inventory.aside} <= _OTHER_CLASSES:
        note = f"Set aside by receiver.other_classes, since it is no CT: {rules}."
        return Verdict(state=SeriesState.IGNORED, reason=OTHER_CLASSES, note=note)
    return Verdict(state=SeriesState.IGNORED, reason="ONLY_SET_ASIDE", note=f"Nothing to contour: {rules}.")


def _part(inventory: Inventory, phase: str) -> str | None:
    """Which part of a series with several volumes the protocol selects."""
    if phase == ASK or len(inventory.accepted) == 1:
        return None
    return "1" if phase == FIRST else phase


def _ready(series: CtSeries, *, forced: bool) -> Verdict:
    missing = next((f for f in series.findings if f.code == MISSING_SLICES), None)
    count = 0 if missing is None else int(missing.value or 0)
    if missing is not None and not forced:
        raise MissingSlices(missing.message)
    note = f"{len(series.slices)} slices" + (f" of {series.part}" if series.part else "")
    note = "; ".join([note, *(f.message for f in series.findings if f.code == FEWER_THAN_COUNTED)])
    return Verdict(
        state=SeriesState.READY,
        note=note,
        content_sha256=series.content_sha256,
        slices=len(series.slices),
        remark=""
        if missing is None
        else f"{_INCOMPLETE}: Contoured by a user's decision without {count} missing slices.",
    )


def _held(error: OrgsegError) -> Verdict:
    return Verdict(state=SeriesState.HOLD, reason=error.code, note=f"{error.sentence} {error.next_step}")


def judge_completeness(verdict: Verdict, known: Completeness | None, *, forced: bool = False) -> Verdict:
    """The verdict on a series whose source was asked how many images it has.

    Parameters
    ----------
    verdict : on its images alone
    known : the answer of the source; None if it was not asked
    forced : whether a person has decided that it is contoured as it is
    """
    if known is None:
        return verdict
    if known.answer == Answer.INCOMPLETE and not forced:
        if verdict.state is SeriesState.READY or verdict.reason in {MissingSlices.code, TooFewSlices.code}:
            return _held(IncompleteSeries(f"{known.held} of {known.expected} images are here."))
        return verdict
    if verdict.state is not SeriesState.READY or not known.note:
        return verdict
    if forced and known.expected is not None and (known.held or 0) < known.expected and not verdict.remark:
        scope = f"with {known.held} of {known.expected} images that the source has"
        verdict = replace(verdict, remark=f"{_INCOMPLETE}: Contoured by a user's decision {scope}.")
    return replace(verdict, note=f"{verdict.note}; {known.note}")


def judge_broken(  # noqa: PLR0913
    verdict: Verdict,
    broken: BrokenTransfer,
    inventory: Inventory,
    known: Completeness | None,
    *,
    hold: bool,
    forced: bool = False,
) -> Verdict:
    """The verdict on a series whose sending was broken off and not repeated.

    If its source has no more images it is as good as any other. Otherwise it is held, if configured or if its
    own headers count more images than have come, or the objects say that the sending was broken off.

    Parameters
    ----------
    verdict : on its images and its completeness
    broken : how the sending was broken off
    inventory : of the files of the series
    known : the answer of the source; None if it was not asked
    hold : whether such a series is held
    forced : whether a person has decided that it is contoured as it is
    """
    if known is not None and known.answer == Answer.COMPLETE:
        return verdict
    what = f"The sending was broken off: {broken.cause}."
    if verdict.state is not SeriesState.READY:
        return (
            replace(verdict, note=f"{verdict.note} {what}") if verdict.state is SeriesState.HOLD else verdict
        )
    fewer = next(
        (f for one in inventory.accepted for f in one.findings if f.code == FEWER_THAN_COUNTED), None
    )
    if not forced and (hold or fewer is not None):
        return _held(SendingBroken(f"{what} {fewer.message if fewer is not None else ''}".strip()))
    decided = " Contoured by a user's decision." if forced else ""
    sentence = f"The sending of this series was broken off and not repeated; images may be missing.{decided}"
    remark = f"{verdict.remark} {sentence}" if verdict.remark else f"{_BROKEN_OFF}: {sentence}"
    return replace(verdict, remark=remark, note=f"{verdict.note}; {what}")


def judge_late_images(
    verdict: Verdict, series: Series, new: NewJob, jobs: Sequence[Job], *, again: bool
) -> tuple[Verdict, tuple[Notice, ...]]:
    """The verdict on a series of which contours may have been delivered before, and the notices about it.

    A plan may be based on these contours, so another structure set is never sent without notice. The series
    is held or, if configured or decided by a person, contoured again; the new objects name their revision.

    Parameters
    ----------
    verdict : on its images and its completeness
    series : in its present revision
    new : the job that it would get
    jobs : all jobs of the series
    again : whether it is contoured again rather than held
    """
    if verdict.state is not SeriesState.READY:
        return verdict, ()
    same = next((job for job in jobs if job.job_id == new.job_id), None)
    if same is not None and same.state not in {JobState.SUPERSEDED, JobState.CANCELLED}:
        return verdict, ()  # the same content as before is the same job
    earlier = [
        job
        for job in jobs
        if job is not same
        and job.content_sha256 != new.content_sha256  # if equal, it was only routed again
        and (job.delivered_at is not None or job.state is JobState.SENDING)
    ]
    if not earlier:
        return verdict, ()
    number = f"revision {series.revision}"
    what = f"contoured as job {new.job_id}" if again else "held"
    notices = tuple(
        Notice(
            subject=job.job_id,
            code=LateImages.code,
            note=f"Images came after contours were delivered; {number} of the series is {what}.",
        )
        for job in earlier
    )
    if not again:
        return _held(LateImages(f"This is {number}.")), notices
    mark, _, earlier_remark = verdict.remark.partition(": ")
    sentence = f"Images came after contours of this series had been delivered; these are of its {number}."
    remark = f"{f'REV {series.revision} {mark}'.strip()}: {f'{sentence} {earlier_remark}'.strip()}"
    return replace(verdict, remark=remark), notices
