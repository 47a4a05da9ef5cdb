"""Which worker processes are alive, where several share a PostgreSQL database.

Each worker counts its heartbeats in its own row. A worker whose count has not changed for `limit_s` is dead:
a worker that could not write a heartbeat for two thirds of that time has killed itself and its children by
then, because it may have lost the database and must not continue with what another is about to adopt.
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
from orgseg_node.node.isolation import Isolation
from orgseg_node.node.processing.engine import Engine
from orgseg_node.node.store.clock import Clock, stamp, utc_now
from orgseg_node.node.store.database import Database

# continues while a machine sleeps, where the system has such a clock
_CLOCK: Final = getattr(time, "CLOCK_BOOTTIME", time.CLOCK_MONOTONIC)
_log = structlog.get_logger("orgseg.heartbeat")


def seconds() -> float:
    """A clock in seconds that is never set, and does not stop while the machine sleeps."""
    return time.clock_gettime(_CLOCK)


def kill_this_process() -> None:
    """Kill this process and everything it started."""
    with suppress(psutil.Error):
        for child in psutil.Process().children(recursive=True):
            with suppress(psutil.Error):
                child.kill()
    os.kill(os.getpid(), signal.SIGKILL)


class Heartbeat:
    """Writes the heartbeats of this process.

    Parameters
    ----------
    database : the node's database
    name : of this worker; the same each time it is started, and no other's
    limit_s : after so many seconds without a heartbeat the others consider this process dead
    end_process : kills this process; an argument for tests
    clock : returns the time, which is stored for whoever reads the table
    """

    def __init__(
        self,
        database: Database,
        name: str,
        *,
        limit_s: float,
        end_process: Callable[[], None] = kill_this_process,
        clock: Clock = utc_now,
    ) -> None:
        self._db = database
        self._name = name
        self._start_id = secrets.token_hex(8)
        self._limit_s = limit_s
        self._end_process = end_process
        self._clock = clock
        self._last_beat = seconds()
        self._end = threading.Event()
        self._threads: list[threading.Thread] = []

    def start(self) -> None:
        """Start the heartbeats. Raises NodeRunning if another host has a running worker of this name."""
        self._require_name()
        self._last_beat = seconds()
        now = stamp(self._clock())
        with self._db.write() as tx:
            tx.run(
                "INSERT INTO worker (name, life, host, state, started_at, seen_at)"
                " VALUES (?, ?, ?, 'ALIVE', ?, ?) ON CONFLICT (name) DO UPDATE"
                " SET life = excluded.life, host = excluded.host, state = 'ALIVE', beats = 0,"
                " started_at = excluded.started_at, seen_at = excluded.seen_at",
                (self._name, self._start_id, socket.gethostname(), now, now),
            )
        self._threads = [threading.Thread(target=run, daemon=True) for run in (self._beat, self._watch)]
        for thread in self._threads:
            thread.start()

    def stop(self) -> None:
        """Stop, and store that this worker has stopped; the others may adopt what it left at once."""
        self._end.set()
        for thread in self._threads:
            thread.join()
        with suppress(OrgsegError), self._db.write() as tx:
            tx.run(
                "UPDATE worker SET state = 'STOPPED', seen_at = ? WHERE name = ? AND life = ?",
                (stamp(self._clock()), self._name, self._start_id),
            )

    def _require_name(self) -> None:
        """Wait until a worker of this name on another host must be dead; on this host a lock shows it."""
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
                        (stamp(self._clock()), self._name, self._start_id),
                    )
            except OrgsegError as error:
                _log.warning("heartbeat failed", worker=self._name, code=error.code)
                continue
            if not alive:
                _log.critical("declared dead by another worker", worker=self._name)
                self._end_process()
                return
            self._last_beat = began

    def _watch(self) -> None:
        """Kill this process when its heartbeats fail; in its own thread, as one may hang in the network."""
        while not self._end.wait(self._limit_s / 60):
            if seconds() - self._last_beat > self._limit_s * 2 / 3:
                _log.critical("no heartbeat was stored", worker=self._name, limit_s=self._limit_s)
                self._end_process()
                return


def live_workers(database: Database) -> int:
    """How many workers are alive; at least one, which asks.

    Each can run one job at a time (`orgseg_node.node.processing.dispatcher.queues_of`).
    """
    with database.write() as tx:
        ((count,),) = tx.rows("SELECT count(*) FROM worker WHERE state = 'ALIVE'")
    return max(1, int(count))


@dataclass(frozen=True, slots=True, kw_only=True)
class _Beats:
    """The heartbeats of one start of a worker, and since when their count has not changed."""

    start_id: str
    beats: int
    since: float


class DeadWorkerDetector:
    """Finds out which workers are dead, and has the engine adopt their workflows.

    Parameters
    ----------
    database : the node's database
    engine : of this process
    name : of this worker
    limit_s : as for `Heartbeat`
    now : returns seconds that only increase; an argument for tests
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

    def scan(self) -> list[str]:
        """Check the other workers, at any time; the IDs of the workflows that were adopted."""
        with self._db.write() as tx:
            rows = tx.rows("SELECT name, life, state, beats FROM worker WHERE name <> ?", (self._name,))
        adopted: list[str] = []
        isolation = Isolation("dead workers")
        for name, start_id, state, beats in rows:
            with isolation.item(f"worker {name}"):
                if state == "ALIVE" and not self._declare_dead(name, start_id, beats):
                    continue
                adopted += self._adopt(name, start_id)
        isolation.finish()
        return adopted

    def _declare_dead(self, name: str, start_id: str, beats: int) -> bool:
        """Mark a worker as dead if its count has not changed for `limit_s`; whether it was marked."""
        seen = self._seen.get(name)
        if seen is None or (seen.start_id, seen.beats) != (start_id, beats):
            self._seen[name] = _Beats(start_id=start_id, beats=beats, since=self._now())
            return False
        if self._now() - seen.since < self._limit_s:
            return False
        with self._db.write() as tx:
            dead = tx.run(
                "UPDATE worker SET state = 'DEAD'"
                " WHERE name = ? AND life = ? AND beats = ? AND state = 'ALIVE'",
                (name, start_id, beats),
            )
        if dead:
            _log.error("worker is dead", worker=name)
        return bool(dead)

    def _adopt(self, name: str, start_id: str) -> list[str]:
        """Adopt in a transaction, so that the worker cannot start again and nobody else adopts meanwhile."""
        with self._db.write() as tx:
            gone = "SELECT 1 FROM worker WHERE name = ? AND life = ? AND state <> 'ALIVE'"
            if not tx.rows(gone, (name, start_id)):
                return []
            outdated = self._engine.drop_outdated(dead=(name,))
            adopted = self._engine.adopt(name)
        if adopted or outdated:
            _log.warning("workflows adopted", worker=name, adopted=len(adopted), outdated=len(outdated))
        return adopted
