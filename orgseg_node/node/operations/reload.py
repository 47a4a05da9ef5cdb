"""Changing the configuration while the node runs: a new one takes effect as a whole, or not at all.

On ``SIGHUP`` the node reads its file again (``orgseg node reload`` sends the signal). A file with an error,
or with a change that needs a restart, changes nothing, and the log gives the reason. Each configuration that
has taken effect is stored under its revision, with an event in the history.
"""

from __future__ import annotations

import fcntl
import json
import os
import signal
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, Final

import structlog

from orgseg_node.errors import NodeNotRunning, OrgsegError, ReloadRefused, StorageError
from orgseg_node.node.config.current import CurrentConfig
from orgseg_node.node.config.load import load_config
from orgseg_node.node.config.node_config import NodeConfig
from orgseg_node.node.routing.revision import content_of, context_content, revision_of
from orgseg_node.node.store.canonical import canonical, short_hash
from orgseg_node.node.store.clock import Clock, stamp, utc_now
from orgseg_node.node.store.model import Event
from orgseg_node.node.store.store import Store

FIXED: Final = (
    "node",
    "tls",
    "web",
    "pages",
    "database",
    "worker",
    "receiver.max_associations",
    "receiver.survey_memory_mb",
    "receiver.survey_limit_s",
    "receiver.idle_timeout_s",
)
"""Settings and whole sections that are read at the start only."""

PID_FILE: Final = "node.pid"
_IN_FORCE: Final = "in force"
_REFUSED: Final = "refused"

_log = structlog.get_logger("orgseg.config")


def needs_restart(old: NodeConfig, new: NodeConfig) -> list[str]:
    """The settings that differ between two configurations and are read at the start only."""
    before, after = _flat(old.model_dump(mode="json")), _flat(new.model_dump(mode="json"))
    changed = sorted(name for name in before.keys() | after.keys() if before.get(name) != after.get(name))
    return [name for name in changed if any(name == fixed or name.startswith(f"{fixed}.") for fixed in FIXED)]


def _flat(content: Any, place: str = "") -> dict[str, Any]:
    if not isinstance(content, dict):
        return {place: content}
    parts = [_flat(value, f"{place}.{name}" if place else name) for name, value in content.items()]
    return {name: value for part in parts for name, value in part.items()}


class Reloader:
    """Puts configurations into effect and stores their revisions.

    Parameters
    ----------
    current : holds the configuration for the parts of the node
    store : the node's database
    path : the file to read again; None if the node was started without one
    on_change : called with each new configuration before it takes effect
    requested : set to have the file read again at the next tick
    clock : returns the time
    """

    def __init__(  # noqa: PLR0913
        self,
        current: CurrentConfig,
        store: Store,
        path: Path | None,
        on_change: Callable[[NodeConfig], None],
        *,
        requested: threading.Event,
        clock: Clock = utc_now,
    ) -> None:
        self._current = current
        self._store = store
        self._path = path
        self._on_change = on_change
        self._clock = clock
        self._requested = requested
        self._revision = ""

    def begin(self) -> str:
        """Store the revision that the node starts with; the revision."""
        self.record_context()
        return self._record(self._current.config)

    def tick(self) -> None:
        """Reload the configuration if this was requested."""
        if not self._requested.is_set():
            return
        self._requested.clear()
        try:
            self.reload()
        except OrgsegError as error:
            _log.error("configuration not changed", code=error.code, why=error.sentence)
            self._event("-", _REFUSED, error.code)

    def reload(self) -> str:
        """Read the file again and put it into effect; the revision.

        Raises
        ------
        ConfigError
            If there is an error in it.
        ReloadRefused
            If a change needs a restart.
        """
        if self._path is None:
            raise ReloadRefused("The node was not started from a file.")
        new = load_config(self._path)
        check_change(self._current.config, new)
        self._on_change(new)
        self._current.replace(new)
        self.record_context()
        return self._record(new)

    def record_context(self) -> None:
        """Store under which program version, configuration and models jobs are processed from now on."""
        self._store.attribution.works_under(self._store.database, context_content(self._current.config))

    def watch(self) -> None:
        """Store the context, and the revision if a protocol was changed: it is read anew for each job."""
        config = self._current.config
        if revision_of(config) != self._revision:
            self._record(config)
        self.record_context()

    def _record(self, config: NodeConfig) -> str:
        content = content_of(config)
        revision = self._revision = short_hash(content)
        with self._store.database.write() as tx:
            tx.run(
                "INSERT INTO config_revision (revision, content, first_at) VALUES (?, ?, ?)"
                " ON CONFLICT (revision) DO NOTHING",
                (revision, canonical(content), stamp(self._clock())),
            )
        self._event(revision, _IN_FORCE, "")
        _log.info("configuration in force", revision=revision)
        return revision

    def _event(self, revision: str, change: str, note: str) -> None:
        with self._store.database.write() as tx:
            tx.run(
                "INSERT INTO event (kind, subject, change, note) VALUES ('config', ?, ?, ?)",
                (revision, change, note),
            )


def check_change(old: NodeConfig, new: NodeConfig) -> None:
    """Raise ReloadRefused if a change needs a restart, naming each setting."""
    fixed = needs_restart(old, new)
    if fixed:
        raise ReloadRefused(f"Only a restart can change {', '.join(fixed)}.")


def config_events(store: Store) -> list[Event]:
    """Which revision took effect when, and which were refused; oldest first."""
    return store.database.read(Event, "SELECT * FROM event WHERE kind = 'config' ORDER BY number")


def revision_in_force(store: Store) -> str:
    """The revision that took effect last; empty if the node never ran."""
    return next((e.subject for e in reversed(config_events(store)) if e.change == _IN_FORCE), "")


# ---------------------------------------------------------------------- between two processes


@contextmanager
def pid_file(data_dir: Path) -> Iterator[None]:
    """Store the process ID of the node while the block runs; a lock on the file shows that it still runs."""
    try:
        descriptor = os.open(data_dir / PID_FILE, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o660)
    except OSError as error:
        raise StorageError(f"{PID_FILE}: {error.strerror}.") from error
    try:
        with suppress(BlockingIOError):  # another process of the same node, on a database server
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            os.ftruncate(descriptor, 0)
            os.pwrite(descriptor, json.dumps({"pid": os.getpid(), "namespace": _namespace()}).encode(), 0)
        yield
    finally:
        os.close(descriptor)


def _namespace() -> str:
    """The namespace in which process IDs of this process count; that of a container is its own."""
    try:
        return str(Path("/proc/self/ns/pid").readlink())
    except OSError:
        return ""


def running_pid(data_dir: Path) -> int | None:
    """The process ID of the node that runs on a data folder, if any; 0 if it runs in another container."""
    try:
        descriptor = os.open(data_dir / PID_FILE, os.O_RDONLY | os.O_CLOEXEC)
    except OSError:
        return None
    try:
        fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        running = json.loads(os.pread(descriptor, 200, 0))
        return int(running["pid"]) if running.get("namespace", _namespace()) == _namespace() else 0
    else:
        return None
    finally:
        os.close(descriptor)


def ask_to_reload(config: NodeConfig, store: Store, *, wait_s: float = 20.0) -> str:
    """Have the running node read its file again, and wait for the result; the revision.

    Parameters
    ----------
    config : the same file, already checked
    store : the node's database
    wait_s : how long to wait for the result

    Raises
    ------
    NodeNotRunning
        If no node runs on the data folder.
    ReloadRefused
        If it refused the file.
    """
    pid = running_pid(config.node.data_dir)
    if pid is None:
        raise NodeNotRunning(f"Data folder: {config.node.data_dir}.")
    if not pid:
        raise ReloadRefused("The node runs in another container: run the command there, or send it SIGHUP.")
    before = len(config_events(store))
    os.kill(pid, signal.SIGHUP)
    end = time.monotonic() + wait_s
    while time.monotonic() < end:
        new = config_events(store)[before:]
        if new and new[-1].change == _REFUSED:
            raise ReloadRefused(f"{new[-1].note}: see the node's log.")
        if new:
            return new[-1].subject
        time.sleep(0.1)
    raise ReloadRefused(f"Nothing happened within {wait_s:g} s.")
