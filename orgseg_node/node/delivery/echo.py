"""Checks periodically by C-ECHO whether destinations answer, and records when they last did."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Any

import structlog

from orgseg_node.errors import OrgsegError
from orgseg_node.node.config.current import CurrentConfig
from orgseg_node.node.config.node_config import NodeConfig
from orgseg_node.node.delivery.sender import AnySender
from orgseg_node.node.isolation import Isolation
from orgseg_node.node.store.clock import Clock, stamp, utc_now
from orgseg_node.node.store.database import Database

_log = structlog.get_logger("orgseg.echo")


@dataclass(frozen=True, slots=True, kw_only=True)
class EchoStatus:
    """When a destination was last checked, when it last answered, and the error code since then, if any."""

    destination: str
    asked_at: str
    answered_at: str | None
    code: str

    @property
    def answered(self) -> datetime | None:
        """When it last answered."""
        return datetime.fromisoformat(self.answered_at) if self.answered_at else None


class EchoMonitor:
    """Checks destinations by C-ECHO (PS3.4 Annex A) and records the results.

    Parameters
    ----------
    config : the configuration in force
    database : of the node
    sender : sends the C-ECHO
    clock : gives the present time
    """

    def __init__(
        self,
        config: NodeConfig | CurrentConfig,
        database: Database,
        sender: AnySender,
        *,
        clock: Clock = utc_now,
    ) -> None:
        self._current = CurrentConfig.of(config)
        self._db = database
        self._sender = sender
        self._clock = clock

    def check(self) -> None:
        """Check every destination once, and delete the records of destinations that were removed."""
        config = self._current.config
        if config.watch.echo_minutes == 0:
            return
        isolation = Isolation("echo")
        for name, destination in config.destinations.items():
            with isolation.item(f"destination {name}"):
                code = ""
                try:
                    self._sender.echo(destination, config.calling_ae_for(destination))
                except OrgsegError as error:
                    code = error.code
                    _log.warning("destination does not answer", destination=name, code=code)
                self._record(name, code)
        for echo in self.statuses():
            if echo.destination not in config.destinations:
                with self._db.write() as tx:
                    tx.run("DELETE FROM destination_echo WHERE destination = ?", (echo.destination,))
        isolation.finish()

    def _record(self, name: str, code: str) -> None:
        now = stamp(self._clock())
        row: tuple[Any, ...] = (name, now, None if code else now, code)
        with self._db.write() as tx:
            tx.run(
                "INSERT INTO destination_echo (destination, asked_at, answered_at, code) VALUES (?, ?, ?, ?)"
                " ON CONFLICT (destination) DO UPDATE SET asked_at = excluded.asked_at, code = excluded.code,"
                " answered_at = coalesce(excluded.answered_at, destination_echo.answered_at)",
                row,
            )

    def statuses(self) -> list[EchoStatus]:
        """The status of each destination that was checked."""
        return self._db.read(EchoStatus, "SELECT * FROM destination_echo ORDER BY destination")
