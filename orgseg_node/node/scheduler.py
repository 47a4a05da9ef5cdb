"""Rings when there is something to do, so that nobody waits for a tick; the ticks remain the net below."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from time import monotonic
from typing import Final

import structlog
from apscheduler.executors.pool import ThreadPoolExecutor
from apscheduler.jobstores.base import JobLookupError
from apscheduler.schedulers.background import BackgroundScheduler

from orgseg_node.errors import OrgsegError

_log = structlog.get_logger("orgseg.scheduler")

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


class Pulse:
    """Remembers when each tick last came to its end, whether it did its work or failed.

    Parameters
    ----------
    now : seconds that never go back
    """

    def __init__(self, now: Callable[[], float] = monotonic) -> None:
        self._now = now
        self._lock = threading.Lock()
        self._expected: dict[str, float] = {}
        self._last: dict[str, float] = {}

    def expect(self, name: str, within_s: float) -> None:
        """A tick of this name comes to its end at least so often."""
        with self._lock:
            self._expected[name] = within_s
            self._last[name] = self._now()

    def beat(self, name: str) -> None:
        """A tick came to its end."""
        with self._lock:
            self._last[name] = self._now()

    def overdue(self) -> list[str]:
        """The ticks that should have come to an end by now and did not."""
        now = self._now()
        with self._lock:
            return [name for name, limit in self._expected.items() if now - self._last[name] > limit]


Tick = tuple[str, Callable[[], object], float]
"""What is done by the clock: its name, the scan, and every how many seconds."""


_THREADS: Final = 8
"""Four ticks may wait for a peer, one for the disk (report, ask, echo, notify, purge); others are short."""


_SLOWEST_S: Final = 600.0  # a tick that takes longer than this is taken for dead


def start_ticks(ticks: Iterable[Tick], pulse: Pulse, bell: Bell) -> BackgroundScheduler:
    """Start the clock. Several processes may tick at once: each scan does what it finds left to do."""
    every = list(ticks)
    scheduler = BackgroundScheduler(
        executors={"default": ThreadPoolExecutor(_THREADS)},
        job_defaults={"coalesce": True, "max_instances": 1, "misfire_grace_time": None},
        timezone="UTC",
    )
    for name, scan, seconds in every:
        pulse.expect(name, seconds + _SLOWEST_S)
        scheduler.add_job(_safely(name, scan, pulse), "interval", seconds=seconds, id=name)
    scheduler.start()
    bell.hang(scheduler)
    return scheduler


def _safely(name: str, scan: Callable[[], object], pulse: Pulse) -> Callable[[], None]:
    """A scan that reports its failure and is tried again at the next tick."""

    def tick() -> None:
        try:
            scan()
        except OrgsegError as error:
            _log.error("tick failed", tick=name, code=error.code, detail=error.sentence)
        except Exception as error:  # noqa: BLE001 (one bad tick must not stop the clock)
            _log.error("tick failed", tick=name, code="UNEXPECTED", kind=type(error).__name__)
        finally:
            pulse.beat(name)

    return tick
