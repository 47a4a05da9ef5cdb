"""The node put together: the only place that knows all its parts."""

from __future__ import annotations

import contextlib
import fcntl
import os
import signal
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from types import FrameType

import structlog

from orgseg_node.errors import NodeRunning, OrgsegError, StorageError
from orgseg_node.node.audit import Audit
from orgseg_node.node.config import NodeConfig
from orgseg_node.node.current import CurrentConfig
from orgseg_node.node.echoes import Echoes
from orgseg_node.node.engine import Engine
from orgseg_node.node.housekeeping import Housekeeper, Tick, queues_of, start_ticks
from orgseg_node.node.inbox import Inbox
from orgseg_node.node.logs import configure_logs
from orgseg_node.node.metrics import Meters
from orgseg_node.node.notices import Watch
from orgseg_node.node.notifying import Notifier
from orgseg_node.node.parts import Door, Parts
from orgseg_node.node.predictors import open_bundles
from orgseg_node.node.pulse import Pulse
from orgseg_node.node.receiver import Receiver
from orgseg_node.node.reload import Reloader, pid_file
from orgseg_node.node.sender import DicomSender
from orgseg_node.node.store import Store
from orgseg_node.node.worker import CHILD_COMMAND, Tools, Worker

_log = structlog.get_logger("orgseg.node")


def run_node(  # noqa: PLR0913 (the composition root takes what it composes)
    config: NodeConfig,
    *,
    child_command: Sequence[str] = CHILD_COMMAND,
    ready: Callable[[int], None] | None = None,
    stop: threading.Event | None = None,
    tick_s: float = 1.0,
    path: Path | None = None,
    doors: Sequence[Door] = (),
) -> None:
    """Run the node until it is told to stop by SIGTERM, SIGINT or `stop`.

    Parameters
    ----------
    config : the checked configuration
    child_command : program that contours; another one stands in for the network in tests
    ready : called with the port once the node listens
    stop : set by whoever wants the node to end
    tick_s : how often inbox and queues are looked at
    path : the file the configuration is from; SIGHUP reads it again
    doors : other ways in, such as HTTP, opened once the node runs

    Raises
    ------
    NodeRunning, PortTaken, StorageError
        If it cannot start.
    """
    configure_logs(config.node.log_format, config.node.log_level)
    stop = stop or threading.Event()
    reload = threading.Event()
    with (
        _private_files(), _sole_user(config), pid_file(config.node.data_dir), _signals(stop, reload),
        contextlib.ExitStack() as opened,
    ):  # fmt: skip
        current, meters, pulse = CurrentConfig(config), Meters(), Pulse()
        store = Store(config.node.data_dir)
        inbox = Inbox(current, store, meters=meters)
        inbox.adopt()
        sender = DicomSender()
        worker = Worker(current, store, Tools(sender=sender, child_command=child_command, meters=meters))
        engine = Engine(
            config.node.data_dir / "db",
            {"contour": worker.contour, "deliver": worker.deliver},
            queues_of(config),
            poll_s=min(0.5, tick_s),
        )
        reloader = Reloader(current, store, path, lambda new: engine.add_queues(queues_of(new)), asked=reload)
        reloader.begin()
        receiver = Receiver(current, inbox, meters=meters)
        parts = Parts(
            config=current, store=store, inbox=inbox, engine=engine, receiver=receiver, meters=meters,
            pulse=pulse,
        )  # fmt: skip
        try:
            engine.start()
            housekeeper = Housekeeper(current, store, engine, worker)
            housekeeper.reconcile()
            _say_missing_bundles(config)
            port = receiver.start()
            watch = _watch_ticks(parts, reloader, sender, tick_s)
            ticks = start_ticks(housekeeper, inbox, tick_s=tick_s, more=watch, pulse=pulse)
            try:
                for door in doors:
                    opened.callback(door.stop)
                    door.start(parts)
                if ready is not None:
                    ready(port)
                stop.wait()
                _log.info("stopping")
            finally:
                opened.close()
                receiver.stop()
                ticks.shutdown(wait=True)
        finally:
            worker.stop_children()
            engine.stop()
            worker.engine_is_gone()
            store.close()
    _log.info("stopped")


def _watch_ticks(parts: Parts, reloader: Reloader, sender: DicomSender, tick_s: float) -> tuple[Tick, ...]:
    """What watches over the node: reload, audit, notices, echoes."""
    database = parts.store.database
    audit, echoes = Audit(database), Echoes(parts.config, database, sender)
    watch, notifier = Watch(parts.config, database), Notifier(parts.config, database)
    asked_every_s = parts.config.config.watch.echo_minutes * 60.0
    slow_s = 10.0 * tick_s
    return (
        ("reload", reloader.tick, tick_s),
        ("models", reloader.look_at_models, 60.0),
        ("seal", audit.seal, slow_s),
        ("sweep", audit.sweep, 3600.0),
        ("watch", watch.scan, slow_s),
        ("notify", notifier.send, slow_s),
        *((("echo", echoes.ask, asked_every_s),) if asked_every_s else ()),
    )


def _say_missing_bundles(config: NodeConfig) -> None:
    """Say at once which bundle cannot be used; the node receives all the same, and its jobs fail visibly."""
    for name in config.inference.bundles:
        try:
            open_bundles([name], config.bundle_paths)
        except OrgsegError as error:
            _log.error("bundle cannot be used", bundle=name, code=error.code, next_step=error.next_step)


@contextmanager
def _private_files() -> Iterator[None]:
    """Whatever is written meanwhile, by this process and its children, is for its own user only."""
    before = os.umask(0o077)
    try:
        yield
    finally:
        os.umask(before)


@contextmanager
def _sole_user(config: NodeConfig) -> Iterator[None]:
    """Hold the data folder; one SQLite file has one node. Raises NodeRunning or StorageError."""
    folder = config.node.data_dir
    try:
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        descriptor = os.open(folder / "node.lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
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
def _signals(stop: threading.Event, reload: threading.Event) -> Iterator[None]:
    """Turn SIGTERM and SIGINT into `stop`, SIGHUP into `reload`, where possible (in the main thread)."""

    def on_signal(number: int, frame: FrameType | None) -> None:
        del frame
        (reload if number == signal.SIGHUP else stop).set()

    before = {}
    heard = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)
    with suppress(ValueError):
        before = {number: signal.signal(number, on_signal) for number in heard}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
