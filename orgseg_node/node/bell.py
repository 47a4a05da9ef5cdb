"""Rings when there is something to do, so that nobody waits for a tick; the ticks remain the net below."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Final

from apscheduler.schedulers import SchedulerNotRunningError
from apscheduler.schedulers.background import BackgroundScheduler

DISPATCH: Final = "dispatch"
JUDGE: Final = "judge"

Ring = Callable[[str, float], None]
"""Have a tick come so many seconds from now, besides its usual times."""


class Bell:
    """Has ticks come at once, from the moment it hangs at a running clock; before that it makes no sound."""

    def __init__(self) -> None:
        self._clock: BackgroundScheduler | None = None
        self._ticks: dict[str, Callable[[], None]] = {}

    def hang(self, clock: BackgroundScheduler, ticks: dict[str, Callable[[], None]]) -> None:
        """Ring through a clock.

        Parameters
        ----------
        clock : a running scheduler
        ticks : what it does by the clock, by name
        """
        self._ticks, self._clock = ticks, clock

    def ring(self, tick: str, after_s: float = 0.0) -> None:
        """Have a tick come, besides its usual times; one that is to come already comes at the new time."""
        if self._clock is None or tick not in self._ticks:
            return
        at = datetime.now(UTC) + timedelta(seconds=after_s)
        try:
            self._clock.add_job(
                self._ticks[tick], "date", run_date=at, id=f"{tick}, rung for", replace_existing=True
            )
        except (SchedulerNotRunningError, RuntimeError):  # the node is stopping
            return


def silent(_tick: str, _after_s: float) -> None:
    """A bell that nobody hears."""
