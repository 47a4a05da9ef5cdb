"""What a series and a job remember of how they were routed: called AE title, rule, and all that was decided.

Each function here is part of a transaction of `orgseg_node.node.store.store.Store`.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Final

from orgseg_node.errors import RuleUndecided
from orgseg_node.node.store.database import Transaction
from orgseg_node.node.store.model import COMPUTING, JobState, NewJob, Series

SEVERAL_TITLES: Final = "It came under several called AE titles; the last one counts: "


def retitle(tx: Transaction, series_uid: str, called_ae: str, calling_ae: str) -> bool:
    """Note under which AE title a series came last, and from whom if that was not known.

    Returns
    -------
    Whether it came under another one before; this is noted with the series and in its history.
    """
    ((before, note),) = tx.rows("SELECT called_ae, note FROM series WHERE series_uid = ?", (series_uid,))
    tx.run(
        "UPDATE series SET calling_ae = ? WHERE series_uid = ? AND calling_ae LIKE '(%'",
        (calling_ae, series_uid),
    )
    if not called_ae or called_ae == before:
        return False
    said = f"{SEVERAL_TITLES}{called_ae}." if before else note
    tx.run("UPDATE series SET called_ae = ?, note = ? WHERE series_uid = ?", (called_ae, said, series_uid))
    if before and not note.startswith(SEVERAL_TITLES):  # two senders at once may alternate a hundred times
        tx.run(
            "INSERT INTO event (kind, subject, change, note) VALUES ('series', ?, 'notice', ?)",
            (series_uid, f"Called as {called_ae}, before as {before}."),
        )
    return bool(before)


def open_revision(tx: Transaction, series_uid: str, note: str) -> None:
    """Have a series that was judged judged again."""
    tx.run(
        "UPDATE series SET state = 'RECEIVING', revision = revision + 1, reason = '', note = ?"
        " WHERE series_uid = ? AND state IN ('READY', 'HOLD', 'IGNORED')",
        (note, series_uid),
    )


def called_anew(tx: Transaction, series_uid: str, called_ae: str, calling_ae: str, now: str) -> bool:
    """Note that images which are here came again; whether the series is judged again for that."""
    ((reason,),) = tx.rows("SELECT reason FROM series WHERE series_uid = ?", (series_uid,))
    if not retitle(tx, series_uid, called_ae, calling_ae) and reason != RuleUndecided.code:
        return False
    ((note,),) = tx.rows("SELECT note FROM series WHERE series_uid = ?", (series_uid,))
    tx.run("UPDATE series SET last_received_at = ? WHERE series_uid = ?", (now, series_uid))
    open_revision(tx, series_uid, note)
    return True


def insert_job(tx: Transaction, series: Series, new: NewJob, now: str) -> None:
    """Make a job that is queued."""
    tx.run(
        "INSERT INTO job (job_id, series_uid, revision, content_sha256, bundles, slices, state, note,"
        " created_at, updated_at) VALUES (?, ?, ?, ?, ?, ?, 'QUEUED', ?, ?, ?)",
        (new.job_id, new.series_uid, series.revision, new.content_sha256, ",".join(new.bundles),
         new.slices, f"{new.slices} slices, revision {series.revision}", now, now),
    )  # fmt: skip
    carry(tx, new)


def carry(tx: Transaction, new: NewJob) -> None:
    """Write into a job what was decided about it; what waits for a destination it has no more is dropped."""
    tx.run(
        "UPDATE job SET rule = ?, protocol = ?, protocol_json = ?, destinations = ?, priority = ?,"
        " review = ?, config_revision = ? WHERE job_id = ?",
        (new.rule, new.protocol, new.protocol_json, _listed(new.destinations), new.priority, int(new.review),
         new.config_revision, new.job_id),
    )  # fmt: skip
    if new.destinations is None:
        return
    for name in set(_had(tx, new.job_id)) - set(new.destinations):
        tx.run(
            "UPDATE delivery SET state = 'DROPPED', note = 'not wanted there any more'"
            " WHERE job_id = ? AND destination = ? AND state IN ('PENDING', 'RETRY_WAIT', 'FAILED')",
            (new.job_id, name),
        )


def carry_on(tx: Transaction, new: NewJob, state: JobState, now: str) -> None:
    """Write what was decided anew into a job that there is already.

    One that has not been sent follows the new decision. One that is over, and is now wanted at a destination
    that did not get it, is computed again: the same objects, which then go to the new destinations alone.
    """
    if state in COMPUTING:
        carry(tx, new)
        return
    had = _had(tx, new.job_id)
    owed = [name for name in new.destinations or () if name not in had]
    if not owed:
        return
    if state not in {JobState.DONE, JobState.FAILED}:
        note = f"It is also wanted at {', '.join(owed)}, but is {state}. Send the series again later."
        tx.run(
            "INSERT INTO event (kind, subject, change, note) VALUES ('job', ?, 'notice', ?)",
            (new.job_id, note),
        )
        return
    carry(tx, replace(new, destinations=(*had, *owed)))
    tx.run(
        "UPDATE job SET state = 'QUEUED', run = run + 1, progress = 0, reason = '', note = ?, updated_at = ?"
        " WHERE job_id = ?",
        (f"It is also wanted at {', '.join(owed)}.", now, new.job_id),
    )
    tx.run(
        "UPDATE delivery SET state = 'PENDING', first_attempt_at = NULL, next_attempt_at = ?"
        " WHERE job_id = ? AND state = 'FAILED'",
        (now, new.job_id),
    )


def _had(tx: Transaction, job_id: str) -> list[str]:
    """The destinations for which there are deliveries of a job."""
    rows = tx.rows("SELECT DISTINCT destination FROM delivery WHERE job_id = ? ORDER BY 1", (job_id,))
    return [str(name) for (name,) in rows]


def _listed(names: tuple[str, ...] | None) -> str | None:
    return None if names is None else ",".join(names)
