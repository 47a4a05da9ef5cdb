"""How routing decisions are written into series and jobs: called AE title, rule, protocol, destinations.

The functions run inside a transaction of `orgseg_node.node.store.store.Store`.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Final

from orgseg_node.errors import RuleUndecided
from orgseg_node.node.store import delivery_states, job_states
from orgseg_node.node.store.attempts import JobAttempts
from orgseg_node.node.store.audit import Attribution
from orgseg_node.node.store.database import Transaction
from orgseg_node.node.store.job_states import JobChange
from orgseg_node.node.store.model import COMPUTING, DeliveryState, JobState, NewJob, Series
from orgseg_node.node.store.series_states import open_revision

SEVERAL_TITLES: Final = "It came under several called AE titles; the last one counts: "


def set_called_ae(tx: Transaction, series_uid: str, called_ae: str, calling_ae: str) -> bool:
    """Note under which AE title a series was sent last, and the sender if it was not known.

    Parameters
    ----------
    tx : the transaction
    series_uid : Series Instance UID
    called_ae : AE title of the node that the sender called; empty if not known
    calling_ae : AE title of the sender

    Returns
    -------
    Whether the series was sent under another AE title before; the series and its history say so
    """
    ((before, note),) = tx.rows("SELECT called_ae, note FROM series WHERE series_uid = ?", (series_uid,))
    tx.run(
        "UPDATE series SET calling_ae = ? WHERE series_uid = ? AND calling_ae LIKE '(%'",
        (calling_ae, series_uid),
    )
    if not called_ae or called_ae == before:
        return False
    new_note = f"{SEVERAL_TITLES}{called_ae}." if before else note
    tx.run(
        "UPDATE series SET called_ae = ?, note = ? WHERE series_uid = ?", (called_ae, new_note, series_uid)
    )
    if before and not note.startswith(SEVERAL_TITLES):  # two senders at once may alternate a hundred times
        tx.append_event("series", series_uid, "notice", f"Called as {called_ae}, before as {before}.")
    return bool(before)


def reopen_for_called_ae(tx: Transaction, series_uid: str, called_ae: str, calling_ae: str, now: str) -> bool:
    """Note that images the node already has were sent again, and whether the series is judged again for that.

    Parameters
    ----------
    tx : the transaction
    series_uid : Series Instance UID
    called_ae : AE title of the node that the sender called
    calling_ae : AE title of the sender
    now : the time, as stored in the database

    Returns
    -------
    Whether the series is judged again: it came under another AE title, or no rule could decide about it
    """
    ((reason,),) = tx.rows("SELECT reason FROM series WHERE series_uid = ?", (series_uid,))
    if not set_called_ae(tx, series_uid, called_ae, calling_ae) and reason != RuleUndecided.code:
        return False
    ((note,),) = tx.rows("SELECT note FROM series WHERE series_uid = ?", (series_uid,))
    tx.run("UPDATE series SET last_received_at = ? WHERE series_uid = ?", (now, series_uid))
    open_revision(tx, series_uid, note)
    return True


def write_job(tx: Transaction, series: Series, new: NewJob, *, attribution: Attribution, now: str) -> None:
    """Add the job of a series that became READY; if the same job exists already, run or route it again.

    Parameters
    ----------
    tx : the transaction
    series : the series
    new : the job and its routing decision
    attribution : notes the context under which the job is worked on
    now : the time, as stored in the database
    """
    rows = tx.rows("SELECT state, purged_at FROM job WHERE job_id = ?", (new.job_id,))
    state, purged_at = rows[0] if rows else (None, None)
    if state is None:
        job_states.add(tx, series, new, now)
        apply_routing(tx, new)
        attribution.note(tx, new.job_id)
        _note_in_earlier_jobs(tx, new)
    elif JobState(state) in {JobState.SUPERSEDED, JobState.CANCELLED} or purged_at is not None:
        attribution.note(tx, new.job_id)
        note = "The same series was sent again."
        job_states.move(tx, new.job_id, JobChange(state=JobState.QUEUED, note=note, at=now))
        JobAttempts.reset(tx, new.job_id)
        tx.run(
            "UPDATE job SET purged_at = NULL, revision = ? WHERE job_id = ?", (series.revision, new.job_id)
        )
        delivery_states.restart_all(tx, new.job_id, now)
        apply_routing(tx, new)
    else:
        _reroute(tx, new, JobState(state), now)
    tx.run(
        "UPDATE job SET remark = ? WHERE job_id = ? AND state = 'QUEUED' AND delivered_at IS NULL",
        (new.remark, new.job_id),
    )


def _note_in_earlier_jobs(tx: Transaction, new: NewJob) -> None:
    """Note in jobs of the same images that there is a new job for them."""
    earlier = tx.rows(
        "SELECT job_id FROM job WHERE series_uid = ? AND job_id <> ? AND content_sha256 = ?"
        " AND state IN ('SENDING', 'DONE')",
        (new.series_uid, new.job_id, new.content_sha256),
    )
    for (job_id,) in earlier:
        tx.append_event("job", job_id, "notice", f"The series was routed again; see job {new.job_id}.")


def apply_routing(tx: Transaction, new: NewJob) -> None:
    """Write a routing decision into its job; drop what waits for a destination it no longer has."""
    tx.run(
        "UPDATE job SET rule = ?, protocol = ?, protocol_json = ?, destinations = ?, priority = ?,"
        " review = ?, config_revision = ? WHERE job_id = ?",
        (new.rule, new.protocol, new.protocol_json, _joined(new.destinations), new.priority, int(new.review),
         new.config_revision, new.job_id),
    )  # fmt: skip
    if new.destinations is None:
        return
    for name in set(_known_destinations(tx, new.job_id)) - set(new.destinations):
        delivery_states.drop_unsent(tx, new.job_id, "not wanted there any more", destination=name)


def _reroute(tx: Transaction, new: NewJob, state: JobState, now: str) -> None:
    """Write a new routing decision into a job that exists already.

    A job that has not been sent follows the new decision. A job that is over, and now has a destination that
    did not get its objects, is computed again: the objects are the same, and go to the new destinations only.
    """
    if state in COMPUTING:
        apply_routing(tx, new)
        return
    known = _known_destinations(tx, new.job_id)
    added = [name for name in new.destinations or () if name not in known]
    if not added:
        return
    if state not in {JobState.DONE, JobState.FAILED}:
        note = f"It is also wanted at {', '.join(added)}, but is {state}. Send the series again later."
        tx.append_event("job", new.job_id, "notice", note)
        return
    apply_routing(tx, replace(new, destinations=(*known, *added)))
    note = f"It is also wanted at {', '.join(added)}."
    job_states.move(tx, new.job_id, JobChange(state=JobState.QUEUED, note=note, at=now))
    JobAttempts.next_run(tx, new.job_id)
    delivery_states.restart(tx, new.job_id, {DeliveryState.FAILED}, now)


def _known_destinations(tx: Transaction, job_id: str) -> list[str]:
    """The destinations for which a job has deliveries."""
    rows = tx.rows("SELECT DISTINCT destination FROM delivery WHERE job_id = ? ORDER BY 1", (job_id,))
    return [str(name) for (name,) in rows]


def _joined(names: tuple[str, ...] | None) -> str | None:
    return None if names is None else ",".join(names)
