"""Kills by SIGKILL at random instants, and at instants that were chosen because they hurt."""

from __future__ import annotations

import contextlib
import random
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Final

import psutil

from orgseg_node.errors import StorageError
from orgseg_node.node.config.database import Server
from tests.chaos.supervisor import SupervisedProcess
from tests.chaos.world import World

_WATCH_S: Final = 2.0
"""So long a moment worth killing in is waited for; then something else is killed."""

_WORK_S: Final = 5.0
"""So long for one that comes only when the node gets on with its work."""


class Killer:
    """Strikes at random; the same seed chooses the same kinds and pauses.

    Parameters
    ----------
    world : what may be killed
    seed : of the random numbers
    """

    def __init__(self, world: World, seed: int) -> None:
        self._world = world
        self._random = random.Random(seed)
        self.kills: Counter[str] = Counter()
        self._kinds: dict[str, tuple[float, Callable[[], str | None]]] = {
            "node, at random": (16, self._node),
            "node, while it starts": (6, self._starting),
            "node, while it writes an image": (14, self._landing),
            "node, while its database commits": (10, self._committing),
            "node, while it delivers": (8, self._delivering),
            "contouring child": (14, self._child),
            "sender, at random": (6, self._sender),
            "sender, while it sends": (20, self._sending),
            "Orthanc": (6, self._orthanc),
            "person who promotes and rolls back": (10, self._operator),
        }

        if world.cluster is not None:
            del self._kinds["node, while its database commits"]
            self._kinds["every connection to the database"] = (8, self._connections)
            self._kinds["a process of the database server"] = (4, self._backend)

    def for_good(self, node: SupervisedProcess) -> None:
        """Kill a process of the node that is never started again, once."""
        if not node.gone_for_good and node.kill(for_good=True):
            self.kills["worker, for good"] += 1

    def pause(self) -> float:
        """Seconds to the next kill: mostly bursts, and now and then a calm in which work gets done."""
        calm = self._random.random() < 0.2
        return self._random.uniform(6.0, 11.0) if calm else self._random.uniform(0.1, 1.5)

    def strike(self) -> str | None:
        """Kill something; what it was, or None if nothing of three kinds was there to be killed."""
        names, weights = list(self._kinds), [weight for weight, _ in self._kinds.values()]
        for name in self._random.choices(names, weights, k=3):
            if (hit := self._kinds[name][1]()) is not None:
                self.kills[hit] += 1
                return hit
        return None

    # ------------------------------------------------------------------ kinds

    def _node(self, moment: str = "at random") -> str | None:
        alive = [node for node in self._world.nodes if node.pid is not None]
        return f"node, {moment}" if alive and self._random.choice(alive).kill() else None

    def _starting(self) -> str | None:
        """Kill a node that was just started again."""
        node = self._random.choice(self._world.nodes)
        lives = node.starts
        if not node.kill():
            return None
        self.kills["node, at random"] += 1
        _watch(lambda: node.starts > lives)
        time.sleep(self._random.uniform(0.05, 1.8))
        return "node, while it starts" if node.kill() else None

    def _landing(self) -> str | None:
        """Kill when a file of the inbox is not finished."""
        inbox = self._world.data / "inbox"
        seen = _watch(lambda: any(True for _ in inbox.glob("*/*.part")))
        return self._node("while it writes an image") if seen else None

    def _committing(self) -> str | None:
        """Kill when the write-ahead log of the node's database grows."""
        log = self._world.data / "db" / "node.sqlite-wal"
        before = _stamp(log)
        seen = _watch(lambda: _stamp(log) != before, every_s=0.0005)
        return self._node("while its database commits") if seen else None

    def _delivering(self) -> str | None:
        """Kill when an object is on its way to the destination."""
        seen = False
        with contextlib.suppress(StorageError), self._world.store() as store:
            seen = _watch(lambda: bool(store.sending_deliveries()), seconds=_WORK_S)
        time.sleep(self._random.uniform(0, 0.05))
        return self._node("while it delivers") if seen else None

    def _child(self) -> str | None:
        _watch(lambda: bool(self._world.children()), seconds=_WORK_S)
        time.sleep(self._random.uniform(0, 2.5))
        for child in self._world.children():
            with contextlib.suppress(psutil.NoSuchProcess):
                child.kill()
                return "contouring child"
        return None

    def _sender(self) -> str | None:
        alive = [sender for sender in self._world.senders if sender.pid is not None]
        return "sender, at random" if alive and self._random.choice(alive).kill(group=True) else None

    def _sending(self) -> str | None:
        """Kill a sender that just got a Success, with its storescu."""
        logs = [self._world.folder / f"acks-{number}.tsv" for number in range(len(self._world.senders))]
        before = [_stamp(log) for log in logs]
        _watch(lambda: any(_stamp(log) != old for log, old in zip(logs, before, strict=True)))
        for log, old, sender in zip(logs, before, self._world.senders, strict=True):
            if _stamp(log) != old and sender.kill(group=True):
                return "sender, while it sends"
        return None

    def _connections(self) -> str | None:
        """Cut every connection of the node to its database, as a firewall would."""
        cluster, place = self._world.cluster, self._world.place
        assert cluster is not None
        assert isinstance(place, Server)
        return "every connection to the database" if cluster.cut_connections(place) else None

    def _backend(self) -> str | None:
        """SIGKILL a process of the server that serves the node: the server ends all others and recovers."""
        cluster = self._world.cluster
        assert cluster is not None
        postmaster = int((cluster.folder / "postmaster.pid").read_text("ascii").split()[0])
        backends = [p for p in psutil.Process(postmaster).children() if "orgseg" in " ".join(p.cmdline())]
        if not backends:
            return None
        with contextlib.suppress(psutil.NoSuchProcess):
            self._random.choice(backends).kill()
            return "a process of the database server"
        return None

    def _operator(self) -> str | None:
        operator = self._world.operator
        return "person who promotes and rolls back" if operator is not None and operator.kill() else None

    def _orthanc(self) -> str | None:
        return "Orthanc" if self._world.archive.kill() else None


def _stamp(path: Path) -> tuple[int, int]:
    try:
        stat = path.stat()
    except OSError:
        return 0, 0
    return stat.st_size, stat.st_mtime_ns


def _watch(seen: Callable[[], bool], *, every_s: float = 0.002, seconds: float = _WATCH_S) -> bool:
    """Wait for a moment, not for ever; whether it came."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        if seen():
            return True
        time.sleep(every_s)
    return False
