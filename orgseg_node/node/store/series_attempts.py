"""How often the judging of a series failed, and when it is tried again.

A series is at risk while its files are read. One that is still at risk when the node starts was being read
when the whole node was killed, for example because its container ran out of memory: a failed attempt too.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final

from orgseg_node.node.store.clock import stamp
from orgseg_node.node.store.database import Database, Transaction
from orgseg_node.node.store.model import Series

_FIRST_S: Final = 5.0
_LONGEST_S: Final = 120.0


@dataclass(frozen=True, slots=True, kw_only=True)
class FailedAttempts:
    """Failed attempts to judge one revision of a series.

    Attributes
    ----------
    attempts : how many failed
    next_at : time of the next one
    """

    attempts: int
    next_at: datetime


class SeriesAttempts:
    """Failed attempts to judge series.

    Parameters
    ----------
    database : the node's database
    """

    def __init__(self, database: Database) -> None:
        self._db = database
        self._preloaded: set[tuple[str, int]] = set()

    def of(self, series: Series) -> FailedAttempts | None:
        """The failed attempts at the present revision of a series; None if there was none."""
        found = self._db.read(
            FailedAttempts,
            "SELECT * FROM series_attempt WHERE series_uid = ? AND revision = ?",
            (series.series_uid, series.revision),
        )
        return found[0] if found else None

    def failed(self, series: Series, now: datetime) -> int:
        """Count a failed attempt; the next one comes after a pause that grows.

        Returns
        -------
        How many attempts at this revision failed
        """
        before = self.of(series)
        attempts = 1 + (before.attempts if before is not None else 0)
        with self._db.write() as tx:
            self._put(tx, series, now)
            tx.run(
                "UPDATE series_attempt SET attempts = ?, next_at = ?, at_risk = 0 WHERE series_uid = ?",
                (attempts, stamp(now + _pause(attempts)), series.series_uid),
            )
        return attempts

    def begin(self, series: Series, now: datetime) -> None:
        """Note that the files of a series are about to be read."""
        with self._db.write() as tx:
            self._put(tx, series, now)
            tx.run("UPDATE series_attempt SET at_risk = 1 WHERE series_uid = ?", (series.series_uid,))

    def end(self, series_uid: str) -> None:
        """Note that the files of a series are not being read any more."""
        with self._db.write() as tx:
            tx.run("UPDATE series_attempt SET at_risk = 0 WHERE series_uid = ?", (series_uid,))

    def interrupted(self, now: datetime) -> list[tuple[str, int]]:
        """When the node starts: count a failed attempt at each series that was being read when it was killed.

        Returns
        -------
        Series Instance UIDs, each with how many attempts at its revision failed
        """
        with self._db.write() as tx:
            rows = tx.rows(
                "SELECT series_uid, attempts FROM series_attempt WHERE at_risk = 1 ORDER BY series_uid"
            )
            for uid, attempts in rows:
                tx.run(
                    "UPDATE series_attempt SET attempts = attempts + 1, at_risk = 0, next_at = ?"
                    " WHERE series_uid = ?",
                    (stamp(now + _pause(int(attempts) + 1)), uid),
                )
        return [(str(uid), int(attempts) + 1) for uid, attempts in rows]

    def may_preload(self, series: Series, now: datetime) -> bool:
        """Whether a series may be preloaded for its job; this is noted, and only the first process may do it.

        If the whole node is killed meanwhile, nobody counts it as a failed attempt. So the series is not
        preloaded a second time: its job reads it, and the job counts its failed runs.
        """
        known = (series.series_uid, series.revision)
        if known in self._preloaded:
            return True
        with self._db.write() as tx:
            self._put(tx, series, now)
            new = tx.run(
                "UPDATE series_attempt SET preloaded = 1 WHERE series_uid = ? AND preloaded = 0",
                (series.series_uid,),
            )
        if new:
            self._preloaded.add(known)
        return bool(new)

    @staticmethod
    def _put(tx: Transaction, series: Series, now: datetime) -> None:
        """Make sure that there is a row for the present revision of a series."""
        tx.run(
            "DELETE FROM series_attempt WHERE series_uid = ? AND revision <> ?",
            (series.series_uid, series.revision),
        )
        tx.run(
            "INSERT INTO series_attempt (series_uid, revision, attempts, next_at) VALUES (?, ?, 0, ?)"
            " ON CONFLICT (series_uid) DO NOTHING",
            (series.series_uid, series.revision, stamp(now)),
        )

    def forget(self, series_uid: str) -> None:
        """Forget the failed attempts of a series that was judged or held."""
        self._preloaded = {known for known in self._preloaded if known[0] != series_uid}
        with self._db.write() as tx:
            tx.run("DELETE FROM series_attempt WHERE series_uid = ?", (series_uid,))


def _pause(attempts: int) -> timedelta:
    """How long the next attempt waits after so many failed."""
    return timedelta(seconds=min(_LONGEST_S, _FIRST_S * 2.0 ** (attempts - 1)))
