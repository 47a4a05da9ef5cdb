"""Which series are being sent, and of which the sending was broken off; the rows survive a restart.

A series gets the row OPEN with its first image. The row goes when its last association ends in order, and
becomes BROKEN when one is cut off. A row that is OPEN when the node starts becomes BROKEN too.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime
from typing import Final

from orgseg_node.node.store.clock import stamp
from orgseg_node.node.store.database import Database, Transaction

NODE_STOPPED: Final = "the node stopped"


@dataclass(frozen=True, slots=True, kw_only=True)
class BrokenTransfer:
    """A series of which the sending was broken off.

    Attributes
    ----------
    series_uid : Series Instance UID
    cause : what ended the association, in words
    at : when it ended
    """

    series_uid: str
    cause: str
    at: datetime


def note_open(tx: Transaction, series_uid: str, now: str) -> None:
    """Note that a series is being sent; one that was broken off stays so until an association ends in order.

    Parameters
    ----------
    tx : the transaction
    series_uid : Series Instance UID
    now : the time, as stored in the database
    """
    tx.run(
        "INSERT INTO transfer (series_uid, state, at) VALUES (?, 'OPEN', ?)"
        " ON CONFLICT (series_uid) DO NOTHING",
        (series_uid, now),
    )


class TransferRows:
    """The rows of transfers.

    Parameters
    ----------
    database : the node's database
    """

    def __init__(self, database: Database) -> None:
        self._db = database

    def broken(self) -> list[BrokenTransfer]:
        """Every series of which the sending was broken off."""
        return self._db.read(BrokenTransfer, "SELECT * FROM transfer WHERE state = 'BROKEN'")

    def node_started(self, now: datetime) -> None:
        """Mark every series that was being sent when the node stopped."""
        with self._db.write() as tx:
            tx.run(
                "UPDATE transfer SET state = 'BROKEN', cause = ?, at = ? WHERE state = 'OPEN'",
                (NODE_STOPPED, stamp(now)),
            )

    def ended_in_order(self, series: Iterable[str], still_open: Iterable[str]) -> None:
        """Note that an association ended in order.

        Parameters
        ----------
        series : Series Instance UIDs of the images that it brought
        still_open : of these the series that another association is sending
        """
        open_ones = set(still_open)
        with self._db.write() as tx:
            for uid in series:
                if uid in open_ones:
                    tx.run("UPDATE transfer SET state = 'OPEN', cause = '' WHERE series_uid = ?", (uid,))
                else:
                    tx.run("DELETE FROM transfer WHERE series_uid = ?", (uid,))

    def broke_off(self, transfers: Iterable[BrokenTransfer]) -> None:
        """Note that an association was cut off; the history of each of its series says so."""
        with self._db.write() as tx:
            for one in transfers:
                tx.run(
                    "INSERT INTO transfer (series_uid, state, cause, at) VALUES (?, 'BROKEN', ?, ?)"
                    " ON CONFLICT (series_uid) DO UPDATE SET state = 'BROKEN', cause = excluded.cause,"
                    " at = excluded.at",
                    (one.series_uid, one.cause, stamp(one.at)),
                )
                tx.append_event(
                    "series", one.series_uid, "broken off", f"The sending was broken off: {one.cause}."
                )
