"""PostgreSQL as a real server: a throw-away cluster of its own on a free port, ended with the tests."""

from __future__ import annotations

import contextlib
import itertools
import os
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import psycopg
import pytest

from orgseg_node.node.config.database import Server
from tests.support.peers.dcmtk import free_port

USER = "orgseg"
PASSWORD = "a password with ' and space"  # noqa: S105 (of a server that lives as long as the tests)
_START_S = 60.0


@dataclass(kw_only=True)
class Cluster:
    """A running server on this machine, which can be ended and started again.

    Attributes
    ----------
    folder : its data
    port : where it listens, at 127.0.0.1
    """

    folder: Path
    port: int
    _names: Iterator[int] = field(default_factory=itertools.count)
    _process: subprocess.Popen[bytes] | None = None

    def new_database(self) -> Server:
        """An empty database that nobody else uses."""
        name = f"orgseg_{os.getpid()}_{next(self._names)}"
        with self.admin() as connection:
            connection.execute(f"CREATE DATABASE {name}")  # type: ignore[arg-type]  # a name made above
        return self.server(name)

    def server(self, name: str) -> Server:
        """Where a database of this server is."""
        return Server(url=f"postgresql://{USER}@127.0.0.1:{self.port}/{name}", password=PASSWORD)

    def admin(self, name: str = "postgres") -> psycopg.Connection[Any]:
        """A connection past the node, to look and to spoil."""
        return psycopg.connect(
            self.server(name).url, password=PASSWORD, autocommit=True, options="-c search_path=orgseg"
        )

    def cut_connections(self, server: Server) -> int:
        """End every connection to a database, as a restart or a firewall would; how many there were."""
        name = server.url.rpartition("/")[2]
        with self.admin() as connection:
            rows = connection.execute(
                "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = %s", (name,)
            ).fetchall()
        return len(rows)

    def start(self) -> None:
        """Start it and wait until it answers."""
        command = [str(_program("postgres")), "-D", str(self.folder)]
        with (self.folder.parent / "log").open("ab") as log:
            self._process = subprocess.Popen(command, stdout=log, stderr=log, **_unprivileged())
        end = time.monotonic() + _START_S
        while True:
            assert self._process.poll() is None, (self.folder.parent / "log").read_text()
            with contextlib.suppress(psycopg.OperationalError):
                self.admin().close()
                return
            assert time.monotonic() < end, "PostgreSQL did not start"
            time.sleep(0.05)

    def crash(self) -> None:
        """End it at once, without a word to its clients."""
        assert self._process is not None
        self._process.send_signal(signal.SIGQUIT)
        self._process.wait(30)


@contextlib.contextmanager
def cluster() -> Iterator[Cluster]:
    """A server that answers when the block begins, and is gone after it."""
    initdb = _program("initdb")
    with tempfile.TemporaryDirectory(prefix="orgseg-postgres-") as name:
        place = Path(name)
        owner = _unprivileged().get("user")
        if owner is not None:
            shutil.chown(place, owner)
        secret = place / "password"
        secret.write_text(PASSWORD, encoding="utf-8")
        secret.chmod(0o644)
        command = [str(initdb), "-D", str(place / "data"), "-U", USER, "--auth=scram-sha-256"]
        # sorting as in a hospital's database, not byte by byte; nothing may depend on it
        command += [f"--pwfile={secret}", "--encoding=UTF8", "--locale-provider=icu", "--icu-locale=en-US"]
        subprocess.run([*command, "--no-sync"], check=True, capture_output=True, **_unprivileged())
        running = Cluster(folder=place / "data", port=free_port())
        settings = {
            "port": running.port,
            "listen_addresses": "'127.0.0.1'",
            "unix_socket_directories": f"'{place}'",
            "max_connections": 200,
            "fsync": "off",  # what is tested is how processes die, not disks
            "shared_buffers": "'32MB'",
        }
        with (running.folder / "postgresql.conf").open("a", encoding="utf-8") as file:
            file.writelines(f"{key} = {value}\n" for key, value in settings.items())
        running.start()
        try:
            yield running
        finally:
            running.crash()


def _program(name: str) -> Path:
    """Where a program of PostgreSQL is; the test is skipped where it is not."""
    places = sorted(Path("/usr/lib/postgresql").glob("*/bin"), key=lambda p: int(p.parent.name), reverse=True)
    found = shutil.which(name) or next((str(p / name) for p in places if (p / name).exists()), None)
    if found is None:
        pytest.skip("PostgreSQL is not installed")
    return Path(found)


def _unprivileged() -> dict[str, Any]:
    """PostgreSQL refuses to run as root; where the tests do, it runs as the user that its package made."""
    return {"user": "postgres", "group": "postgres", "cwd": "/"} if os.geteuid() == 0 else {}
