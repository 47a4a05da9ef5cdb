"""The node of a hospital and its TPS on this machine, for the last part of the way."""

from __future__ import annotations

import socket
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pydicom
import tomli_w

from benchmarks.clinic.steps import StepFailed, wait_until
from orgseg_node.node.config.node_config import Destination
from orgseg_node.node.dimse.storage_scu import DicomSender
from orgseg_node.node.store.model import Job
from orgseg_node.node.store.store import Store

_START_S = 60.0
_JOB_S = 300.0
_STOP_S = 30.0
_ENDED = {"FAILED", "CANCELLED", "REJECTED", "SUPERSEDED", "REVIEW"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Hospital:
    """Folders and ports of the node and of the TPS.

    Attributes
    ----------
    folder : of all data
    node_port, tps_port : on which they listen
    environment : of the processes
    """

    folder: Path
    node_port: int
    tps_port: int
    environment: dict[str, str]

    @property
    def config(self) -> Path:
        """Configuration of the node."""
        return self.folder / "node.toml"

    @property
    def data(self) -> Path:
        """Data of the node."""
        return self.folder / "data"

    @property
    def tps(self) -> Path:
        """What the TPS received."""
        return self.folder / "tps"

    @contextmanager
    def running(self) -> Iterator[None]:
        """Node and TPS run; they are stopped at the end in any case."""
        archive = ["node", "archive", str(self.tps), "--ae-title", "TPS", "--port", str(self.tps_port)]
        run = ["node", "run", "--config", str(self.config)]
        with self._process("tps", archive), self._process("node", run):
            for port in (self.tps_port, self.node_port):
                wait_until(f"port {port}", lambda port=port: _listens(port), _START_S)  # type: ignore[misc]
            yield

    @contextmanager
    def _process(self, name: str, arguments: Sequence[str]) -> Iterator[None]:
        with (self.folder / f"{name}.log").open("wb") as log:
            process = subprocess.Popen(
                [sys.executable, "-m", "orgseg_node.cli", *arguments],
                env=self.environment,
                stdout=log,
                stderr=subprocess.STDOUT,
                stdin=subprocess.DEVNULL,
            )
        try:
            yield
        finally:
            process.terminate()
            try:
                process.wait(_STOP_S)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()

    def contour(self, images: Sequence[Path]) -> Job:
        """Send a CT and wait until its contours are delivered.

        Raises
        ------
        StepFailed
            If its job ends in another way.
        """
        uid = str(pydicom.dcmread(images[0], stop_before_pixels=True).SeriesInstanceUID)
        node = Destination(ae_title="ORGSEG", host="127.0.0.1", port=self.node_port)
        DicomSender().send_all(node, "SCANNER", list(images), lambda _done: None)
        with closing(Store(self.data, read_only=True)) as store:
            wait_until("the job of the CT", lambda: _is_done(store, uid), _JOB_S)
            return store.jobs_of(uid)[-1]

    def received(self) -> str:
        """The text of the newest RTSTRUCT in the TPS, with all its headers."""
        newest = sorted(self.tps.rglob("*.dcm"), key=lambda path: path.stat().st_mtime_ns, reverse=True)
        for path in newest:
            received = pydicom.dcmread(path, stop_before_pixels=True)
            if received.Modality == "RTSTRUCT":
                return str(received)
        raise StepFailed("The TPS has no RTSTRUCT.")


def open_hospital(
    folder: Path, models: Path, persons: dict[str, str], environment: dict[str, str]
) -> Hospital:
    """Write the configuration of a node that contours with ``hn@live``.

    Parameters
    ----------
    folder : of all data
    models : folder of the bundles
    persons : public keys by name
    environment : of the processes
    """
    folder.mkdir(parents=True)
    ports = _free_ports()
    hospital = Hospital(folder=folder, node_port=ports[0], tps_port=ports[1], environment=environment)
    hospital.tps.mkdir()
    document: dict[str, Any] = {
        "node": {
            "ae_title": "ORGSEG", "host": "127.0.0.1", "port": ports[0], "data_dir": str(hospital.data),
        },
        "receiver": {"quiet_seconds": 1.0, "min_free_mb": 100},
        "peers": [{"ae_title": "SCANNER", "networks": ["127.0.0.0/8"]}],
        "inference": {"bundles": ["hn@live"], "bundle_folders": [str(models)]},
        "destinations": {"tps": {"host": "127.0.0.1", "port": ports[1], "ae_title": "TPS"}},
        "models": {"signatures": 2, "shadow_cases": 1, "persons": persons},
    }  # fmt: skip
    hospital.config.write_text(tomli_w.dumps(document), encoding="utf-8")
    return hospital


def _free_ports() -> tuple[int, int]:
    with socket.socket() as one, socket.socket() as other:
        for each in (one, other):
            each.bind(("127.0.0.1", 0))
        return int(one.getsockname()[1]), int(other.getsockname()[1])


def _listens(port: int) -> bool:
    try:
        socket.create_connection(("127.0.0.1", port), timeout=1).close()
    except OSError:
        return False
    return True


def _is_done(store: Store, uid: str) -> bool:
    jobs = store.jobs_of(uid)
    if jobs and jobs[-1].state.value in _ENDED:
        raise StepFailed(f"The job is {jobs[-1].state.value}: {jobs[-1].reason} {jobs[-1].note}")
    held = [one for one in store.series() if one.series_uid == uid and one.state.value in {"HOLD", "IGNORED"}]
    if held:
        raise StepFailed(f"The series is {held[0].state.value}: {held[0].reason} {held[0].note}")
    return bool(jobs) and jobs[-1].state.value == "DONE"
