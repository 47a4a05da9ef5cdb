"""Under which program, configuration and models each job was worked on.

Before a job changes its state, an event of the job (kind ``job``, change ``context``) names the context, if
it is not the one the job was last worked on under. So the context of a transition is that of the latest
such event of the job before it.
"""

from __future__ import annotations

from typing import Any

from orgseg_node.node.store.canonical import canonical, short_hash
from orgseg_node.node.store.clock import Clock, stamp, utc_now
from orgseg_node.node.store.database import Database, Transaction


class Attribution:
    """Notes contexts; part of the store, whose transactions it writes in.

    Parameters
    ----------
    clock : where the time comes from
    """

    def __init__(self, clock: Clock = utc_now) -> None:
        self._clock = clock
        self._context = ""

    def works_under(self, database: Database, content: dict[str, Any]) -> str:
        """From now on, jobs are worked on under this context; its hash."""
        context = short_hash(content)
        if context != self._context:
            with database.write() as tx:
                tx.run(
                    "INSERT INTO context (context, content, first_at) VALUES (?, ?, ?)"
                    " ON CONFLICT (context) DO NOTHING",
                    (context, canonical(content), stamp(self._clock())),
                )
            self._context = context
        return context

    def note(self, tx: Transaction, job_id: str) -> None:
        """Note the context of a job before it changes, if that is not yet known."""
        if not self._context:
            return
        changed = tx.run(
            "INSERT INTO job_context (job_id, context) SELECT job_id, ? FROM job WHERE job_id = ?"
            " ON CONFLICT (job_id) DO UPDATE SET context = excluded.context"
            " WHERE job_context.context <> excluded.context",
            (self._context, job_id),
        )
        if changed:
            tx.run(
                "INSERT INTO event (kind, subject, change, note) VALUES ('job', ?, 'context', ?)",
                (job_id, self._context),
            )
