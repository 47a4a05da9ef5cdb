"""The rows of feedback in the node's database: the only module that writes them."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, fields, replace
from typing import Final

from orgseg_node.errors import UnknownFeedback
from orgseg_node.node.feedback.model import Feedback, FeedbackState, OrganFeedback
from orgseg_node.node.store.clock import Clock, stamp, utc_now
from orgseg_node.node.store.database import Database, Transaction

FILE: Final = "(file)"
"""Sender of a structure set that a person added from a file."""

_ORGAN_COLUMNS: Final = tuple(field.name for field in fields(OrganFeedback))


@dataclass(frozen=True, slots=True, kw_only=True)
class Arrived:
    """A structure set that arrived, durably stored.

    Attributes
    ----------
    sop_uid, sha256 : SOP Instance UID, and hash of the dataset
    path : of the file, relative to the data folder
    sender : AE title
    """

    sop_uid: str
    sha256: str
    path: str
    sender: str


@dataclass(frozen=True, slots=True, kw_only=True)
class FeedbackResult:
    """What became of a structure set.

    Attributes
    ----------
    state, note : its state, and a sentence more
    job_id, role : what it was compared with; empty if that is not known
    planner, written, contours_sha256 : as in `Feedback`
    organs : of a structure set that was measured
    """

    state: FeedbackState
    note: str = ""
    job_id: str = ""
    role: str = ""
    planner: str = ""
    written: str = ""
    contours_sha256: str = ""
    organs: tuple[OrganFeedback, ...] = ()


class FeedbackRows:
    """Structure sets that came back, in the database.

    Parameters
    ----------
    database : of the node
    clock : source of the time
    """

    def __init__(self, database: Database, *, clock: Clock = utc_now) -> None:
        self._db = database
        self._clock = clock

    # ------------------------------------------------------------------ read

    def all(self, *, states: Sequence[FeedbackState] = (), job_id: str = "") -> list[Feedback]:
        """Structure sets in the order in which they came.

        Parameters
        ----------
        states : only those in one of these states; all when empty
        job_id : only those of one job; all when empty
        """
        found = self._db.read(
            Feedback, "SELECT * FROM feedback WHERE (? = '' OR job_id = ?) ORDER BY number", (job_id, job_id)
        )
        return [one for one in found if not states or one.state in states]

    def one(self, number: int) -> Feedback:
        """One structure set. Raises UnknownFeedback."""
        found = self._db.read(Feedback, "SELECT * FROM feedback WHERE number = ?", (number,))
        if not found:
            raise UnknownFeedback(f"Number {number}.")
        return found[0]

    def organs(self, number: int) -> list[OrganFeedback]:
        """The organs of one structure set, in its order."""
        return self._db.read(
            OrganFeedback, "SELECT * FROM feedback_organ WHERE number = ? ORDER BY position", (number,)
        )

    def counted_organs(self) -> list[OrganFeedback]:
        """The organs of all structure sets that count, in the order in which they came."""
        return self._db.read(
            OrganFeedback,
            "SELECT o.* FROM feedback_organ o JOIN feedback f ON f.number = o.number AND f.state = 'COUNTED'"
            " ORDER BY o.number, o.position",
        )

    # ------------------------------------------------------------------ write

    def register(self, arrived: Arrived) -> int | None:
        """Note a structure set that arrived; its number, or None if the same one is here already."""
        with self._db.write() as tx:
            known = tx.rows(
                "SELECT 1 FROM feedback WHERE sop_uid = ? AND sha256 = ?", (arrived.sop_uid, arrived.sha256)
            )
            if known:
                return None
            ((last,),) = tx.rows("SELECT coalesce(max(number), 0) FROM feedback")
            number, now = int(last) + 1, stamp(self._clock())
            tx.run(
                "INSERT INTO feedback (number, sop_uid, sha256, path, sender, received_at, state, updated_at)"
                " VALUES (?, ?, ?, ?, ?, ?, ?, ?)",
                (number, arrived.sop_uid, arrived.sha256, arrived.path, arrived.sender, now,
                 FeedbackState.RECEIVED, now),
            )  # fmt: skip
            tx.append_event("feedback", str(number), "-> RECEIVED", f"from {arrived.sender}")
        return number

    def moved(self, feedback: Feedback, path: str) -> None:
        """Note the place of the node's own copy of a structure set."""
        with self._db.write() as tx:
            tx.run("UPDATE feedback SET path = ? WHERE number = ?", (path, feedback.number))

    def died(self, feedback: Feedback) -> int:
        """Count that a process died over a structure set; how often that was."""
        with self._db.write() as tx:
            tx.run("UPDATE feedback SET attempts = attempts + 1 WHERE number = ?", (feedback.number,))
            ((attempts,),) = tx.rows("SELECT attempts FROM feedback WHERE number = ?", (feedback.number,))
        return int(attempts)

    def again(self, number: int, note: str, *, job_id: str = "") -> Feedback:
        """Have a structure set looked at again, as if it had just come.

        If it counted, the latest of those that it had superseded counts meanwhile.

        Parameters
        ----------
        number : of the structure set
        note : who decided it, and why
        job_id : the job that it comes from, as a person says; empty to find it
        """
        feedback = self.one(number)
        with self._db.write() as tx:
            tx.run("DELETE FROM feedback_organ WHERE number = ?", (number,))
            tx.run("UPDATE feedback SET attempts = 0, job_id = ? WHERE number = ?", (job_id, number))
            self._move(tx, feedback, FeedbackState.RECEIVED, note)
            if feedback.state is FeedbackState.COUNTED:
                self._count_latest(tx, feedback)
        return self.one(number)

    def _count_latest(self, tx: Transaction, gone: Feedback) -> None:
        """Let the latest superseded structure set count where another one does not count any more."""
        rows = tx.rows(
            "SELECT number FROM feedback WHERE job_id = ? AND state = 'SUPERSEDED' AND number <> ?"
            " ORDER BY written DESC, number DESC",
            (gone.job_id, gone.number),
        )
        if rows:
            note = f"Number {gone.number} is looked at again."
            self._move(tx, self.one(int(rows[0][0])), FeedbackState.COUNTED, note)

    def finish(self, feedback: Feedback, result: FeedbackResult) -> FeedbackState:
        """Store what became of a structure set, in one transaction.

        One with the contours of another one of the same result is REPEATED. Of those that could count, the
        latest written does; one without a date is as late as it came.

        Parameters
        ----------
        feedback : as it was read; one that is not RECEIVED any more is left as it is
        result : what was found
        """
        with self._db.write() as tx:
            if not tx.rows(
                "SELECT 1 FROM feedback WHERE number = ? AND state = 'RECEIVED'", (feedback.number,)
            ):
                return self.one(feedback.number).state
            result = _unless_repeated(tx, feedback, result)
            if result.state is FeedbackState.COUNTED:
                result = self._against_earlier(tx, feedback, result)
            tx.run(
                "UPDATE feedback SET job_id = ?, role = ?, planner = ?, written = ?, contours_sha256 = ?"
                " WHERE number = ?",
                (result.job_id, result.role, result.planner, result.written, result.contours_sha256,
                 feedback.number),
            )  # fmt: skip
            tx.run("DELETE FROM feedback_organ WHERE number = ?", (feedback.number,))
            _insert_organs(tx, feedback.number, result.organs)
            self._move(tx, feedback, result.state, result.note)
        return result.state

    def _against_earlier(self, tx: Transaction, feedback: Feedback, result: FeedbackResult) -> FeedbackResult:
        """Let the later of two structure sets of one result count; the result of the new one."""
        rows = tx.rows(
            "SELECT number, written FROM feedback WHERE job_id = ? AND state = 'COUNTED'", (result.job_id,)
        )
        for number, written in rows:
            if written and result.written and str(written) > result.written:
                note = f"Number {number} was written later."
                return replace(result, state=FeedbackState.SUPERSEDED, note=note)
            earlier = self.one(int(number))
            self._move(tx, earlier, FeedbackState.SUPERSEDED, f"Number {feedback.number} came later.")
        return result

    def _move(self, tx: Transaction, feedback: Feedback, state: FeedbackState, note: str) -> None:
        tx.run(
            "UPDATE feedback SET state = ?, note = ?, updated_at = ? WHERE number = ?",
            (state, note, stamp(self._clock()), feedback.number),
        )
        subject = str(feedback.number)
        tx.append_event("feedback", subject, f"{feedback.state.value} -> {state.value}", note)


def _unless_repeated(tx: Transaction, feedback: Feedback, result: FeedbackResult) -> FeedbackResult:
    """REPEATED if another structure set of the same result with the same contours was measured alike."""
    if result.state not in {FeedbackState.COUNTED, FeedbackState.UNAPPROVED}:
        return result
    rows = tx.rows(
        "SELECT number FROM feedback WHERE job_id = ? AND contours_sha256 = ? AND number <> ?"
        " AND (state = 'COUNTED' OR state = ?) ORDER BY number",
        (result.job_id, result.contours_sha256, feedback.number, result.state),
    )
    if not rows:
        return result
    note = f"Number {rows[0][0]} has the same contours."
    return replace(result, state=FeedbackState.REPEATED, note=note, organs=())


def _insert_organs(tx: Transaction, number: int, organs: Iterable[OrganFeedback]) -> None:
    sql = (
        f"INSERT INTO feedback_organ ({', '.join(_ORGAN_COLUMNS)})"  # noqa: S608  # names of a class
        f" VALUES ({', '.join('?' * len(_ORGAN_COLUMNS))})"
    )
    for position, organ in enumerate(organs, start=1):
        values = {**asdict(organ), "number": number, "position": position}
        tx.run(sql, [values[name] for name in _ORGAN_COLUMNS])
