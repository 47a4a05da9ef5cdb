"""When what one destination does not take goes to another, and that it never silently goes to both."""

from __future__ import annotations

from datetime import datetime, timedelta

from orgseg_node.errors import NetworkError, OrgsegError, StoreRefused
from orgseg_node.node.config.destinations import Destination, WebDestination
from orgseg_node.node.store.model import Delivery


def is_permanent(error: OrgsegError) -> bool:
    """Whether the very same object will be refused again.

    Too few resources (A7xx, 0213) and a failure while processing (0110) may pass; that an object is not of
    its class, not understood or not supported (A9xx, Cxxx, 0122 and others; PS3.4 B.2.3, PS3.7 C) does not.
    """
    if not isinstance(error, StoreRefused):
        return False
    return error.status is None or not (error.status & 0xFF00 == 0xA700 or error.status in (0x0110, 0x0213))


def is_due(
    delivery: Delivery, place: Destination | WebDestination, error: OrgsegError, now: datetime
) -> bool:
    """Whether a delivery that has just failed shall go to the alternate of its destination."""
    if place.alternate is None or not isinstance(error, NetworkError):
        return False
    since = delivery.first_attempt_at or now
    return is_permanent(error) or now - since >= timedelta(hours=place.alternate_after_h)
