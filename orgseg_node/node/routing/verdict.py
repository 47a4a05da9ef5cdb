"""What becomes of a series that has gone quiet: ready, held with a reason, or ignored by a rule.

Three things are looked at, in this order: its images and their geometry, what its source says of it, and
whether contours of it were delivered before. A person may force all but the first.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Final

from orgseg_node.contouring.protocol import ASK, FIRST, Protocol, load_protocol
from orgseg_node.dicom.reading.series import CtSeries, Inventory, choose
from orgseg_node.errors import (
    HeldByRule,
    IncompleteSeries,
    LateImages,
    MissingSlices,
    OrgsegError,
    RuleUndecided,
    TooFewSlices,
)
from orgseg_node.node.config.rules import Action
from orgseg_node.node.routing.decision import Decision
from orgseg_node.node.store.model import Job, JobState, NewJob, Notice, Series, SeriesState
from orgseg_node.node.store.source_answers import Answer, Completeness

_INCOMPLETE: Final = "INCOMPLETE"


@dataclass(frozen=True, slots=True, kw_only=True)
class Verdict:
    """What becomes of a quiet series; the remark is what the objects of its job must say besides."""

    state: SeriesState
    reason: str = ""
    note: str = ""
    content_sha256: str = ""
    slices: int = 0
    remark: str = ""


def verdict_by(
    decision: Decision, inventory: Inventory, *, forced: bool = False
) -> tuple[Verdict, Protocol | None]:
    """What becomes of a quiet series by the rules and by what its files are, and the protocol of its job.

    A rule may ignore any series, and hold one that could be contoured, unless a person forces it; it never
    makes a series usable. Where the protocol cannot be read the series is held: a job could not say what it
    is to make.
    """
    if decision.action is Action.IGNORE:
        note = f"Rule {decision.rule!r} ignores it."
        return Verdict(state=SeriesState.IGNORED, reason=decision.rule, note=note), None
    try:
        protocol = load_protocol(decision.protocol)
    except OrgsegError as error:
        verdict = verdict_on(inventory, forced=forced)
        return (_held(error) if verdict.state is SeriesState.READY else verdict), None
    verdict = verdict_on(inventory, phase=protocol.phase, forced=forced)
    if verdict.state is SeriesState.READY and decision.action is Action.HOLD and not forced:
        held = RuleUndecided if decision.undecided else HeldByRule
        return _held(held(f"The rule is {decision.rule!r}.")), None
    return verdict, protocol


def verdict_on(inventory: Inventory, *, phase: str = ASK, forced: bool = False) -> Verdict:
    """READY for exactly one usable CT; HOLD with the reason; IGNORED when all was set aside by a rule.

    A series of which any image was refused is held as a whole: leaving the image out would be a guess. One in
    which slices are missing is held too: they may still be on their way. Forced by a person, it is contoured
    without them and says so; nothing else gives way to that.
    """
    if inventory.refused:
        return _held(inventory.refused[0].error)
    if inventory.accepted:
        try:
            return _ready(choose(inventory, part=_part(inventory, phase)), forced=forced)
        except OrgsegError as error:
            return _held(error)
    rules = ", ".join(f"{count} {rule}" for rule, count in sorted(inventory.set_aside.items()))
    return Verdict(state=SeriesState.IGNORED, reason="ONLY_SET_ASIDE", note=f"Nothing to contour: {rules}.")


def _part(inventory: Inventory, phase: str) -> str | None:
    """Which part of a series with several volumes a protocol asks for."""
    if phase == ASK or len(inventory.accepted) == 1:
        return None
    return "1" if phase == FIRST else phase


def _ready(series: CtSeries, *, forced: bool) -> Verdict:
    missing = next((f for f in series.findings if f.code == "SERIES_MISSING_SLICES"), None)
    count = 0 if missing is None else int(missing.value or 0)
    if missing is not None and not forced:
        raise MissingSlices(f"Their number is {count}.")
    note = f"{len(series.slices)} slices" + (f" of {series.part}" if series.part else "")
    return Verdict(
        state=SeriesState.READY,
        note=note,
        content_sha256=series.content_sha256,
        slices=len(series.slices),
        remark=""
        if missing is None
        else f"{_INCOMPLETE}: Contoured at a person's word without {count} missing slices.",
    )


def _held(error: OrgsegError) -> Verdict:
    return Verdict(state=SeriesState.HOLD, reason=error.code, note=f"{error.sentence} {error.next_step}")


def completed(verdict: Verdict, known: Completeness | None, *, forced: bool = False) -> Verdict:
    """The verdict on a series whose source was asked.

    Parameters
    ----------
    verdict : by its images alone
    known : what the source said; None if it was not asked
    forced : whether a person wants it contoured as it is
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
        said = f"with {known.held} of {known.expected} images that the source has"
        verdict = replace(verdict, remark=f"{_INCOMPLETE}: Contoured at a person's word {said}.")
    return replace(verdict, note=f"{verdict.note}; {known.note}")


def when_late(
    verdict: Verdict, series: Series, new: NewJob, jobs: Sequence[Job], *, again: bool
) -> tuple[Verdict, tuple[Notice, ...]]:
    """The verdict on a series of which contours may have been delivered before, and what is to be told of it.

    Somebody may be planning on these contours: another structure set never comes silently. The series is
    held, or, where that is wanted, contoured again as objects of their own that say which revision they are
    of.

    Parameters
    ----------
    verdict : READY, so far
    series : the series in its present revision
    new : the job it would get
    jobs : all jobs of the series
    again : whether it is to be contoured again
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
        and job.content_sha256 != new.content_sha256  # else no image came: it was routed anew
        and job.purged_at is None
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
    mark, _, said = verdict.remark.partition(": ")
    sentence = f"Images came after contours of this series had been delivered; these are of its {number}."
    remark = f"{f'REV {series.revision} {mark}'.strip()}: {f'{sentence} {said}'.strip()}"
    return replace(verdict, remark=remark), notices
