"""How often the judging of a series failed, and when it is tried again."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final

from orgseg_node.node.store.clock import stamp
from orgseg_node.node.store.database import Database
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
        pause = timedelta(seconds=min(_LONGEST_S, _FIRST_S * 2.0 ** (attempts - 1)))
        with self._db.write() as tx:
            tx.run(
                "INSERT INTO series_attempt (series_uid, revision, attempts, next_at) VALUES (?, ?, ?, ?)"
                " ON CONFLICT (series_uid) DO UPDATE SET revision = excluded.revision,"
                " attempts = excluded.attempts, next_at = excluded.next_at",
                (series.series_uid, series.revision, attempts, stamp(now + pause)),
            )
        return attempts

    def forget(self, series_uid: str) -> None:
        """Forget the failed attempts of a series that was judged or held."""
        with self._db.write() as tx:
            tx.run("DELETE FROM series_attempt WHERE series_uid = ?", (series_uid,))
