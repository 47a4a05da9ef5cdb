"""``python -m tests.soak``: so many series through one node, and what the node holds meanwhile.

Memory (VmRSS), open files and threads of the node are sampled; the last third of the samples may not exceed
the first by more than `GROWTH_MB`, `GROWTH_FILES` and `GROWTH_THREADS`. Every series must be delivered. Exit
status 1 if anything grew or was lost; the summary is the last line.
"""

from __future__ import annotations

import argparse
import contextlib
import shutil
import statistics
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import psutil
from pydicom import Dataset
from pynetdicom import AE, evt
from pynetdicom.events import Event

from orgseg_node.node.config.node_config import Destination
from orgseg_node.node.dimse.storage_scu import DicomSender
from orgseg_node.node.store.model import JobState
from orgseg_node.node.store.store import Store
from tests.chaos.supervisor import SupervisedProcess, Supervisor, until
from tests.chaos.world import Size, make_series
from tests.support.peers.dcmtk import free_port

GROWTH_MB: Final = 12.0
GROWTH_FILES: Final = 4.0
GROWTH_THREADS: Final = 3.0

_CONFIG: Final = """
[node]
host = "127.0.0.1"
port = {port}
data_dir = "data"
log_format = "json"
log_level = "warning"

[receiver]
quiet_seconds = 0.5
min_free_mb = 1
accept_any_calling_ae = true

[destinations.tps]
ae_title = "TPS"
host = "127.0.0.1"
port = {tps}
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Sample:
    """What the node holds at one moment."""

    at_s: float
    done: int
    rss_mb: float
    files: int
    threads: int


class Destinations:
    """A destination that counts what it was sent and keeps nothing."""

    def __init__(self) -> None:
        self.stored: list[str] = []
        ae = AE(ae_title="TPS")
        for context in ("1.2.840.10008.5.1.4.1.1.481.3", "1.2.840.10008.5.1.4.1.1.66.4"):
            ae.add_supported_context(context)
        self._server = ae.start_server(
            ("127.0.0.1", 0), block=False, evt_handlers=[(evt.EVT_C_STORE, self._store)]
        )
        assert self._server is not None
        self.port = int(self._server.server_address[1])

    def _store(self, event: Event) -> Dataset | int:
        self.stored.append(str(event.request.AffectedSOPInstanceUID))
        return 0

    def close(self) -> None:
        """Stop."""
        assert self._server is not None
        self._server.shutdown()


def main() -> int:
    """Run with the options of the command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--series", type=int, default=500)
    parser.add_argument("--slices", type=int, default=6)
    parser.add_argument("--minutes", type=float, default=40.0)
    options = parser.parse_args()
    folder = Path(tempfile.mkdtemp(prefix="orgseg-soak-"))
    try:
        return soak(folder, Size(series=options.series, slices=options.slices), options.minutes * 60)
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def soak(folder: Path, size: Size, limit_s: float) -> int:
    """Send everything to one node and watch it; the exit status."""
    tps, port = Destinations(), free_port()
    (folder / "node.toml").write_text(_CONFIG.format(port=port, tps=tps.port), encoding="utf-8")
    command = [sys.executable, "-m", "tests.soak.node", str(folder / "node.toml")]
    with Supervisor() as supervisor:
        node = supervisor.start(SupervisedProcess(name="node", command=command, log=folder / "log"))
        until(lambda: _listens(port), 60, "the node listens")
        begun, store = time.monotonic(), Store(folder / "data", read_only=True)
        failure: list[BaseException] = []
        sender = threading.Thread(target=_send, args=(folder, size, port, store, failure), daemon=True)
        sender.start()
        samples: list[Sample] = []

        def done() -> int:
            return len(store.jobs(states={JobState.DONE}))

        while (finished := done()) < size.series:
            if failure or time.monotonic() - begun > limit_s:
                break
            samples.append(_sample(node.pid, time.monotonic() - begun, finished))
            if len(samples) % 30 == 1:
                print(samples[-1], flush=True)
            time.sleep(2.0)
        took, jobs = time.monotonic() - begun, store.jobs()
        store.close()
        problems = [f"sender: {error!r}" for error in failure] + _problems(
            size, samples, tps.stored, finished
        )
        database = sum(file.stat().st_size for file in (folder / "data" / "db").iterdir())
        if node.own_deaths:
            problems.append(f"the node died: {node.own_deaths}")
        status = node.stop()
        if status != 0:
            problems.append(f"the node ended with status {status}")
    tps.close()
    for name, values in _thirds(samples).items():
        print(f"  {name:8s} first third {values[0]:8.1f}   last third {values[1]:8.1f}")
    print(f"  database and engine: {database / 1e6:.1f} MB, {database / 1e3 / len(jobs):.1f} kB per series")
    for problem in problems:
        print(f"PROBLEM {problem}")
    print(
        f"{'GREW OR LOST' if problems else 'OK'}: {finished} of {size.series} series delivered,"
        f" {len(set(tps.stored))} objects, {len(samples)} samples, {took:.0f} s, {len(problems)} problems"
    )
    return 1 if problems else 0


def _listens(port: int) -> bool:
    with contextlib.suppress(Exception):
        DicomSender().echo(Destination(ae_title="ORGSEG", host="127.0.0.1", port=port, timeout_s=5), "SOAK")
        return True
    return False


def _send(folder: Path, size: Size, port: int, store: Store, failure: list[BaseException]) -> None:
    """Send one series after the other, never more than a few ahead of the node."""
    try:
        node = Destination(ae_title="ORGSEG", host="127.0.0.1", port=port, timeout_s=30)
        for number, sent in enumerate(make_series(folder / "ct", size)):
            until(lambda n=number: len(store.jobs(states={JobState.DONE})) > n - 8, 300, "the node keeps up")
            DicomSender().send_all(node, "SOAK", sorted(sent.folder.iterdir()))
            shutil.rmtree(sent.folder)
    except BaseException as error:  # noqa: BLE001 (raised again by the main thread)
        failure.append(error)


def _sample(pid: int | None, at_s: float, done: int) -> Sample:
    process = psutil.Process(pid)
    return Sample(
        at_s=round(at_s, 1),
        done=done,
        rss_mb=process.memory_info().rss / 1e6,
        files=process.num_fds(),
        threads=process.num_threads(),
    )


def _thirds(samples: list[Sample]) -> dict[str, tuple[float, float]]:
    """Median of the first and of the last third, for each thing that may not grow; the start is left out."""
    warm = samples[len(samples) // 10 :]
    third = max(1, len(warm) // 3)
    things: dict[str, Callable[[Sample], float]] = {
        "memory": lambda s: s.rss_mb, "files": lambda s: s.files, "threads": lambda s: s.threads,
    }  # fmt: skip
    return {
        name: (
            statistics.median(of(s) for s in warm[:third]),
            statistics.median(of(s) for s in warm[-third:]),
        )
        for name, of in things.items()
    }


def _problems(size: Size, samples: list[Sample], stored: list[str], finished: int) -> list[str]:
    problems = []
    if finished != size.series:
        problems.append(f"only {finished} of {size.series} series are delivered")
    if len(set(stored)) != 2 * finished:
        problems.append(f"{len(set(stored))} objects came, not {2 * finished}")
    for (name, (first, last)), limit in zip(
        _thirds(samples).items(), (GROWTH_MB, GROWTH_FILES, GROWTH_THREADS), strict=True
    ):
        if last > first + limit:
            problems.append(f"{name} grew from {first:.1f} to {last:.1f}, by more than {limit:g}")
    return problems


if __name__ == "__main__":
    sys.exit(main())
