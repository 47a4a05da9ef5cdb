"""The attempts at a job: how often a process died while it worked on it, its memory budget, its objects.

A job is at risk while a child process works on it. A process that begins to work on a job that is still at
risk knows that the process before it died, whether that was the child or the node itself, and even if the
engine has no record of it. The column ``deaths`` counts these failed runs.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Final

from orgseg_node.node.store.data_folder import JOBS, RESULT
from orgseg_node.node.store.database import Database, Transaction
from orgseg_node.node.store.model import OutputObject

LEFT_OUT: Final = "left_out"
"""Kind of the event of a job that names the organs that were left out of its result."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ObjectRevision:
    """Objects of a job that were made anew, since a person left something out.

    Attributes
    ----------
    job_id : number of the job
    number : of the objects, from 2
    left_out : names of the structures
    note : who did it, and why
    at : time
    """

    job_id: str
    number: int
    left_out: str
    note: str
    at: datetime


class JobAttempts:
    """Counts failed runs of jobs, and keeps what must survive them.

    Parameters
    ----------
    database : the node's database
    """

    def __init__(self, database: Database) -> None:
        self._db = database

    def begin(self, job_id: str) -> int:
        """Note that a child process begins to work on a job.

        If the job is still at risk, the process that worked on it before died; that is counted first.

        Returns
        -------
        How often a process died over the job in this run
        """
        with self._db.write() as tx:
            tx.run("UPDATE job SET deaths = deaths + at_risk, at_risk = 1 WHERE job_id = ?", (job_id,))
            ((deaths,),) = tx.rows("SELECT deaths FROM job WHERE job_id = ?", (job_id,))
        return int(deaths)

    def end(self, job_id: str, *, died: bool = False) -> int:
        """Note that a child process finished, or died.

        Returns
        -------
        How often a process died over the job in this run
        """
        with self._db.write() as tx:
            tx.run("UPDATE job SET deaths = deaths + ?, at_risk = 0 WHERE job_id = ?", (int(died), job_id))
            ((deaths,),) = tx.rows("SELECT deaths FROM job WHERE job_id = ?", (job_id,))
        return int(deaths)

    def count_failed_run(self, job_id: str) -> int:
        """Count a workflow that ended without a result as a failed run; the next workflow gets a new number.

        If the job is still at risk, that is the same failed run and is not counted twice.

        Returns
        -------
        How often a process died over the job in this run
        """
        with self._db.write() as tx:
            tx.run(
                "UPDATE job SET deaths = deaths + 1, at_risk = 0, spent = spent + 1 WHERE job_id = ?",
                (job_id,),
            )
            ((deaths,),) = tx.rows("SELECT deaths FROM job WHERE job_id = ?", (job_id,))
        return int(deaths)

    def halve_memory_budget(self, job_id: str, memory_budget_mb: int) -> bool:
        """Give a job half of its memory budget for its second attempt.

        Parameters
        ----------
        job_id : number of the job
        memory_budget_mb : the new budget in MB

        Returns
        -------
        False, with nothing changed, if it already had a smaller budget
        """
        with self._db.write() as tx:
            changed = tx.run(
                "UPDATE job SET memory_budget_mb = ? WHERE job_id = ? AND memory_budget_mb IS NULL",
                (memory_budget_mb, job_id),
            )
        return bool(changed)

    @staticmethod
    def reset(tx: Transaction, job_id: str) -> None:
        """Begin a new run of a job, with the counters at zero and the usual memory budget."""
        tx.run(
            "UPDATE job SET run = run + 1, deaths = 0, at_risk = 0, spent = 0, memory_budget_mb = NULL"
            " WHERE job_id = ?",
            (job_id,),
        )

    @staticmethod
    def next_run(tx: Transaction, job_id: str) -> None:
        """Give the next run of a job its own number; the counters stay."""
        tx.run("UPDATE job SET run = run + 1 WHERE job_id = ?", (job_id,))

    def keep_objects(self, job_id: str, objects: Iterable[OutputObject]) -> None:
        """Store the list of objects that the child process wrote; it replaces the list of an earlier one."""
        with self._db.write() as tx:
            self.replace_objects(tx, job_id, objects)

    @staticmethod
    def replace_objects(tx: Transaction, job_id: str, objects: Iterable[OutputObject]) -> None:
        """Store the list of the objects of a job, within a transaction.

        Parameters
        ----------
        tx : the transaction
        job_id : number of the job
        objects : they replace the list before
        """
        tx.run("DELETE FROM job_object WHERE job_id = ?", (job_id,))
        for item in objects:
            tx.run(
                "INSERT INTO job_object (job_id, role, path, sop_uid, sha256) VALUES (?, ?, ?, ?, ?)",
                (job_id, item.role, item.path, item.sop_uid, item.sha256),
            )

    def object_revision(self, job_id: str) -> int:
        """The highest number of objects of a job: 1, or more if a person left something out."""
        return max((one.number for one in self.revisions(job_id)), default=1)

    def revisions(self, job_id: str) -> list[ObjectRevision]:
        """What persons left out of the objects of a job, the oldest first."""
        return self._db.read(
            ObjectRevision, "SELECT * FROM object_revision WHERE job_id = ? ORDER BY number", (job_id,)
        )

    def result_folder(self, job_id: str) -> Path:
        """The folder of a job's result, relative to the data folder: the one of its present objects."""
        objects = self.objects(job_id)
        return Path(objects[0].path).parent if objects else Path(JOBS) / job_id / RESULT

    def record_left_out(self, job_id: str, organs: str) -> None:
        """Append to the history which organs of a result were left out and which are unusual.

        Parameters
        ----------
        job_id : number of the job
        organs : in words, by the names of the organs
        """
        with self._db.write() as tx:
            tx.append_event("job", job_id, LEFT_OUT, organs)

    def objects(self, job_id: str) -> list[OutputObject]:
        """The objects that the child process wrote."""
        return self._db.read(
            OutputObject, "SELECT * FROM job_object WHERE job_id = ? ORDER BY role", (job_id,)
        )
