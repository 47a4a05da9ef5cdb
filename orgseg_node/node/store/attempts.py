"""What a job has been through: deaths of processes under it, the memory it may use, what it wrote.

A job is at risk while a child works on it. Whoever begins to work on a job that is still at risk knows that
the process before died with it, be it the child's or the node's own, also where the engine has forgotten
everything.
"""

from __future__ import annotations

from collections.abc import Iterable

from orgseg_node.node.store.database import Database, Transaction
from orgseg_node.node.store.model import OutputObject


class JobAttempts:
    """Counts deaths, and keeps what must survive them.

    Parameters
    ----------
    database : the node's database
    """

    def __init__(self, database: Database) -> None:
        self._db = database

    def begin(self, job_id: str) -> int:
        """Put a job at risk before a child works on it; how many deaths there were so far in this run.

        If it still was at risk, the process that worked on it died, which is counted first.
        """
        with self._db.write() as tx:
            tx.run("UPDATE job SET deaths = deaths + at_risk, at_risk = 1 WHERE job_id = ?", (job_id,))
            ((deaths,),) = tx.rows("SELECT deaths FROM job WHERE job_id = ?", (job_id,))
        return int(deaths)

    def end(self, job_id: str, *, died: bool = False) -> int:
        """Take a job out of risk: its child has ended, or died; how many deaths there were."""
        with self._db.write() as tx:
            tx.run("UPDATE job SET deaths = deaths + ?, at_risk = 0 WHERE job_id = ?", (int(died), job_id))
            ((deaths,),) = tx.rows("SELECT deaths FROM job WHERE job_id = ?", (job_id,))
        return int(deaths)

    def count_failed_run(self, job_id: str) -> int:
        """Count a workflow that ended without a result as a death; how many there were.

        The next workflow of the run has a number of its own. A death that was not counted yet is this one.
        """
        with self._db.write() as tx:
            tx.run(
                "UPDATE job SET deaths = deaths + 1, at_risk = 0, spent = spent + 1 WHERE job_id = ?",
                (job_id,),
            )
            ((deaths,),) = tx.rows("SELECT deaths FROM job WHERE job_id = ?", (job_id,))
        return int(deaths)

    def halve_memory_budget(self, job_id: str, memory_budget_mb: int) -> bool:
        """Give a job a smaller memory budget for its second try; False if it had one already."""
        with self._db.write() as tx:
            changed = tx.run(
                "UPDATE job SET memory_budget_mb = ? WHERE job_id = ? AND memory_budget_mb IS NULL",
                (memory_budget_mb, job_id),
            )
        return bool(changed)

    @staticmethod
    def reset(tx: Transaction, job_id: str) -> None:
        """Begin a new run of a job: nothing of the earlier runs counts against it."""
        tx.run(
            "UPDATE job SET run = run + 1, deaths = 0, at_risk = 0, spent = 0, memory_budget_mb = NULL"
            " WHERE job_id = ?",
            (job_id,),
        )

    @staticmethod
    def next_run(tx: Transaction, job_id: str) -> None:
        """Give the next run of a job its own number; what counts against the job stays."""
        tx.run("UPDATE job SET run = run + 1 WHERE job_id = ?", (job_id,))

    def keep_objects(self, job_id: str, objects: Iterable[OutputObject]) -> None:
        """Remember what the child wrote, in the place of what an earlier one wrote."""
        with self._db.write() as tx:
            tx.run("DELETE FROM job_object WHERE job_id = ?", (job_id,))
            for item in objects:
                tx.run(
                    "INSERT INTO job_object (job_id, role, path, sop_uid, sha256) VALUES (?, ?, ?, ?, ?)",
                    (job_id, item.role, item.path, item.sop_uid, item.sha256),
                )

    def objects(self, job_id: str) -> list[OutputObject]:
        """What the child wrote."""
        return self._db.read(
            OutputObject, "SELECT * FROM job_object WHERE job_id = ? ORDER BY role", (job_id,)
        )
