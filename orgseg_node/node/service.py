"""The composition root: the only module that knows all parts of the node."""

from __future__ import annotations

import fcntl
import os
import threading
from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from functools import partial
from pathlib import Path

import structlog

from orgseg_node.errors import ItemsFailed, NodeRunning, OrgsegError, StorageError
from orgseg_node.errors.unexpected import place
from orgseg_node.node.config.current import CurrentConfig
from orgseg_node.node.config.database import Server
from orgseg_node.node.config.node_config import NodeConfig
from orgseg_node.node.config.worker import NodeRole
from orgseg_node.node.delivery.echo import EchoMonitor
from orgseg_node.node.delivery.sender import AnySender
from orgseg_node.node.dimse.commitment_scu import CommitmentScu
from orgseg_node.node.dimse.storage_scp import Receiver
from orgseg_node.node.feedback.desk import FeedbackDesk
from orgseg_node.node.full_disk import await_space
from orgseg_node.node.intake.completeness import CompletenessChecker, SourcePoller
from orgseg_node.node.intake.inbox import Inbox, InboxCallbacks
from orgseg_node.node.intake.reading_process import ReadingProcess
from orgseg_node.node.models.alias import find_named
from orgseg_node.node.monitoring.alerts import Watch
from orgseg_node.node.monitoring.failing_tasks import FailingTasks
from orgseg_node.node.monitoring.logs import configure_logs
from orgseg_node.node.monitoring.metrics import Meters
from orgseg_node.node.monitoring.notifier import Notifier
from orgseg_node.node.operations.reload import Reloader, pid_file
from orgseg_node.node.parts import EntryPoint, Parts
from orgseg_node.node.processing.dispatcher import Dispatcher, queues_of
from orgseg_node.node.processing.engine import Engine
from orgseg_node.node.processing.heartbeat import DeadWorkerDetector, Heartbeat, live_workers
from orgseg_node.node.processing.retention import Retention
from orgseg_node.node.processing.shadow import ShadowRunner
from orgseg_node.node.processing.warm_worker import WarmWorker
from orgseg_node.node.processing.worker import CHILD_COMMAND, Tools, Worker
from orgseg_node.node.scheduler import JUDGE, Tick, Watchdog, start_scheduler
from orgseg_node.node.signals import signal_events
from orgseg_node.node.store.audit import Audit
from orgseg_node.node.store.database import Database
from orgseg_node.node.store.store import Store

_POLL_S = 0.2  # the engine polls its queues at least this often

_log = structlog.get_logger("orgseg.node")


def run_node(  # noqa: PLR0913 (the composition root takes what it composes)
    config: NodeConfig,
    *,
    child_command: Sequence[str] = CHILD_COMMAND,
    ready: Callable[[int], None] | None = None,
    stop: threading.Event | None = None,
    tick_s: float = 1.0,
    path: Path | None = None,
    entry_points: Sequence[EntryPoint] = (),
) -> None:
    """Run the node, or the part of it that ``worker.roles`` names, until a signal or `stop` ends it.

    On a full disk it waits for space before it starts, and refuses images meanwhile.

    Parameters
    ----------
    config : the checked configuration
    child_command : program that contours; tests use one without a network
    ready : called once the node runs, with the port it listens on; 0 if it does not receive
    stop : set it to stop the node
    tick_s : interval of the scans of inbox and queues, in seconds
    path : the configuration file; SIGHUP reads it again
    entry_points : other ways into the node, such as HTTP; started once the node runs

    Raises
    ------
    NodeRunning, PortTaken, StorageError
        If it cannot start.
    """
    configure_logs(config.node.log_format, config.node.log_level)
    stop = stop or threading.Event()
    reload = threading.Event()
    with ExitStack() as stack:
        stack.enter_context(_private_files(config))
        stack.enter_context(_sole_user(config, config.worker.roles))
        stack.enter_context(signal_events(stop, reload))
        await_space(config, entry_points, stop, poll_s=5.0 * tick_s)
        if stop.is_set():
            return
        stack.enter_context(pid_file(config.node.data_dir))
        current, sender = CurrentConfig(config), AnySender()
        store = Store(Database(config.database_location))
        stack.callback(store.close)
        parts = Parts(config=current, store=store, meters=Meters(), watchdog=Watchdog())
        reloader = Reloader(current, store, path, parts.open_queues, requested=reload)
        reloader.begin()
        commitment = CommitmentScu(current, store)
        works = "worker" in config.worker.roles
        warm_worker = WarmWorker(child_command if works and config.worker.spare_child else None)
        ticks: list[Tick] = []
        children = stack.enter_context(ExitStack())
        if "receiver" in config.worker.roles:
            parts.inbox = _make_inbox(parts, warm_worker, children)
            ticks += _make_receiver(parts, commitment, parts.inbox, tick_s, stack)
        if works:
            tools = Tools(
                sender=sender,
                child_command=child_command,
                warm_worker=warm_worker,
                meters=parts.meters,
                trigger=parts.wakeup.trigger,
            )
            worker = Worker(current, store, tools)
            children.callback(worker.stop_children)
            engine = stack.enter_context(
                _running_workflow_engine(config, store.database, worker, min(_POLL_S, tick_s))
            )
            shadow = stack.enter_context(ShadowRunner(current, store, child_command))
            ticks += _make_worker(parts, engine, worker, shadow, tick_s)
            ticks += [
                ("commitment", commitment.request_due, tick_s),
                ("feedback", stack.enter_context(FeedbackDesk(current, store)).poll, 2 * tick_s),
            ]
        port = _listen(parts, stack)
        ticks += _watch_ticks(parts, reloader, sender, tick_s)
        scheduler = start_scheduler(ticks, parts.watchdog, parts.wakeup)
        try:
            with _opened(entry_points, parts):
                _log.info("running", roles=list(config.worker.roles), worker=config.worker.own_name)
                if ready is not None:
                    ready(port)
                stop.wait()
                _log.info("stopping")
                children.close()  # first: if stopping takes too long, a kill would count against what they do
        finally:
            if parts.receiver is not None:
                parts.receiver.stop()
            scheduler.shutdown(wait=True)
    _log.info("stopped")


@contextmanager
def _opened(entry_points: Sequence[EntryPoint], parts: Parts) -> Iterator[None]:
    """Open the other ways into the node while the block runs."""
    with ExitStack() as opened:
        for entry_point in entry_points:
            opened.callback(entry_point.stop)
            entry_point.start(parts)
        yield


def _listen(parts: Parts, stack: ExitStack) -> int:
    """Let the receiver listen, if this process has one; the port, or 0."""
    if parts.receiver is None:
        return 0
    port = parts.receiver.start()
    stack.callback(parts.receiver.stop)
    return port


def _make_inbox(parts: Parts, warm_worker: WarmWorker, children: ExitStack) -> Inbox:
    """Make the inbox, which adopts what it finds in the data folder, and its process that reads files."""
    limits = parts.config.config.receiver
    reader = ReadingProcess(memory_mb=limits.survey_memory_mb, limit_s=limits.survey_limit_s)
    children.callback(reader.stop)
    callbacks = InboxCallbacks(trigger=parts.wakeup.trigger, preload=warm_worker.preload)
    inbox = Inbox(parts.config, parts.store, meters=parts.meters, callbacks=callbacks, reader=reader)
    inbox.adopt()
    return inbox


def _make_receiver(
    parts: Parts, commitment: CommitmentScu, inbox: Inbox, tick_s: float, stack: ExitStack
) -> list[Tick]:
    """Make the receiver, which does not listen yet; returns the ticks of a receiving process."""
    config, store = parts.config, parts.store
    parts.receiver = Receiver(config, inbox, service=commitment, meters=parts.meters)
    poller = SourcePoller(config, CompletenessChecker(config, store, inbox))
    stack.callback(poller.stop)
    return [
        (JUDGE, inbox.judge_stable_series, tick_s),
        ("ask sources", poller.poll, tick_s),
    ]


def _make_worker(
    parts: Parts, engine: Engine, worker: Worker, shadow: ShadowRunner, tick_s: float
) -> list[Tick]:
    """Reconcile the store with the engine; returns the ticks of a working process."""
    config = parts.config.config
    parts.engine = engine
    shared = isinstance(config.database_location, Server)
    slots = partial(live_workers, parts.store.database) if shared else lambda: 1
    dispatcher = Dispatcher(parts.config, parts.store, engine, worker, slots=slots)
    with suppress(ItemsFailed):  # logged; a single job must not keep the node from starting
        dispatcher.reconcile()
    ticks = [*dispatcher.ticks(tick_s), *Retention(parts.config, parts.store, engine).ticks()]
    ticks += [("shadow", shadow.poll, 5 * tick_s)]
    if shared:
        limit_s = config.worker.dead_after_s
        detector = DeadWorkerDetector(parts.store.database, engine, config.worker.own_name, limit_s=limit_s)
        ticks += [("dead workers", detector.scan, 5 * tick_s)]
    _log_unusable_bundles(config)
    return ticks


@contextmanager
def _running_workflow_engine(
    config: NodeConfig, database: Database, worker: Worker, poll_s: float
) -> Iterator[Engine]:
    """Run the engine; with a heartbeat if other processes may take over the work of this one."""
    place = config.database_location
    shared = isinstance(place, Server)
    name = config.worker.own_name
    engine = Engine(
        place if isinstance(place, Server) else place.parent,
        worker.workflows,
        queues_of(config),
        worker=name,
        poll_s=poll_s,
    )
    heart = Heartbeat(database, name, limit_s=config.worker.dead_after_s) if shared else None
    try:
        if heart is not None:
            heart.start()  # before the engine resumes earlier workflows, so that no other process takes them
        engine.start()
        outdated = engine.drop_outdated()
        if outdated:
            _log.warning("workflows of another version start again", count=len(outdated))
        yield engine
    finally:
        worker.stop_children()
        engine.stop()
        worker.engine_stopped()
        if heart is not None:
            heart.stop()


def _watch_ticks(parts: Parts, reloader: Reloader, sender: AnySender, tick_s: float) -> tuple[Tick, ...]:
    """The ticks that watch over the node: reload, audit, alerts, echoes."""
    database = parts.store.database
    audit, echoes = Audit(database), EchoMonitor(parts.config, database, sender)
    watch, notifier = Watch(parts.config, database), Notifier(parts.config, database)
    roles = "-".join(sorted(parts.config.config.worker.roles))
    process = f"{parts.config.config.worker.own_name} ({roles})"
    failing = FailingTasks(database, process, parts.watchdog)
    asked_every_s = parts.config.config.watch.echo_minutes * 60.0
    slow_s = 10.0 * tick_s
    return (
        ("reload", reloader.tick, tick_s),
        ("models", reloader.watch, 60.0),
        ("failing tasks", failing.store, slow_s),
        ("seal", audit.seal, slow_s),
        ("sweep", audit.sweep, 3600.0),
        ("watch", watch.scan, slow_s),
        ("notify", notifier.send, slow_s),
        *((("echo", echoes.check, asked_every_s),) if asked_every_s else ()),
    )


def _log_unusable_bundles(config: NodeConfig) -> None:
    """Log which bundles cannot be used. The node still receives, and jobs with these bundles fail visibly."""
    named = (*config.inference.bundles, *(name for rule in config.rule for name in rule.bundles or ()))
    for name in dict.fromkeys(named):
        try:
            find_named(config, name)
        except OrgsegError as error:
            _log.error("bundle cannot be used", bundle=name, code=error.code, next_step=error.next_step)
        except Exception as error:  # noqa: BLE001  # whatever is in the bundle, the node starts
            kind, at = type(error).__name__, place(error)
            _log.error("bundle cannot be used", bundle=name, code="UNEXPECTED", kind=kind, place=at)


@contextmanager
def _private_files(config: NodeConfig) -> Iterator[None]:
    """Make files of this process and its children accessible to their own user or group only."""
    before = os.umask(0o007 if config.node.shared_with_group else 0o077)
    try:
        yield
    finally:
        os.umask(before)


@contextmanager
def _sole_user(config: NodeConfig, roles: Collection[NodeRole] = ()) -> Iterator[None]:
    """Lock the data folder for some roles. Raises NodeRunning or StorageError.

    Without roles no other process may use the folder. With roles there can be one receiver and, on SQLite,
    one worker; on PostgreSQL one worker of each name.
    """
    worker = f"worker-{config.worker.own_name}" if config.database.url else "worker"
    names = {"receiver": "receiver", "worker": worker}
    with ExitStack() as stack:
        stack.enter_context(_lock(config, "node", shared=bool(roles)))
        for role in roles:
            stack.enter_context(_lock(config, names[role]))
        yield


@contextmanager
def _lock(config: NodeConfig, name: str, *, shared: bool = False) -> Iterator[None]:
    folder = config.node.data_dir
    try:
        folder.mkdir(parents=True, exist_ok=True, mode=0o770)
        descriptor = os.open(folder / f"{name}.lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o660)
    except OSError as error:
        raise StorageError(f"The data folder {folder} cannot be used: {error.strerror}.") from error
    try:
        try:
            fcntl.flock(descriptor, (fcntl.LOCK_SH if shared else fcntl.LOCK_EX) | fcntl.LOCK_NB)
        except BlockingIOError:
            raise NodeRunning(f"Data folder: {folder}, {name}.lock.") from None
        yield
    finally:
        os.close(descriptor)
