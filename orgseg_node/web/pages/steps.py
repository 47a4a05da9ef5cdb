"""The next steps of a job or a series as buttons: the same commands that the command line names."""

from __future__ import annotations

import shlex
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from orgseg_node.node.operations.overview import Entry
from orgseg_node.node.store.model import Job, JobState, Series, SeriesState
from orgseg_node.node.store.series_overrides import SeriesVolume
from orgseg_node.node.users.roles import Action


@dataclass(frozen=True, slots=True, kw_only=True)
class Step:
    """A button.

    Attributes
    ----------
    path : of the command
    key : of its words
    action : what a person must be permitted to do
    needs_reason : whether a reason must be given
    is_grave : whether it gives something up
    choices : values and words of which one is chosen; empty if there is no choice
    choice : name of the field for it
    may_be_all : whether none need be chosen
    """

    path: str
    key: str
    action: Action
    needs_reason: bool = False
    is_grave: bool = False
    choices: tuple[tuple[str, str], ...] = ()
    choice: str = ""
    may_be_all: bool = False


_APPROVE: Final = "step.approve"
_NEEDS_REASON: Final = frozenset({"reject", "cancel", "force", "drop-organ", "settle-first", "settle-last"})
_GRAVE: Final = frozenset({"reject", "cancel", "drop-organ", "settle-first", "settle-last"})
_CHOICE: Final[Mapping[str, str]] = {"resend": "destination", "drop-organ": "organ", "choose": "volume"}
_JOB_COMMANDS: Final[Mapping[JobState, tuple[str, ...]]] = {
    JobState.REVIEW: ("approve", "drop-organ", "reject"),
    JobState.FAILED: ("retry",),
    JobState.CANCELLED: ("retry",),
    JobState.DONE: ("resend",),
    **dict.fromkeys(
        (JobState.QUEUED, JobState.PREPARING, JobState.INFERRING, JobState.WRITING, JobState.CHECKING,
         JobState.RETRY_WAIT, JobState.SENDING),
        ("cancel",),
    ),
}  # fmt: skip
_SERIES_COMMANDS: Final[Mapping[SeriesState, tuple[str, ...]]] = {
    SeriesState.RECEIVING: ("force", "wait"),
    SeriesState.HOLD: ("judge", "wait"),
    SeriesState.CONFLICT: ("settle-first", "settle-last"),
    SeriesState.IGNORED: ("judge",),
}


def job_step(job_id: str, name: str, choices: tuple[str, ...] = ()) -> Step:
    """The button of a command on a job.

    Parameters
    ----------
    job_id : of the job
    name : of the command
    choices : of which one can be chosen
    """
    return Step(
        path=f"/cases/{job_id}/{name}",
        key=f"step.{name}",
        action=Action.REVIEW,
        needs_reason=name in _NEEDS_REASON,
        is_grave=name in _GRAVE,
        choices=tuple((one, one) for one in choices),
        choice=_CHOICE.get(name, ""),
        may_be_all=name == "resend",
    )


def series_step(series_uid: str, name: str, volumes: Sequence[SeriesVolume] = ()) -> Step:
    """The button of a command on a series.

    Parameters
    ----------
    series_uid : Series Instance UID
    name : of the command
    volumes : of which one can be chosen
    """
    return Step(
        path=f"/series/{series_uid}/{name}",
        key=f"step.{name}",
        action=Action.DECIDE_SERIES,
        needs_reason=name in _NEEDS_REASON,
        is_grave=name in _GRAVE,
        choices=tuple((str(one.number), f"{one.name} ({one.slices})") for one in volumes),
        choice=_CHOICE.get(name, ""),
    )


def steps_of_entry(entry: Entry, volumes: Sequence[SeriesVolume] = (), person: str = "") -> tuple[Step, ...]:
    """What continues an entry that needs a person: its commands, as buttons.

    Parameters
    ----------
    entry : of the overview
    volumes : of which one can be chosen
    person : who sees the buttons; nobody is asked twice to approve the same objects
    """
    steps = (step for text in entry.commands for step in _of_command(shlex.split(text), volumes))
    if person.strip().casefold() in entry.approved_by:
        steps = (step for step in steps if step.key != _APPROVE)
    return tuple(steps)


def _of_command(words: list[str], volumes: Sequence[SeriesVolume]) -> Iterable[Step]:
    """A command such as ``orgseg series settle UID --keep first``; commands that only show have no button."""
    group, name, subject = words[1:4]
    if name == "settle":
        name = f"settle-{words[-1]}"
    if group == "jobs" and name != "show":
        yield job_step(subject, name)
    if group == "series" and name == "choose":
        if volumes:
            yield series_step(subject, name, volumes)
    elif group == "series":
        yield series_step(subject, name)


def steps_of_job(
    job: Job,
    *,
    has_objects: bool,
    destinations: tuple[str, ...],
    structures: tuple[str, ...] = (),
    is_approved: bool = False,
) -> tuple[Step, ...]:
    """Every command that a job takes in its state.

    Parameters
    ----------
    job : the job
    has_objects : whether it has objects that can be sent
    destinations : names of those that could get them
    structures : names of those of which one can be left out
    is_approved : whether this person, or enough others, have approved it
    """
    names = list(_JOB_COMMANDS.get(job.state, ()))
    if "resend" in names and (not has_objects or job.purged_at is not None):
        names.remove("resend")
    if is_approved and "approve" in names:
        names.remove("approve")
    if "drop-organ" in names and len(structures) < 2:  # the only one: the job is rejected
        names.remove("drop-organ")
    if job.state is JobState.FAILED and job.reason == "NOT_DELIVERED" and has_objects:
        names.append("resend")
    choices = {"resend": destinations, "drop-organ": structures}
    return tuple(job_step(job.job_id, name, choices.get(name, ())) for name in names)


def steps_of_series(
    series: Series, entry: Entry | None, *, waits: bool, volumes: Sequence[SeriesVolume] = ()
) -> tuple[Step, ...]:
    """Every command that a series takes in its state.

    Parameters
    ----------
    series : the series
    entry : what the list of the node says about it; None if it is not in it
    waits : whether a person keeps it waiting
    volumes : of which one can be chosen
    """
    listed = steps_of_entry(entry, volumes) if entry is not None else ()
    own = [step for step in listed if step.path.startswith("/series/")]
    names = [*_SERIES_COMMANDS.get(series.state, ()), *(("release",) if waits else ())]
    if waits and "wait" in names:
        names.remove("wait")
    known = {step.path for step in own}
    more = (series_step(series.series_uid, name) for name in names)
    return (*own, *(step for step in more if step.path not in known))
