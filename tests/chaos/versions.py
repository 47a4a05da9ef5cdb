"""``python -m tests.chaos.versions``: kill persons who promote, shadow and roll back versions of models.

At any time exactly one version is live. After each kill the rows are what the history says, and the chain of
the history holds. Exit status 0 if that is so; the summary is the last line.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import random
import shutil
import signal
import sys
import tempfile
import time
import traceback
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from orgseg_node.core.organs import load_organs
from orgseg_node.errors import AuditBroken
from orgseg_node.node.config.database import Server
from orgseg_node.node.models.version_rows import history, versions
from orgseg_node.node.store.audit import Audit
from orgseg_node.node.store.database import Database
from orgseg_node.node.store.model import ModelState
from orgseg_node.shipped import shipped_config
from tests.chaos.operator import ACKS, UNEXPECTED, operate
from tests.support.node.model_bench import FAMILY
from tests.support.node.shadow_bench import Shadowed
from tests.support.peers.postgres import cluster

_PERSONS = 2  # at once: they get into each other's way
_SEEN = "seen"


@dataclass(kw_only=True)
class VersionReport:
    """What a run did and found."""

    kills: int = 0
    looks: int = 0
    commands: Counter[str] = field(default_factory=Counter)
    problems: list[str] = field(default_factory=list)
    seconds: float = 0.0

    def text(self) -> str:
        """The counts, and the summary line last."""
        rows = [f"  acknowledged: {name:30s} {count}" for name, count in sorted(self.commands.items())]
        rows += [f"PROBLEM {problem}" for problem in self.problems]
        verdict = "BROKEN" if self.problems else "OK"
        summary = (
            f"{verdict}: {self.kills} kills, {self.commands.total()} commands, {self.looks} looks,"
            f" {len(self.problems)} problems, {self.seconds:.0f} s"
        )
        return "\n".join([*rows, summary])


def run_versions(folder: Path, *, kills: int, seed: int, server: Server | None = None) -> VersionReport:
    """Kill persons at random instants, and look.

    Parameters
    ----------
    folder : an empty folder
    kills : how often
    seed : of the random instants
    server : a PostgreSQL server instead of the SQLite file
    """
    begun, chance, report = time.monotonic(), random.Random(seed), VersionReport()
    bench = Shadowed(folder, load_organs(shipped_config("organs.toml")), server)
    bench.store.close()
    watcher = _fork(lambda: _watch(folder, server))
    persons = [_fork(_person(folder, seed * 1000 + n, server)) for n in range(_PERSONS)]
    while report.kills < kills:
        time.sleep(chance.uniform(0.02, 0.6))
        hit = chance.sample(range(_PERSONS), chance.choice((1, _PERSONS)))
        for n in hit:
            _end(persons[n])
        report.kills += len(hit)
        report.problems += _problems(folder, server, alone=len(hit) == _PERSONS)
        for n in hit:
            persons[n] = _fork(_person(folder, seed * 1000 + report.kills * _PERSONS + n, server))
    for pid in persons:
        _end(pid)
    report.problems += _problems(folder, server, alone=True)
    _end(watcher)
    seen = (folder / _SEEN).read_text(encoding="utf-8").splitlines()
    report.looks = sum(int(line.split()[1]) for line in seen if line.startswith("looks"))
    report.problems += [line for line in seen if not line.startswith("looks")]
    acked = (folder / ACKS).read_text(encoding="utf-8").splitlines()
    report.commands.update(line.rstrip(" 123") for line in acked)
    if (folder / UNEXPECTED).exists():
        report.problems += (folder / UNEXPECTED).read_text(encoding="utf-8").splitlines()
    report.seconds = time.monotonic() - begun
    return report


def _problems(folder: Path, server: Server | None, *, alone: bool) -> list[str]:
    """What is wrong now; rows and history are compared only while nobody works."""
    database = Database(server or folder / "data" / "db" / "node.sqlite")
    try:
        found = _wrong_states(database)
        if alone:
            states: dict[str, str] = {}
            for event in history(database, FAMILY):
                if "->" in event.change:
                    states[event.note.split()[0]] = event.change.split()[-1]
            rows = {version.bundle: version.state.value for version in versions(database, FAMILY)}
            if states != rows:
                found.append(f"the history says {states}, the rows {rows}")
            audit = Audit(database)
            audit.seal()
            try:
                audit.verify()
            except AuditBroken as error:
                found.append(str(error))
        return found
    finally:
        database.close()


def _wrong_states(database: Database) -> list[str]:
    states = Counter(version.state for version in versions(database, FAMILY))
    found = []
    if states[ModelState.LIVE] != 1:
        found.append(f"{states[ModelState.LIVE]} versions are live")
    if states[ModelState.SHADOW] > 1:
        found.append(f"{states[ModelState.SHADOW]} versions are in the shadow")
    return found


def _watch(folder: Path, server: Server | None) -> None:
    """Look all the time, as the node does when it makes a job."""
    database = Database(server or folder / "data" / "db" / "node.sqlite", read_only=True)
    with (folder / _SEEN).open("w", encoding="utf-8") as stream:
        while True:
            for _ in range(50):
                for problem in _wrong_states(database):
                    stream.write(f"{problem}\n")
            stream.write("looks 50\n")
            stream.flush()


def _person(folder: Path, seed: int, server: Server | None) -> Callable[[], None]:
    return lambda: operate(folder, seed, server)


def _fork(work: Callable[[], None]) -> int:
    """Run something in a process and a process group of its own."""
    sys.stdout.flush()
    pid = os.fork()
    if pid:
        with contextlib.suppress(PermissionError, ProcessLookupError):
            os.setpgid(pid, pid)  # both do it: whoever comes first
        return pid
    try:
        os.setpgid(0, 0)
        work()
    except BaseException:  # noqa: BLE001  # a forked process must never return
        traceback.print_exc()
    finally:
        os._exit(1)


def _end(pid: int) -> None:
    """SIGKILL a process and what it started."""
    os.killpg(pid, signal.SIGKILL)
    os.waitpid(pid, 0)


def main() -> int:
    """Run with the options of the command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--kills", type=int, default=100)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--database", choices=("sqlite", "postgresql"), default="sqlite")
    options = parser.parse_args()
    folder = Path(tempfile.mkdtemp(prefix="orgseg-versions-"))
    try:
        if options.database == "postgresql":
            with cluster() as running:
                report = run_versions(
                    folder, kills=options.kills, seed=options.seed, server=running.new_database()
                )
        else:
            report = run_versions(folder, kills=options.kills, seed=options.seed)
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    print(report.text())
    return 1 if report.problems else 0


if __name__ == "__main__":
    sys.exit(main())
