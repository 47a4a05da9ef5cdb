"""Log of rejected callers: at most one line a minute for each, so that none can fill the disk."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from typing import Any, Final

import structlog
from pydicom.uid import UID
from pynetdicom.association import Association

from orgseg_node.node.monitoring.metrics import Meters

INTERVAL_S: Final = 60.0
_MAX_CALLERS: Final = 200
_OTHERS: Final = "(others)"
_MAX_NAMES: Final = 20
_CLASS_NOT_SUPPORTED: Final = 0x03  # PS3.8 9.3.3.2

_log = structlog.get_logger("orgseg.receiver")


class RateLimitedRejectLog:
    """Logs the first rejection of a caller at once, and those of the next minute as one line.

    Callers beyond the first 200 of a minute are counted together, because AE titles and addresses can be
    forged.

    Parameters
    ----------
    clock : seconds that only increase
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._lock = threading.Lock()
        self._logged_at: dict[str, float] = {}
        self._since: dict[str, tuple[int, str, dict[str, Any]]] = {}

    def note(self, event: str, caller: str, **fields: Any) -> None:
        """Log a rejection, or count it.

        Parameters
        ----------
        event : what was rejected
        caller : key by which rejections are counted together
        fields : further fields of the log line
        """
        self.flush()
        with self._lock:
            if caller not in self._logged_at and len(self._logged_at) >= _MAX_CALLERS:
                caller, fields = _OTHERS, {}
            if caller in self._logged_at:
                count = self._since[caller][0] if caller in self._since else 0
                self._since[caller] = (count + 1, event, fields)
                return
            self._logged_at[caller] = self._clock()
        _log.warning(event, **fields)

    def flush(self, *, everything: bool = False) -> None:
        """Log what was counted for a minute, or everything that was counted."""
        now = self._clock()
        with self._lock:
            over = [name for name, at in self._logged_at.items() if everything or now - at >= INTERVAL_S]
            held = [self._since.pop(name) for name in over if name in self._since]
            for name in over:
                del self._logged_at[name]
        for count, event, fields in held:
            _log.warning(event, **fields, times=count)


def note_refused_contexts(association: Association, log: RateLimitedRejectLog, meters: Meters) -> None:
    """Log and count the presentation contexts of an accepted association that were rejected.

    Parameters
    ----------
    association : as negotiated
    log : of the rejections
    meters : count them
    """
    accepted = {context.abstract_syntax for context in association.accepted_contexts}
    rejected = association.rejected_contexts
    calling = str(association.requestor.ae_title).strip()
    address = str(association.requestor.address)
    fields: dict[str, Any] = {"calling": calling, "address": address}
    classes = sorted({str(context.abstract_syntax) for context in rejected} - {str(one) for one in accepted})
    for context in rejected:
        refused = "SOP_CLASS" if context.result == _CLASS_NOT_SUPPORTED else "TRANSFER_SYNTAX"
        meters.refused_contexts.labels(refused).inc()
    if classes:
        names = [UID(uid).name for uid in classes[:_MAX_NAMES]]
        listed = {"sop_classes": classes[:_MAX_NAMES], "names": names, "count": len(classes)}
        log.note("sop classes refused", f"{calling}@{address} classes", **fields, **listed)
    syntaxes = {
        (UID(context.abstract_syntax or "").name, UID(syntax).name)
        for context in rejected
        if context.abstract_syntax in accepted
        for syntax in context.transfer_syntax
    }
    if syntaxes:
        listed = {"contexts": [f"{one}: {syntax}" for one, syntax in sorted(syntaxes)[:_MAX_NAMES]]}
        log.note("transfer syntaxes refused", f"{calling}@{address} syntaxes", **fields, **listed)
