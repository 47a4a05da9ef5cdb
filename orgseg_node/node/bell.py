"""Rings when there is something to do, so that nobody waits for a tick; the ticks remain the net below."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from typing import Final

from apscheduler.jobstores.base import JobLookupError
from apscheduler.schedulers.background import BackgroundScheduler

DISPATCH: Final = "dispatch"
JUDGE: Final = "judge"

Ring = Callable[[str, float], None]
"""Have a tick come so many seconds from now, if it would not come before."""


class Bell:
    """Has ticks come sooner, from the moment it hangs at a clock; before that it makes no sound."""

    def __init__(self) -> None:
        self._clock: BackgroundScheduler | None = None

    def hang(self, clock: BackgroundScheduler) -> None:
        """Ring through a scheduler whose jobs are the ticks, by their names."""
        self._clock = clock

    def ring(self, tick: str, after_s: float = 0.0) -> None:
        """Have a tick come so many seconds from now, if it would not come before."""
        job = self._clock.get_job(tick) if self._clock is not None and self._clock.running else None
        at = datetime.now(UTC) + timedelta(seconds=after_s)
        if job is not None and at < job.next_run_time:
            with suppress(JobLookupError):  # the node stopped in this very moment
                job.modify(next_run_time=at)


def silent(_tick: str, _after_s: float) -> None:
    """A bell that nobody hears."""
