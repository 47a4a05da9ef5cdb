"""What the running node is made of, for those who stand at its doors."""

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
from orgseg_node.node.scheduler import Bell, Pulse
from orgseg_node.node.store.store import Store


@dataclass(slots=True, kw_only=True)
class Parts:
    """The parts of a running node; not frozen, since they are made one after the other.

    Attributes
    ----------
    config : the configuration in force
    store : its memory
    meters, pulse : what is counted, and whether the clock ticks
    bell : has a tick come at once
    inbox, receiver : where instances come in, and what listens by DICOM; None in a process that only works
    engine : what runs jobs; None in a process that only receives
    """

    config: CurrentConfig
    store: Store
    meters: Meters
    pulse: Pulse
    bell: Bell = field(default_factory=Bell)
    inbox: Inbox | None = None
    receiver: Receiver | None = None
    engine: Engine | None = None

    def open_queues(self, config: NodeConfig) -> None:
        """Let the engine take work for every destination of a configuration."""
        if self.engine is not None:
            self.engine.add_queues(queues_of(config))


class Door(Protocol):
    """Another way into the node, such as HTTP; opened when everything runs, closed before anything stops."""

    def start(self, parts: Parts) -> None:
        """Open it. Raises OrgsegError if that cannot be done."""
        ...

    def stop(self) -> None:
        """Close it; what is under way is finished first."""
        ...
