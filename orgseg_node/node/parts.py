"""The parts of the running node, as its entry points need them."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Protocol

from orgseg_node.node.config.current import CurrentConfig
from orgseg_node.node.config.node_config import NodeConfig
from orgseg_node.node.dimse.storage_scp import Receiver
from orgseg_node.node.intake.inbox import Inbox
from orgseg_node.node.monitoring.metrics import Meters
from orgseg_node.node.processing.dispatcher import queues_of
from orgseg_node.node.processing.engine import Engine
from orgseg_node.node.scheduler import Wakeup, Watchdog
from orgseg_node.node.store.store import Store


@dataclass(slots=True, kw_only=True)
class Parts:
    """The parts of a running node. Not frozen, because they are made one after the other.

    Attributes
    ----------
    config : the configuration in force
    store : the node's database
    meters : counters and timers for the metrics
    watchdog : which periodic tasks are overdue
    wakeup : runs a periodic task before its time
    inbox : accepts images; None in a process that only works on jobs
    receiver : the Storage SCP; None in a process that only works on jobs
    engine : runs the workflows of jobs; None in a process that only receives
    """

    config: CurrentConfig
    store: Store
    meters: Meters
    watchdog: Watchdog
    wakeup: Wakeup = field(default_factory=Wakeup)
    inbox: Inbox | None = None
    receiver: Receiver | None = None
    engine: Engine | None = None

    def open_queues(self, config: NodeConfig) -> None:
        """Add the queues of every destination of a configuration to the engine."""
        if self.engine is not None:
            self.engine.add_queues(queues_of(config))


class EntryPoint(Protocol):
    """Another way into the node, such as HTTP; started when all parts run, stopped before any part stops."""

    def start(self, parts: Parts) -> None:
        """Start it. Raises OrgsegError if that is not possible."""
        ...

    def start_refusing(self, config: NodeConfig, problem: str) -> None:
        """Start it before the node runs, to report a problem that keeps the node from starting.

        Parameters
        ----------
        config : the checked configuration
        problem : in a few words, without details
        """
        ...

    def stop(self) -> None:
        """Stop it; requests that have begun are finished first."""
        ...
