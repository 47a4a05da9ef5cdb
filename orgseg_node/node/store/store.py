"""The store: instances, series, jobs, deliveries and their history in one database.

A commit is on disk before it returns, and writing transactions run one after the other. Each change of state
is part of one transaction. The statements that change states are in `orgseg_node.node.store.series_states`,
`orgseg_node.node.store.job_states` and `orgseg_node.node.store.delivery_states`; the database refuses
transitions that the tables of `orgseg_node.node.store.model` do not list, and appends an event for each.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Sequence
from datetime import datetime
from pathlib import Path
from typing import Final

from orgseg_node.errors import IllegalTransition, UnknownJob, UnknownSeries
from orgseg_node.node.store import delivery_states, job_states, series_states
from orgseg_node.node.store.attempts import JobAttempts
from orgseg_node.node.store.clock import Clock, stamp, utc_now
from orgseg_node.node.store.database import Database, Transaction, marks
from orgseg_node.node.store.deliveries import DeliveryRows
from orgseg_node.node.store.job_states import JobChange
from orgseg_node.node.store.model import (
    NOT_DELIVERED,
    SENDING_STOPPED,
    DeliveryState,
    Event,
    Instance,
    Job,
    JobState,
    NewJob,
    Notice,
    Series,
    SeriesState,
)
from orgseg_node.node.store.routing_rows import reopen_for_called_ae, set_called_ae, write_job
from orgseg_node.node.store.series_states import Contradiction
from orgseg_node.node.store.transfer_rows import note_open

DATABASE: Final = Path("db") / "node.sqlite"

_UID_PART: Final = re.compile(r"[0-9.]{1,64}")
_JOB_PART: Final = re.compile(r"[0-9a-f]{1,16}")
_SERIES = """SELECT s.series_uid, s.state, s.reason, s.note, s.revision, s.calling_ae, s.called_ae,
    s.created_at, s.last_received_at,
    (SELECT count(*) FROM instance i WHERE i.series_uid = s.series_uid) AS instances FROM series s"""


class Store(DeliveryRows):
    """The node's database, as the other parts of the node use it.

    Parameters
    ----------
    place : the database, or the node's data folder for the SQLite file in it
    read_only : allow no change; for the command line while the node runs
    clock : source of the time
    """

    def __init__(self, place: Path | Database, *, read_only: bool = False, clock: Clock = utc_now) -> None:
        database = place if isinstance(place, Database) else Database(place / DATABASE, read_only=read_only)
        super().__init__(database, clock)
        self.attempts = JobAttempts(self._db)

    @property
    def database(self) -> Database:
        """The database, for parts that have tables of their own."""
        return self._db

    def close(self) -> None:
        """Close the database connections that the calling thread no longer needs."""
        self._db.close()

    # ------------------------------------------------------------------ images and series

    def copies(self, sop_uid: str) -> list[Instance]:
        """The accepted images with a SOP Instance UID: none, one, or several that contradict each other."""
        return self._db.read(Instance, "SELECT * FROM instance WHERE sop_uid = ?", (sop_uid,))

    def instances_of(self, series_uid: str) -> list[Instance]:
        """Every accepted instance of a series."""
        return self._db.read(
            Instance, "SELECT * FROM instance WHERE series_uid = ? ORDER BY sop_uid, sha256", (series_uid,)
        )

    def accept(self, instance: Instance, *, differs: str = "", contradicts: bool = True) -> SeriesState:
        """Add an image whose file is durable.

        A new image of a series that was judged already opens a new revision and supersedes a job of it that
        has not delivered anything. A second image with the same SOP Instance UID but other content puts its
        series into CONFLICT; another series that has the first image, and the job of that series, continue.

        Parameters
        ----------
        instance : the image
        differs : in what it differs from the images with its UID that are here, in words
        contradicts : whether that is a conflict; it is none for structure sets that come back

        Returns
        -------
        The state of its series
        """
        now = self._now()
        uid = instance.series_uid
        with self._db.write() as tx:
            series_states.receive(tx, instance, now)
            note_open(tx, uid, now)
            tx.run(
                "INSERT INTO instance (sop_uid, sha256, series_uid, size, path, transfer_syntax, calling_ae,"
                " received_at, called_ae) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)"
                " ON CONFLICT (sop_uid, sha256) DO NOTHING",
                (instance.sop_uid, instance.sha256, uid, instance.size, instance.path,
                 instance.transfer_syntax, instance.calling_ae, now, instance.called_ae),
            )  # fmt: skip
            series_states.open_revision(
                tx, uid, "An instance came after the series was judged; it is judged again."
            )
            set_called_ae(tx, uid, instance.called_ae, instance.calling_ae)
            others = tx.rows(
                "SELECT series_uid FROM instance WHERE sop_uid = ? AND sha256 <> ? ORDER BY series_uid",
                (instance.sop_uid, instance.sha256),
            )
            if others and contradicts:
                elsewhere = next((str(other) for (other,) in others if other != uid), "")
                conflict = Contradiction(sop_uid=instance.sop_uid, differs=differs, other_series=elsewhere)
                series_states.mark_conflict(tx, uid, conflict)
            self._supersede(tx, uid)
            ((state,),) = tx.rows("SELECT state FROM series WHERE series_uid = ?", (uid,))
        return SeriesState(state)

    def received_again(self, series_uid: str, called_ae: str, calling_ae: str) -> SeriesState:
        """Note that images the node already has were sent again; under another AE title it is judged again.

        Parameters
        ----------
        series_uid : Series Instance UID
        called_ae : AE title of the node that the sender called
        calling_ae : AE title of the sender

        Returns
        -------
        The state of the series
        """
        with self._db.write() as tx:
            if reopen_for_called_ae(tx, series_uid, called_ae, calling_ae, self._now()):
                self._supersede(tx, series_uid)
        return self.one_series(series_uid).state

    def supersede_within(self, tx: Transaction, series_uid: str) -> None:
        """Supersede every open, undelivered job of a series inside a transaction of the caller."""
        self._supersede(tx, series_uid)

    def _supersede(self, tx: Transaction, series_uid: str) -> None:
        """Supersede every open job of a series of which nothing was delivered."""
        for job_id in job_states.undelivered(tx, series_uid):
            self.move_within(tx, job_id, JobState.SUPERSEDED, "A later revision of the series replaces it.")
            delivery_states.drop_unsent(tx, job_id, "superseded")

    def series(
        self, *, state: SeriesState | None = None, stable_since: datetime | None = None
    ) -> list[Series]:
        """Series, the newest last.

        Parameters
        ----------
        state : only series in this state
        stable_since : only series of which no image arrived after this time
        """
        return self._db.read(
            Series,
            f"{_SERIES} WHERE (? IS NULL OR s.state = ?) AND (? IS NULL OR s.last_received_at <= ?)"
            " ORDER BY s.created_at",
            (state, state, *(2 * [stamp(stable_since) if stable_since else None])),
        )

    def one_series(self, series_uid: str) -> Series:
        """One series. Raises UnknownSeries if it was never received."""
        found = self._db.read(Series, f"{_SERIES} WHERE s.series_uid = ?", (series_uid,))
        if not found:
            raise UnknownSeries(f"Series {series_uid} was never received.")
        return found[0]

    def find_series(self, part: str) -> Series:
        """The series with this UID, or the only one whose UID contains this text. Raises UnknownSeries."""
        if not _UID_PART.fullmatch(part):
            raise UnknownSeries("A UID, or a part of it, consists of digits and dots.")
        exact = self._db.read(Series, f"{_SERIES} WHERE s.series_uid = ?", (part,))
        found = exact or self._db.read(Series, f"{_SERIES} WHERE s.series_uid LIKE ?", (f"%{part}%",))
        if len(found) != 1:
            raise UnknownSeries(f"{len(found)} received series have a UID that contains {part!r}.")
        return found[0]

    def judge(  # noqa: PLR0913
        self,
        seen: Series,
        state: SeriesState,
        *,
        reason: str = "",
        note: str = "",
        job: NewJob | None = None,
        notices: Sequence[Notice] = (),
    ) -> bool:
        """Set the state of a series that was judged, write its job and its notices, in one transaction.

        Parameters
        ----------
        seen : the series as it was read before it was judged
        state : the new state
        reason : stable code of the reason, or empty
        note : the reason as a sentence
        job : the job of a series that is READY
        notices : messages for the staff

        Returns
        -------
        False, with nothing changed, if an image arrived since `seen` was read
        """
        with self._db.write() as tx:
            changed = series_states.judge(tx, seen, state, reason=reason, note=note)
            if changed and job is not None:
                write_job(tx, seen, job, attribution=self.attribution, now=self._now())
            for notice in notices if changed else ():
                tx.append_event("notice", notice.subject, notice.code, notice.note)
        return changed

    # ------------------------------------------------------------------ jobs

    def jobs(self, *, states: Collection[JobState] = (), limit: int | None = None) -> list[Job]:
        """Jobs, the newest first.

        Parameters
        ----------
        states : only jobs in one of these states; empty for all
        limit : at most so many
        """
        wanted = sorted(states or JobState)
        return self._db.read(
            Job,
            f"SELECT * FROM job WHERE state IN ({marks(wanted)}) ORDER BY created_at DESC"  # noqa: S608
            + (" LIMIT ?" if limit is not None else ""),
            (*wanted, *(() if limit is None else (limit,))),
        )

    def jobs_of(self, series_uid: str) -> list[Job]:
        """Every job of a series, the oldest first."""
        return self._db.read(Job, "SELECT * FROM job WHERE series_uid = ? ORDER BY created_at", (series_uid,))

    def job(self, job_id: str) -> Job:
        """The job with this number, or the only one whose number contains it. Raises UnknownJob."""
        if not _JOB_PART.fullmatch(job_id):
            raise UnknownJob("A number of a job, or a part of it, consists of the digits 0-9 and a-f.")
        exact = self._db.read(Job, "SELECT * FROM job WHERE job_id = ?", (job_id,))
        found = exact or self._db.read(Job, "SELECT * FROM job WHERE job_id LIKE ?", (f"%{job_id}%",))
        if len(found) > 1:
            found = [job for job in found if job.job_id.startswith(job_id)] or found
        if len(found) != 1:
            raise UnknownJob(f"{len(found)} jobs have a number that contains {job_id!r}.")
        return found[0]

    def move(self, job_id: str, target: JobState, note: str, *, reason: str = "") -> Job:
        """Change the state of a job.

        Parameters
        ----------
        job_id : number of the job
        target : the new state
        note : a sentence for the history
        reason : stable code of the reason, or empty

        Raises
        ------
        IllegalTransition
            If the job cannot go there from its present state.
        """
        with self._db.write() as tx:
            self.move_within(tx, job_id, target, note, reason)
        return self.job(job_id)

    def move_within(
        self, tx: Transaction, job_id: str, target: JobState, note: str, reason: str = ""
    ) -> None:
        """Change the state of a job inside a transaction of the caller.

        Parameters
        ----------
        tx : the transaction
        job_id : number of the job
        target : the new state
        note : a sentence for the history
        reason : stable code of the reason, or empty
        """
        self.attribution.note(tx, job_id)
        job_states.move(tx, job_id, JobChange(state=target, note=note, reason=reason, at=self._now()))

    def requeue(self, job: Job, note: str) -> Job:
        """Have a job run again, unless its state has changed since it was read, for example by a person.

        Parameters
        ----------
        job : the job as it was read
        note : a sentence for the history

        Returns
        -------
        The job as it is now
        """
        with self._db.write() as tx:
            if tx.rows("SELECT 1 FROM job WHERE job_id = ? AND state = ?", (job.job_id, job.state)):
                self.move_within(tx, job.job_id, JobState.QUEUED, note)
        return self.job(job.job_id)

    def progress(self, job_id: str, fraction: float, stage: str) -> JobState:
        """Note the progress of a job.

        Parameters
        ----------
        job_id : number of the job
        fraction : fraction done, 0 to 1
        stage : what is being done, in words

        Returns
        -------
        The state of the job
        """
        with self._db.write() as tx:
            tx.run(
                "UPDATE job SET progress = ?, stage = ?, updated_at = ? WHERE job_id = ?",
                (min(max(fraction, 0.0), 1.0), stage, self._now(), job_id),
            )
        return self.job(job_id).state

    def retry(self, job_id: str, note: str = "Started again by a person.") -> Job:
        """Start a job again that failed or was cancelled; if it was being sent, only the sending.

        Raises IllegalTransition if the job is in another state.
        """
        with self._db.write() as tx:
            rows = tx.rows("SELECT state, reason FROM job WHERE job_id = ?", (job_id,))
            if rows and rows[0][0] not in {JobState.FAILED, JobState.CANCELLED}:
                raise IllegalTransition(f"A job that is {rows[0][0]} cannot be started again.")
            sent = bool(rows) and rows[0][1] in {NOT_DELIVERED, SENDING_STOPPED}
            self.move_within(tx, job_id, JobState.SENDING if sent else JobState.QUEUED, note)
            self.attempts.reset(tx, job_id)
            delivery_states.restart(tx, job_id, {DeliveryState.FAILED, DeliveryState.DROPPED}, self._now())
        return self.job(job_id)

    def release_scan(self, job_id: str, note: str = "Contoured by a person's decision.") -> Job:
        """Have a job whose doubtful scan was not contoured run again, whatever the scan shows.

        Raises IllegalTransition if the job is not in REVIEW.
        """
        with self._db.write() as tx:
            self.move_within(tx, job_id, JobState.QUEUED, note)
            tx.run("UPDATE job SET scan_released = 1 WHERE job_id = ?", (job_id,))
            self.attempts.reset(tx, job_id)
        return self.job(job_id)

    def events(self, subject: str) -> list[Event]:
        """The history of a series or a job, the oldest event first."""
        return self._db.read(Event, "SELECT * FROM event WHERE subject = ? ORDER BY number", (subject,))

    def purgeable(self, before: datetime) -> list[Job]:
        """Jobs whose files retention may delete.

        The series is READY, and each of its jobs was delivered, or superseded, before the given time.
        """
        return self._db.read(
            Job,
            "SELECT j.* FROM job j JOIN series s USING (series_uid) WHERE j.state = 'DONE'"
            " AND j.purged_at IS NULL AND s.state = 'READY' AND NOT EXISTS ("
            "SELECT 1 FROM job o WHERE o.series_uid = j.series_uid"
            " AND (o.state NOT IN ('DONE', 'SUPERSEDED') OR o.updated_at > ?))"
            " AND EXISTS (SELECT 1 FROM delivery d WHERE d.job_id = j.job_id"
            " AND d.state IN ('STORED', 'COMMITTED'))",
            (stamp(before),),
        )

    def mark_purged(self, job: Job, *, is_here: Callable[[str], bool] = lambda _path: False) -> bool:
        """Note that the files of a job and its series were moved away and are about to be deleted.

        Only the rows of images without a file are deleted. An image that was accepted since the files were
        moved keeps its row, even if it has the name of one of them.

        Parameters
        ----------
        job : whose retention time is over
        is_here : whether there is a file at a path, relative to the data folder

        Returns
        -------
        False, with nothing changed, if an image arrived before: the files are still needed
        """
        with self._db.write() as tx:
            ((state,),) = tx.rows("SELECT state FROM series WHERE series_uid = ?", (job.series_uid,))
            if state != SeriesState.READY:
                return False
            job_states.mark_purged(tx, job, is_here, self._now())
        return True
