"""Which worker processes are alive, where several share a PostgreSQL database.

A worker counts its beats in a row of its own. Whoever sees a count stand still for `limit_s` knows that the
worker is dead, because a worker that could not beat for two thirds of that time has killed itself and its
children before: it may have lost the database, and must not go on with what another is about to adopt.
"""

from __future__ import annotations

import os
import secrets
import signal
import socket
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from typing import Final

import psutil
import structlog

from orgseg_node.errors import NodeRunning, OrgsegError
from orgseg_node.node.processing.engine import Engine
from orgseg_node.node.store.clock import Clock, stamp, utc_now
from orgseg_node.node.store.database import Database

# goes on while a machine sleeps, where the system has such a clock
_CLOCK: Final = getattr(time, "CLOCK_BOOTTIME", time.CLOCK_MONOTONIC)
_log = structlog.get_logger("orgseg.heartbeat")


def seconds() -> float:
    """A clock that is never set, and does not stand still while the machine sleeps."""
    return time.clock_gettime(_CLOCK)


def end_this_process() -> None:
    """Kill this process and everything it started, at once."""
    with suppress(psutil.Error):
        for child in psutil.Process().children(recursive=True):
            with suppress(psutil.Error):
                child.kill()
    os.kill(os.getpid(), signal.SIGKILL)


class Heartbeat:
    """The beats of this process.

    Parameters
    ----------
    database : the node's database
    name : of this worker; the same each time it is started, and no other's
    limit_s : after so many seconds without a beat the others take it for dead
    die : ends this process; an argument for tests
    clock : what time it is, for whoever looks at the table
    """

    def __init__(
        self,
        database: Database,
        name: str,
        *,
        limit_s: float,
        die: Callable[[], None] = end_this_process,
        clock: Clock = utc_now,
    ) -> None:
        self._db = database
        self._name = name
        self._life = secrets.token_hex(8)
        self._limit_s = limit_s
        self._die = die
        self._clock = clock
        self._renewed = seconds()
        self._end = threading.Event()
        self._threads: list[threading.Thread] = []

    def start(self) -> None:
        """Be alive from now on. Raises NodeRunning if another host has a living worker of this name."""
        self._require_name()
        self._renewed = seconds()
        now = stamp(self._clock())
        with self._db.write() as tx:
            tx.run(
                "INSERT INTO worker (name, life, host, state, started_at, seen_at)"
                " VALUES (?, ?, ?, 'ALIVE', ?, ?) ON CONFLICT (name) DO UPDATE"
                " SET life = excluded.life, host = excluded.host, state = 'ALIVE', beats = 0,"
                " started_at = excluded.started_at, seen_at = excluded.seen_at",
                (self._name, self._life, socket.gethostname(), now, now),
            )
        self._threads = [threading.Thread(target=run, daemon=True) for run in (self._beat, self._watch)]
        for thread in self._threads:
            thread.start()

    def stop(self) -> None:
        """Say that this worker does nothing any more; the others may adopt at once what it left."""
        self._end.set()
        for thread in self._threads:
            thread.join()
        with suppress(OrgsegError), self._db.write() as tx:
            tx.run(
                "UPDATE worker SET state = 'STOPPED', seen_at = ? WHERE name = ? AND life = ?",
                (stamp(self._clock()), self._name, self._life),
            )

    def _require_name(self) -> None:
        """Wait until a worker of this name on another host must be dead; on this host a lock says so."""
        first = self._others_beats()
        end = seconds() + self._limit_s
        while first is not None and seconds() < end:
            if self._others_beats() != first:
                raise NodeRunning(f"Another host has a worker named {self._name!r}.")
            self._end.wait(self._limit_s / 60)

    def _others_beats(self) -> int | None:
        with self._db.write() as tx:
            rows = tx.rows(
                "SELECT beats FROM worker WHERE name = ? AND host <> ? AND state = 'ALIVE'",
                (self._name, socket.gethostname()),
            )
        return int(rows[0][0]) if rows else None

    def _beat(self) -> None:
        while not self._end.wait(self._limit_s / 6):
            began = seconds()
            try:
                with self._db.write() as tx:
                    alive = tx.run(
                        "UPDATE worker SET beats = beats + 1, seen_at = ?"
                        " WHERE name = ? AND life = ? AND state = 'ALIVE'",
                        (stamp(self._clock()), self._name, self._life),
                    )
            except OrgsegError as error:
                _log.warning("beat failed", worker=self._name, code=error.code)
                continue
            if not alive:
                _log.critical("taken for dead by others", worker=self._name)
                self._die()
                return
            self._renewed = began

    def _watch(self) -> None:
        """A thread of its own, because a beat may hang in the network."""
        while not self._end.wait(self._limit_s / 60):
            if seconds() - self._renewed > self._limit_s * 2 / 3:
                _log.critical("no beat came through", worker=self._name, limit_s=self._limit_s)
                self._die()
                return


@dataclass(frozen=True, slots=True, kw_only=True)
class _Beats:
    """What was seen of a worker, and since when it has not changed."""

    life: str
    beats: int
    since: float


class Reaper:
    """Finds out which workers are dead, and lets the engine adopt what they were doing.

    Parameters
    ----------
    database : the node's database
    engine : of this process
    name : of this worker
    limit_s : as for `Heartbeat`
    now : seconds that only grow; an argument for tests
    """

    def __init__(
        self,
        database: Database,
        engine: Engine,
        name: str,
        *,
        limit_s: float,
        now: Callable[[], float] = seconds,
    ) -> None:
        self._db = database
        self._engine = engine
        self._name = name
        self._limit_s = limit_s
        self._now = now
        self._seen: dict[str, _Beats] = {}

    def look(self) -> list[str]:
        """Look at the other workers, at any time; the numbers of the workflows that were adopted."""
        with self._db.write() as tx:
            rows = tx.rows("SELECT name, life, state, beats FROM worker WHERE name <> ?", (self._name,))
        adopted: list[str] = []
        for name, life, state, beats in rows:
            if state == "ALIVE" and not self._declare_dead(name, life, beats):
                continue
            adopted += self._adopt(name, life)
        return adopted

    def _declare_dead(self, name: str, life: str, beats: int) -> bool:
        """Whether a worker's beats stand still for so long that it is dead, and it has not beaten since."""
        seen = self._seen.get(name)
        if seen is None or (seen.life, seen.beats) != (life, beats):
            self._seen[name] = _Beats(life=life, beats=beats, since=self._now())
            return False
        if self._now() - seen.since < self._limit_s:
            return False
        with self._db.write() as tx:
            dead = tx.run(
                "UPDATE worker SET state = 'DEAD'"
                " WHERE name = ? AND life = ? AND beats = ? AND state = 'ALIVE'",
                (name, life, beats),
            )
        if dead:
            _log.error("worker is dead", worker=name)
        return bool(dead)

    def _adopt(self, name: str, life: str) -> list[str]:
        """Adopt in a transaction: the worker cannot come back, and nobody else adopts, while it lasts."""
        with self._db.write() as tx:
            gone = "SELECT 1 FROM worker WHERE name = ? AND life = ? AND state <> 'ALIVE'"
            if not tx.rows(gone, (name, life)):
                return []
            outdated = self._engine.drop_outdated(dead=(name,))
            adopted = self._engine.adopt(name)
        if adopted or outdated:
            _log.warning("workflows adopted", worker=name, adopted=len(adopted), outdated=len(outdated))
        return adopted
