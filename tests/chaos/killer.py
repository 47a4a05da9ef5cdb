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
from tests.chaos.world import World

_WATCH_S: Final = 2.0
"""So long a moment worth killing in is waited for; then the kill comes anyway."""


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
        self._kinds: dict[str, tuple[float, Callable[[], bool]]] = {
            "node, at random": (16, self._node),
            "node, while it starts": (6, self._starting),
            "node, while it writes an image": (14, self._landing),
            "node, while its database commits": (10, self._committing),
            "node, while it delivers": (8, self._delivering),
            "contouring child": (14, self._child),
            "sender, at random": (6, self._sender),
            "sender, while it sends": (20, self._sending),
            "Orthanc": (6, self._orthanc),
        }

    def pause(self) -> float:
        """Seconds to the next kill: mostly bursts, and now and then a calm in which work gets done."""
        calm = self._random.random() < 0.25
        return self._random.uniform(6.0, 14.0) if calm else self._random.uniform(0.1, 2.0)

    def strike(self) -> str | None:
        """Kill something; its kind, or None if nothing of three kinds was there to be killed."""
        names, weights = list(self._kinds), [weight for weight, _ in self._kinds.values()]
        for name in self._random.choices(names, weights, k=3):
            if self._kinds[name][1]():
                self.kills[name] += 1
                return name
        return None

    # ------------------------------------------------------------------ kinds

    def _node(self) -> bool:
        return self._random.choice(self._world.nodes).kill()

    def _starting(self) -> bool:
        """Kill a node that was just started again."""
        node = self._random.choice(self._world.nodes)
        lives = node.starts
        if not node.kill():
            return False
        self.kills["node, at random"] += 1
        _watch(lambda: node.starts > lives)
        time.sleep(self._random.uniform(0.05, 1.8))
        return node.kill()

    def _landing(self) -> bool:
        """Kill when a file of the inbox is not finished."""
        inbox = self._world.data / "inbox"
        _watch(lambda: any(True for _ in inbox.glob("*/*.part")))
        return self._node()

    def _committing(self) -> bool:
        """Kill when the write-ahead log of the node's database grows."""
        log = self._world.data / "db" / "node.sqlite-wal"
        before = _stamp(log)
        _watch(lambda: _stamp(log) != before, every_s=0.0)
        return self._node()

    def _delivering(self) -> bool:
        """Kill when an object is on its way to the destination."""
        with contextlib.suppress(StorageError), self._world.store() as store:
            _watch(lambda: bool(store.sending_deliveries()))
        time.sleep(self._random.uniform(0, 0.1))
        return self._node()

    def _child(self) -> bool:
        _watch(lambda: bool(self._world.children()))
        time.sleep(self._random.uniform(0, 2.5))
        for child in self._world.children():
            with contextlib.suppress(psutil.NoSuchProcess):
                child.kill()
                return True
        return False

    def _sender(self) -> bool:
        alive = [sender for sender in self._world.senders if sender.pid is not None]
        return bool(alive) and self._random.choice(alive).kill(group=True)

    def _sending(self) -> bool:
        """Kill a sender that was just told of a Success, with its storescu."""
        before = {log: _stamp(log) for log in self._world.ack_logs}
        _watch(lambda: any(_stamp(log) != before.get(log) for log in self._world.ack_logs))
        for number, sender in enumerate(self._world.senders):
            log = self._world.folder / f"acks-{number}.tsv"
            if _stamp(log) != before.get(log, (0, 0)) and sender.kill(group=True):
                return True
        return False

    def _orthanc(self) -> bool:
        return self._world.archive.kill()


def _stamp(path: Path) -> tuple[int, int]:
    try:
        stat = path.stat()
    except OSError:
        return 0, 0
    return stat.st_size, stat.st_mtime_ns


def _watch(seen: Callable[[], bool], *, every_s: float = 0.002) -> None:
    """Wait for a moment; not for ever."""
    end = time.monotonic() + _WATCH_S
    while time.monotonic() < end and not seen():
        time.sleep(every_s)
