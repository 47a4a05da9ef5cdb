"""When an object that one destination does not accept goes to its alternate."""

from __future__ import annotations

from datetime import datetime, timedelta

from orgseg_node.errors import NetworkError, OrgsegError, StoreRefused
from orgseg_node.node.config.destinations import Destination, WebDestination
from orgseg_node.node.store.model import Delivery


def is_permanent(error: OrgsegError) -> bool:
    """Whether the same object would be refused again.

    Too few resources (A7xx, 0213) and processing failures (0110) may be temporary. An object that does not
    match its class, is not understood or not supported (A9xx, Cxxx, 0122 and others; PS3.4 B.2.3, PS3.7 annex
    C) will be refused again.
    """
    if not isinstance(error, StoreRefused):
        return False
    return error.status is None or not (error.status & 0xFF00 == 0xA700 or error.status in (0x0110, 0x0213))


def is_due(
    delivery: Delivery, destination: Destination | WebDestination, error: OrgsegError, now: datetime
) -> bool:
    """Whether a failed delivery goes to the alternate of its destination.

    Parameters
    ----------
    delivery : the delivery that failed
    destination : where it failed
    error : why
    now : the present time
    """
    if destination.alternate is None or not isinstance(error, NetworkError):
        return False
    since = delivery.first_attempt_at or now
    return is_permanent(error) or now - since >= timedelta(hours=destination.alternate_after_h)
