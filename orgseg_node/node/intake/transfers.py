"""Which associations bring images of which series, and of which series the sending was broken off.

The receiving process is the only one that writes this; it keeps the state in memory and in the database.
"""

from __future__ import annotations

import threading
from dataclasses import dataclass
from datetime import datetime
from typing import Final

import structlog

from orgseg_node.errors import OrgsegError
from orgseg_node.node.store.clock import Clock
from orgseg_node.node.store.database import Database
from orgseg_node.node.store.transfer_rows import BrokenTransfer, TransferRows

IMAGE_NOT_STORED: Final = "an image could not be stored"

_log = structlog.get_logger("orgseg.inbox")


@dataclass(frozen=True, slots=True, kw_only=True)
class TransferState:
    """The transfers at one moment.

    Attributes
    ----------
    open : series of which an association is open
    broken : series of which the sending was broken off, by Series Instance UID
    """

    open: frozenset[str]
    broken: dict[str, BrokenTransfer]


class Transfers:
    """Open associations and what they brought.

    Parameters
    ----------
    database : the node's database
    clock : source of the time
    """

    def __init__(self, database: Database, clock: Clock) -> None:
        self._rows = TransferRows(database)
        self._clock = clock
        self._lock = threading.Lock()
        self._ending = threading.Lock()
        self._open: dict[int, dict[str, datetime]] = {}
        self._not_stored: dict[int, set[str]] = {}
        self._broken = {one.series_uid: one for one in self._rows.broken()}

    @property
    def state(self) -> TransferState:
        """What is open and what was broken off."""
        with self._lock:
            return TransferState(open=self._open_series(), broken=dict(self._broken))

    def _open_series(self) -> frozenset[str]:
        return frozenset(uid for series in self._open.values() for uid in series)

    def brings(self, association: int, series_uid: str) -> None:
        """Note that an association brings images of a series."""
        with self._lock:
            self._open.setdefault(association, {}).setdefault(series_uid, self._clock())

    def not_stored(self, association: int, sop_uid: str) -> None:
        """Note that an image could not be stored for a fault of the node: the sender has to send it again."""
        with self._lock:
            self._not_stored.setdefault(association, set()).add(sop_uid)

    def stored(self, association: int, sop_uid: str) -> None:
        """Note that an image was stored, perhaps at the second try."""
        with self._lock:
            self._not_stored.get(association, set()).discard(sop_uid)

    def node_started(self, now: datetime) -> None:
        """Note that whatever was being sent when the node stopped was broken off."""
        self._rows.node_started(now)
        with self._lock:
            self._broken = {one.series_uid: one for one in self._rows.broken()}

    def ended(self, association: int, *, released: bool, cause: str) -> frozenset[str]:
        """Note that an association ended.

        One over which an image could not be stored counts as broken off, however it ended. An association
        that ends in order is the retry of a series whose sending was broken off if it began after the break.
        One that was open at the same time as the broken one may have brought other images of the series.

        Parameters
        ----------
        association : its number
        released : whether it ended in order
        cause : otherwise what ended it, in words

        Returns
        -------
        Series Instance UIDs of the series that it brought
        """
        with self._ending:
            with self._lock:
                began = self._open.pop(association, {})
                if self._not_stored.pop(association, None) and released:
                    released, cause = False, IMAGE_NOT_STORED
                if released:
                    ended = [uid for uid, at in began.items() if self._is_retry(uid, at)]
                    for uid in ended:
                        self._broken.pop(uid, None)
                    still = self._open_series() & set(ended)
                else:
                    now = self._clock()
                    new = [BrokenTransfer(series_uid=uid, cause=cause, at=now) for uid in sorted(began)]
                    self._broken |= {one.series_uid: one for one in new}
            try:
                if released and ended:
                    self._rows.ended_in_order(ended, still)
                elif not released and new:
                    self._rows.broke_off(new)
            except OrgsegError as error:  # at the next start the series counts as broken off, which is safe
                _log.error("end of association not stored", code=error.code, series=sorted(began))
        for uid in () if released else sorted(began):
            _log.warning("sending broken off", series=uid, cause=cause)
        return frozenset(began)

    def _is_retry(self, series_uid: str, began_at: datetime) -> bool:
        broken = self._broken.get(series_uid)
        return broken is None or began_at >= broken.at
