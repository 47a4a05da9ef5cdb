"""The scheduler: periodic tasks, wake-ups before their time, and a watchdog over them.

A periodic task is called a tick. Each tick is a scan that may run at any time and as often as needed: it
looks for work and does it. So that nobody waits for the next tick, whoever makes work wakes the scheduler up
at once; polling is the fallback.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from time import monotonic
from typing import Final

import structlog
from apscheduler.executors.pool import ThreadPoolExecutor
from apscheduler.jobstores.base import JobLookupError
from apscheduler.schedulers.background import BackgroundScheduler

from orgseg_node.errors import ItemsFailed, OrgsegError
from orgseg_node.errors.unexpected import place
from orgseg_node.node.isolation import code_of

_THREADS: Final = 8
"""Three ticks may wait for a peer (commitment, echo, notify), one for the disk (purge); others are short."""

_SLOWEST_S: Final = 600.0
"""A tick that takes longer is overdue."""

_TIMES: Final = 3
"""A tick that failed so often in a row is reported."""

_RARE_S, _TIMES_OF_A_RARE = 2 * _SLOWEST_S, 2

_log = structlog.get_logger("orgseg.scheduler")

Tick = tuple[str, Callable[[], object], float]
"""A periodic task: its name, the function, and the interval in seconds."""

DISPATCH: Final = "dispatch"
"""The tick `Dispatcher.dispatch`: it starts jobs and deliveries that are due."""

JUDGE: Final = "judge"
"""The tick `Inbox.judge_stable_series`: it makes jobs of series that are stable."""

Trigger = Callable[[str, float], None]
"""Run a tick in so many seconds, unless it runs earlier anyway; see `Wakeup.trigger`."""


def no_trigger(_tick: str, _after_s: float) -> None:
    """Do nothing: the tick runs at its usual time."""


class Wakeup:
    """Runs ticks before their time, once it is attached to a scheduler; until then it does nothing."""

    def __init__(self) -> None:
        self._scheduler: BackgroundScheduler | None = None

    def attach(self, scheduler: BackgroundScheduler) -> None:
        """Use a scheduler whose jobs have the names of the ticks."""
        self._scheduler = scheduler

    def trigger(self, tick: str, after_s: float = 0.0) -> None:
        """Run a tick in so many seconds, unless it runs earlier anyway."""
        running = self._scheduler is not None and self._scheduler.running
        job = self._scheduler.get_job(tick) if self._scheduler is not None and running else None
        at = datetime.now(UTC) + timedelta(seconds=after_s)
        if job is not None and at < job.next_run_time:
            with suppress(JobLookupError):  # the node stopped at this moment
                job.modify(next_run_time=at)


@dataclass(frozen=True, slots=True, kw_only=True)
class FailingTick:
    """A tick that failed the last time.

    Attributes
    ----------
    name : of the tick
    code : of the last error
    detail : the last error as a sentence, without data of a patient
    times : how often it failed without a success in between
    since : time of the first of these failures
    """

    name: str
    code: str
    detail: str
    times: int
    since: datetime

    @property
    def is_partial(self) -> bool:
        """Whether only single items failed, and the others were done."""
        return self.code == ItemsFailed.code


class Watchdog:
    """Knows when each tick last finished, which are overdue, and which fail again and again.

    Parameters
    ----------
    now : a clock in seconds that never goes back
    """

    def __init__(self, now: Callable[[], float] = monotonic) -> None:
        self._now = now
        self._lock = threading.Lock()
        self._expected: dict[str, float] = {}
        self._failures: dict[str, FailingTick] = {}
        self._last: dict[str, float] = {}

    def expect(self, name: str, within_s: float) -> None:
        """Expect a tick of this name to finish at least once in so many seconds."""
        with self._lock:
            self._expected[name] = within_s
            self._last[name] = self._now()

    def check_in(self, name: str) -> None:
        """Note that a tick finished."""
        with self._lock:
            self._last[name] = self._now()

    def succeeded(self, name: str) -> None:
        """Note that a tick did its work."""
        with self._lock:
            self._failures.pop(name, None)

    def failed(self, name: str, error: Exception) -> None:
        """Note that a tick ended with an error."""
        if isinstance(error, ItemsFailed):
            detail = error.detail
        elif isinstance(error, OrgsegError):
            detail = error.sentence
        else:
            detail = f"{type(error).__name__} at {place(error)}."
        with self._lock:
            before = self._failures.get(name)
            self._failures[name] = FailingTick(
                name=name,
                code=code_of(error),
                detail=detail,
                times=1 if before is None else before.times + 1,
                since=datetime.now(UTC) if before is None else before.since,
            )

    def failing(self) -> list[FailingTick]:
        """The ticks that failed several times in a row; of those that run rarely, twice is enough."""
        with self._lock:
            return [
                one
                for name, one in self._failures.items()
                if one.times >= (_TIMES_OF_A_RARE if self._expected.get(name, 0.0) > _RARE_S else _TIMES)
            ]

    def overdue(self) -> list[str]:
        """The ticks that should have finished by now and did not."""
        now = self._now()
        with self._lock:
            return [name for name, limit in self._expected.items() if now - self._last[name] > limit]


def start_scheduler(ticks: Iterable[Tick], watchdog: Watchdog, wakeup: Wakeup) -> BackgroundScheduler:
    """Run ticks until the scheduler is shut down.

    Several processes may run the same ticks: each scan does what it finds left to do.

    Parameters
    ----------
    ticks : the periodic tasks
    watchdog : notes when each tick finished
    wakeup : is attached to the scheduler

    Returns
    -------
    The running scheduler
    """
    scheduler = BackgroundScheduler(
        executors={"default": ThreadPoolExecutor(_THREADS)},
        job_defaults={"coalesce": True, "max_instances": 1, "misfire_grace_time": None},
        timezone="UTC",
    )
    for name, scan, seconds in ticks:
        watchdog.expect(name, seconds + _SLOWEST_S)
        scheduler.add_job(_safely(name, scan, watchdog), "interval", seconds=seconds, id=name)
    scheduler.start()
    wakeup.attach(scheduler)
    return scheduler


def _safely(name: str, scan: Callable[[], object], watchdog: Watchdog) -> Callable[[], None]:
    """A scan that logs its error instead of raising it; the next tick tries again."""

    def tick() -> None:
        try:
            scan()
        except OrgsegError as error:
            watchdog.failed(name, error)
            _log.error("tick failed", tick=name, code=error.code, detail=error.sentence)
        except Exception as error:  # noqa: BLE001 (one failed tick must not stop the scheduler)
            watchdog.failed(name, error)
            kind, at = type(error).__name__, place(error)
            _log.error("tick failed", tick=name, code=code_of(error), kind=kind, place=at)
        else:
            watchdog.succeeded(name)
        finally:
            watchdog.check_in(name)

    return tick
