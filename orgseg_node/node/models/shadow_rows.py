"""What a version in the shadow still has to contour, and how far it agreed with the live version."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from orgseg_node.node.models.version_rows import ModelVersion
from orgseg_node.node.store.clock import Clock, stamp, utc_now
from orgseg_node.node.store.database import Database
from orgseg_node.node.store.model import Job

_COMPARED, _FAILED = "COMPARED", "FAILED"
_ATTEMPTS: Final = 2
"""So many times the contouring of a scan in the shadow is tried."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ShadowRun:
    """The contouring of one scan in the shadow.

    Attributes
    ----------
    job_id : number of the job that the live version did
    outcome : empty until it is over
    attempts : how often it was begun
    note : why it failed
    agreement : for each organ how far both agree, as JSON
    """

    job_id: str
    outcome: str
    attempts: int
    note: str
    agreement: str

    @property
    def is_compared(self) -> bool:
        """Whether both versions were compared."""
        return self.outcome == _COMPARED

    @property
    def is_failed(self) -> bool:
        """Whether it was given up."""
        return self.outcome == _FAILED

    @property
    def organs(self) -> Sequence[Mapping[str, Any]]:
        """One row for each organ, as `agreement.compare_labels` gives them."""
        rows: list[dict[str, Any]] = json.loads(self.agreement) if self.agreement else []
        return rows


class ShadowRuns:
    """The runs in the shadow.

    Parameters
    ----------
    database : the node's database
    clock : source of the time
    """

    def __init__(self, database: Database, *, clock: Clock = utc_now) -> None:
        self._db = database
        self._clock = clock

    def next_job(self, live: ModelVersion, shadow: ModelVersion, cases: int) -> Job | None:
        """The newest scan that the live version has contoured, and the version in the shadow has not yet.

        Parameters
        ----------
        live, shadow : versions of one family
        cases : earlier scans, from before there was a shadow, are taken until so many were compared
        """
        compared = sum(run.is_compared for run in self.outcomes(shadow))
        since = stamp(shadow.updated_at) if compared >= cases else ""
        found = self._db.read(
            Job,
            "SELECT j.* FROM job j LEFT JOIN shadow_run r"
            " ON r.job_id = j.job_id AND r.family = ? AND r.sha256 = ?"
            " WHERE j.state IN ('SENDING', 'DONE') AND j.purged_at IS NULL AND j.models LIKE ?"
            " AND j.created_at >= ? AND coalesce(r.outcome, '') = ''"
            " ORDER BY coalesce(r.attempts, 0), j.created_at DESC LIMIT 1",
            (shadow.family, shadow.sha256, f"%{live.sha256}%", since),
        )
        return found[0] if found else None

    def begin(self, shadow: ModelVersion, job_id: str) -> bool:
        """Count an attempt; False, with the run given up, if there were enough.

        Parameters
        ----------
        shadow : the version
        job_id : number of the job of the live version
        """
        with self._db.write() as tx:
            rows = tx.rows(
                "SELECT attempts FROM shadow_run WHERE family = ? AND sha256 = ? AND job_id = ?",
                (shadow.family, shadow.sha256, job_id),
            )
            if rows and int(rows[0][0]) >= _ATTEMPTS:
                tx.run(
                    "UPDATE shadow_run SET outcome = 'FAILED', note = ?"
                    " WHERE family = ? AND sha256 = ? AND job_id = ? AND outcome = ''",
                    ("Its process died again and again.", shadow.family, shadow.sha256, job_id),
                )
                return False
            tx.run(
                "INSERT INTO shadow_run (family, sha256, job_id, attempts, at) VALUES (?, ?, ?, 1, ?)"
                " ON CONFLICT (family, sha256, job_id) DO UPDATE SET attempts = shadow_run.attempts + 1",
                (shadow.family, shadow.sha256, job_id, stamp(self._clock())),
            )
        return True

    def take_back(self, shadow: ModelVersion, job_id: str) -> None:
        """Do not count an attempt that was stopped for a patient's job.

        Parameters
        ----------
        shadow : the version
        job_id : number of the job of the live version
        """
        with self._db.write() as tx:
            tx.run(
                "UPDATE shadow_run SET attempts = attempts - 1"
                " WHERE family = ? AND sha256 = ? AND job_id = ? AND outcome = '' AND attempts > 0",
                (shadow.family, shadow.sha256, job_id),
            )

    def compared(self, shadow: ModelVersion, job_id: str, organs: Sequence[Mapping[str, Any]]) -> None:
        """Keep how far both versions agree on a scan.

        Parameters
        ----------
        shadow : the version
        job_id : number of the job of the live version
        organs : rows of `agreement.compare_labels`
        """
        self._end(shadow, job_id, _COMPARED, "", json.dumps(list(organs)))

    def failed(self, shadow: ModelVersion, job_id: str, note: str) -> None:
        """Keep why a scan could not be contoured in the shadow.

        Parameters
        ----------
        shadow : the version
        job_id : number of the job of the live version
        note : the reason, without patient data
        """
        self._end(shadow, job_id, _FAILED, note, "")

    def outcomes(self, shadow: ModelVersion) -> list[ShadowRun]:
        """Every run of a version, the oldest first."""
        return self._db.read(
            ShadowRun,
            "SELECT * FROM shadow_run WHERE family = ? AND sha256 = ? ORDER BY at",
            (shadow.family, shadow.sha256),
        )

    def _end(self, shadow: ModelVersion, job_id: str, outcome: str, note: str, agreement: str) -> None:
        with self._db.write() as tx:
            tx.run(
                "UPDATE shadow_run SET outcome = ?, note = ?, agreement = ?, at = ?"
                " WHERE family = ? AND sha256 = ? AND job_id = ? AND outcome = ''",
                (outcome, note, agreement, stamp(self._clock()), shadow.family, shadow.sha256, job_id),
            )
