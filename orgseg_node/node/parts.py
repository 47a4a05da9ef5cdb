"""What the running node is made of, for those who stand at its doors."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

from orgseg_node.node.current import CurrentConfig
from orgseg_node.node.engine import Engine
from orgseg_node.node.inbox import Inbox
from orgseg_node.node.metrics import Meters
from orgseg_node.node.pulse import Pulse
from orgseg_node.node.receiver import Receiver
from orgseg_node.node.store import Store


@dataclass(frozen=True, slots=True, kw_only=True)
class Parts:
    """The parts of a running node.

    Attributes
    ----------
    config : the configuration in force
    store, inbox : its memory, and where instances come in
    engine, receiver : what runs jobs, and what listens by DICOM
    meters, pulse : what is counted, and whether the clock ticks
    """

    config: CurrentConfig
    store: Store
    inbox: Inbox
    engine: Engine
    receiver: Receiver
    meters: Meters
    pulse: Pulse


class Door(Protocol):
    """Another way into the node, such as HTTP; opened when everything runs, closed before anything stops."""

    def start(self, parts: Parts) -> None:
        """Open it. Raises OrgsegError if that cannot be done."""
        ...

    def stop(self) -> None:
        """Close it; what is under way is finished first."""
        ...
