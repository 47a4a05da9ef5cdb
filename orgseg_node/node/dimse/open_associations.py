"""The associations that are open, by calling AE title, and what ended one that was not released."""

from __future__ import annotations

import threading

from pynetdicom import evt
from pynetdicom.events import Event
from pynetdicom.pdu_primitives import A_ABORT, A_P_ABORT

from orgseg_node.node.store.transfer_rows import NODE_STOPPED


class OpenAssociations:
    """Counts the associations of each calling AE title."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._open: dict[str, set[int]] = {}

    def add(self, calling: str, number: int, limit: int | None, *, total: int | None = None) -> bool:
        """Count an association.

        Parameters
        ----------
        calling : calling AE title
        number : of the association
        limit : how many this title may have open; None for any number
        total : how many may be open together; None for any number

        Returns
        -------
        False, with nothing changed, if there are as many already
        """
        with self._lock:
            if total is not None and sum(map(len, self._open.values())) >= total:
                return False
            there = self._open.setdefault(calling, set())
            if limit is not None and len(there) >= limit:
                return False
            there.add(number)
        return True

    def remove(self, number: int) -> str | None:
        """Count an association as open no more; its calling AE title, or None if it was not counted."""
        with self._lock:
            for calling in [name for name, there in self._open.items() if number in there]:
                self._open[calling].discard(number)
                if not self._open[calling]:
                    del self._open[calling]
                return calling
        return None


class WaitingConnections:
    """Counts the connections of each address whose association request has not come yet."""

    ADDRESSES = 10
    """All addresses together may have this many times the limit of one."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._waiting: dict[int, str] = {}

    def add(self, address: str, number: int, limit: int) -> bool:
        """Count a connection.

        Parameters
        ----------
        address : where it comes from
        number : of the association
        limit : how many of this address may wait

        Returns
        -------
        False, with nothing changed, if there are as many already
        """
        with self._lock:
            same = sum(1 for one in self._waiting.values() if one == address)
            if same >= limit or len(self._waiting) >= self.ADDRESSES * limit:
                return False
            self._waiting[number] = address
        return True

    def remove(self, number: int) -> None:
        """Count a connection no more."""
        with self._lock:
            self._waiting.pop(number, None)


def cause_of_end(event: Event, *, stopping: bool) -> str:
    """What ended an association that was not released; one of few texts, for a log and a metric.

    Parameters
    ----------
    event : that the association was aborted, or its connection closed
    stopping : whether the node is stopping
    """
    if stopping:
        return NODE_STOPPED
    if event.assoc.dul.idle_timer_expired():
        return "idle time-out"
    # the connection is closed while pynetdicom still has to report the abort
    waiting = list(event.assoc.dul.to_user_queue.queue)
    aborted = event.event is evt.EVT_ABORTED or any(isinstance(one, (A_ABORT, A_P_ABORT)) for one in waiting)
    return "A-ABORT" if aborted else "connection lost"
