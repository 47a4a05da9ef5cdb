"""The time. It is an argument everywhere, so that tests can set it."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime

Clock = Callable[[], datetime]


def utc_now() -> datetime:
    """The present time, in UTC."""
    return datetime.now(UTC)


def stamp(moment: datetime) -> str:
    """A time as stored in the database: ISO 8601, always with microseconds.

    Texts of equal length sort in the order of time, in every collation of a database.
    """
    return moment.isoformat(timespec="microseconds")
