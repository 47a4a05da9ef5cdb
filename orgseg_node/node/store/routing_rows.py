"""How routing decisions are written into series and jobs: called AE title, rule, protocol, destinations.

The functions run inside a transaction of `orgseg_node.node.store.store.Store`.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Final

from orgseg_node.errors import RuleUndecided
from orgseg_node.node.store import delivery_states, job_states
from orgseg_node.node.store.attempts import JobAttempts
from orgseg_node.node.store.database import Transaction
from orgseg_node.node.store.job_states import JobChange
from orgseg_node.node.store.model import COMPUTING, DeliveryState, JobState, NewJob
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


def apply_routing_again(tx: Transaction, new: NewJob, state: JobState, now: str) -> None:
    """Write a new routing decision into a job that exists already.

    A job that has not been sent follows the new decision. A job that is over, and now has a destination that
    did not get its objects, is computed again: the objects are the same, and go to the new destinations only.

    Parameters
    ----------
    tx : the transaction
    new : the job with the new decision
    state : the present state of the job
    now : the time, as stored in the database
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
