"""Asks by the clock whether destinations are there, and remembers when they last answered."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Any

import structlog

from orgseg_node.errors import OrgsegError
from orgseg_node.node.config.current import CurrentConfig
from orgseg_node.node.config.node_config import NodeConfig
from orgseg_node.node.delivery.sender import AnySender
from orgseg_node.node.store.clock import Clock, stamp, utc_now
from orgseg_node.node.store.database import Database

_log = structlog.get_logger("orgseg.echo")


@dataclass(frozen=True, slots=True, kw_only=True)
class EchoStatus:
    """What is known about a destination: when it was asked, when it last answered, and why not since."""

    destination: str
    asked_at: str
    answered_at: str | None
    code: str

    @property
    def answered(self) -> datetime | None:
        """When it last answered."""
        return datetime.fromisoformat(self.answered_at) if self.answered_at else None


class EchoMonitor:
    """Keeps what destinations answer to C-ECHO (PS3.4 Annex A).

    Parameters
    ----------
    config : the configuration in force
    database : of the node
    sender : how they are asked
    clock : where the time comes from
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

    def ask(self) -> None:
        """Ask every destination once, and forget those that are none any more."""
        config = self._current.config
        if config.watch.echo_minutes == 0:
            return
        for name, place in config.destinations.items():
            code = ""
            try:
                self._sender.echo(place, config.calling_ae_for(place))
            except OrgsegError as error:
                code = error.code
                _log.warning("destination does not answer", destination=name, code=code)
            self._note(name, code)
        for echo in self.known():
            if echo.destination not in config.destinations:
                with self._db.write() as tx:
                    tx.run("DELETE FROM destination_echo WHERE destination = ?", (echo.destination,))

    def _note(self, name: str, code: str) -> None:
        now = stamp(self._clock())
        row: tuple[Any, ...] = (name, now, None if code else now, code)
        with self._db.write() as tx:
            tx.run(
                "INSERT INTO destination_echo (destination, asked_at, answered_at, code) VALUES (?, ?, ?, ?)"
                " ON CONFLICT (destination) DO UPDATE SET asked_at = excluded.asked_at, code = excluded.code,"
                " answered_at = coalesce(excluded.answered_at, destination_echo.answered_at)",
                row,
            )

    def known(self) -> list[EchoStatus]:
        """What is known about each destination that was ever asked."""
        return self._db.read(EchoStatus, "SELECT * FROM destination_echo ORDER BY destination")
