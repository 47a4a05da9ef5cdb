"""The node put together: the only place that knows all its parts."""

from __future__ import annotations

import fcntl
import os
import signal
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from types import FrameType

import structlog

from orgseg_node.errors import NodeRunning, OrgsegError, StorageError
from orgseg_node.node.commitment_desk import CommitmentDesk
from orgseg_node.node.commitment_scp import CommitmentReporter
from orgseg_node.node.commitment_scu import CommitmentAsker
from orgseg_node.node.config import NodeConfig
from orgseg_node.node.engine import Engine
from orgseg_node.node.housekeeping import Housekeeper, queues_of, start_ticks
from orgseg_node.node.inbox import Inbox
from orgseg_node.node.logs import configure_logs
from orgseg_node.node.outgoing import AnySender
from orgseg_node.node.predictors import open_bundles
from orgseg_node.node.receiver import Receiver
from orgseg_node.node.store import Store
from orgseg_node.node.worker import CHILD_COMMAND, Tools, Worker

_log = structlog.get_logger("orgseg.node")


def run_node(
    config: NodeConfig,
    *,
    child_command: Sequence[str] = CHILD_COMMAND,
    ready: Callable[[int], None] | None = None,
    stop: threading.Event | None = None,
    tick_s: float = 1.0,
) -> None:
    """Run the node until it is told to stop by SIGTERM, SIGINT or `stop`.

    Parameters
    ----------
    config : the checked configuration
    child_command : program that contours; another one stands in for the network in tests
    ready : called with the port once the node listens
    stop : set by whoever wants the node to end
    tick_s : how often inbox and queues are looked at

    Raises
    ------
    NodeRunning, PortTaken, StorageError
        If it cannot start.
    """
    configure_logs(config.node.log_format, config.node.log_level)
    stop = stop or threading.Event()
    with _private_files(config), _sole_user(config), _signals(stop):
        store = Store(config.node.data_dir)
        inbox = Inbox(config, store)
        inbox.adopt()
        worker = Worker(config, store, Tools(sender=AnySender(), child_command=child_command))
        engine = Engine(
            config.node.data_dir / "db",
            {"contour": worker.contour, "deliver": worker.deliver},
            queues_of(config),
            poll_s=min(0.5, tick_s),
        )
        asker, reporter = CommitmentAsker(config, store), CommitmentReporter(config, store)
        receiver = Receiver(config, inbox, service=CommitmentDesk(config, store, asker))
        try:
            engine.start()
            housekeeper = Housekeeper(config, store, engine, worker)
            housekeeper.reconcile()
            _say_missing_bundles(config)
            port = receiver.start()
            more = (("ask", asker.ask_due, tick_s), ("report", reporter.report_due, tick_s))
            ticks = start_ticks(housekeeper, inbox, tick_s=tick_s, more=more)
            try:
                if ready is not None:
                    ready(port)
                stop.wait()
                _log.info("stopping")
            finally:
                receiver.stop()
                ticks.shutdown(wait=True)
        finally:
            worker.stop_children()
            engine.stop()
            worker.engine_is_gone()
            store.close()
    _log.info("stopped")


def _say_missing_bundles(config: NodeConfig) -> None:
    """Say at once which bundle cannot be used; the node receives all the same, and its jobs fail visibly."""
    for name in config.inference.bundles:
        try:
            open_bundles([name], config.bundle_paths)
        except OrgsegError as error:
            _log.error("bundle cannot be used", bundle=name, code=error.code, next_step=error.next_step)


@contextmanager
def _private_files(config: NodeConfig) -> Iterator[None]:
    """Whatever is written meanwhile, by this process and its children, is for its own user, or group, only."""
    before = os.umask(0o007 if config.node.shared_with_group else 0o077)
    try:
        yield
    finally:
        os.umask(before)


@contextmanager
def _sole_user(config: NodeConfig) -> Iterator[None]:
    """Hold the data folder; one SQLite file has one node. Raises NodeRunning or StorageError."""
    folder = config.node.data_dir
    try:
        folder.mkdir(parents=True, exist_ok=True, mode=0o770)
        descriptor = os.open(folder / "node.lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o660)
    except OSError as error:
        raise StorageError(f"The data folder {folder} cannot be used: {error.strerror}.") from error
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise NodeRunning(f"Data folder: {folder}.") from None
        yield
    finally:
        os.close(descriptor)


@contextmanager
def _signals(stop: threading.Event) -> Iterator[None]:
    """Turn SIGTERM and SIGINT into `stop`, where that is possible (in the main thread)."""

    def on_signal(number: int, frame: FrameType | None) -> None:
        del number, frame
        stop.set()

    before = {}
    with suppress(ValueError):
        before = {number: signal.signal(number, on_signal) for number in (signal.SIGTERM, signal.SIGINT)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
