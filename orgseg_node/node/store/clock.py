"""What time it is: an argument everywhere, so that tests can say it."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime

Clock = Callable[[], datetime]


def utc_now() -> datetime:
    """The time, in UTC."""
    return datetime.now(UTC)


def stamp(moment: datetime) -> str:
    """A moment as the database keeps it: ISO 8601, always with microseconds.

    Texts of one length sort as times do, whatever rules of order a database has.
    """
    return moment.isoformat(timespec="microseconds")
