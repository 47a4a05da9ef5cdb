"""The world of the kill test: CT series, their senders, the node, and Orthanc as the destination."""

from __future__ import annotations

import contextlib
import copy
import json
import sys
import urllib.error
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import psutil

from orgseg_node.node.config.database import Server
from orgseg_node.node.store.database import Database
from orgseg_node.node.store.store import DATABASE, Store
from tests.chaos.supervisor import SupervisedProcess, Supervisor, until
from tests.support.ct.phantom import PhantomOptions, ct_datasets, save, uid
from tests.support.node.model_bench import ModelBench
from tests.support.peers.dcmtk import free_port
from tests.support.peers.orthanc import AE_TITLE, Orthanc, _program, _settings
from tests.support.peers.postgres import Cluster

_CONFIG: Final = """
[node]
ae_title = "ORGSEG"
host = "127.0.0.1"
port = {port}
data_dir = "data"
log_format = "json"

[receiver]
quiet_seconds = {quiet_s}
min_free_mb = 1
accept_any_calling_ae = true

[completeness]
broken_wait_s = 2.0

[delivery]
retry_first_s = 0.5
retry_longest_s = 2.0

[inference]
bundles = ["head-neck@live"]

[models]
signatures = 2
shadow_cases = 3

[models.persons]
{persons}

[destinations.archive]
ae_title = "ARCHIVE"
host = "127.0.0.1"
port = {archive_port}
timeout_s = 10.0
"""

_PARTS: Final = {"receiver": "receiver", "worker-a": "worker", "worker-b": "worker"}
"""The processes of a node on PostgreSQL: name, and what it does."""

_PART: Final = """
[database]
url = "{url}"
password_file = "password"

[worker]
name = "{name}"
roles = ["{role}"]
dead_after_s = 5.0
"""

_LUA: Final = """
function OnStoredInstance(instanceId, tags, metadata, origin)
  local file = io.open("{log}", "a")
  file:write(tags["SOPInstanceUID"] .. "\\n")
  file:close()
end
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Size:
    """How much is sent, by how many, and how patiently.

    Attributes
    ----------
    series, slices, senders : how many
    quiet_s : quiet time of the node; longer than a sender needs to come back
    pause_s : mean pause of a sender between two series
    contour_s : how long the prediction of a job takes at least
    """

    series: int = 40
    slices: int = 24
    senders: int = 4
    quiet_s: float = 6.0
    pause_s: float = 20.0
    contour_s: float = 0.3


@dataclass(frozen=True, slots=True, kw_only=True)
class Sent:
    """One series that is sent: its folder and what is in it, by file."""

    folder: Path
    series_uid: str
    study_uid: str
    sop_uids: dict[Path, str]


@dataclass(kw_only=True)
class World:
    """Everything that runs, with what is known about it.

    Attributes
    ----------
    folder : holds all files of the run
    size : how much is sent
    nodes : the processes of the node
    archive, orthanc : the destination as a process, and as something to ask
    senders : the processes that send
    operator : a person who promotes versions of models and takes them back
    series : what is sent
    place, cluster : the node's database, and the PostgreSQL server it lies on, if it does
    """

    folder: Path
    size: Size
    supervisor: Supervisor
    nodes: list[SupervisedProcess]
    archive: SupervisedProcess
    orthanc: Orthanc
    port: int
    series: list[Sent]
    place: Path | Server
    cluster: Cluster | None = None
    senders: list[SupervisedProcess] = field(default_factory=list)
    operator: SupervisedProcess | None = None

    @property
    def data(self) -> Path:
        """The node's data folder."""
        return self.folder / "data"

    @property
    def ack_logs(self) -> list[Path]:
        """What the senders know to be accepted."""
        return sorted(self.folder.glob("acks-*.tsv"))

    @contextlib.contextmanager
    def store(self) -> Iterator[Store]:
        """The node's memory, to look at."""
        store = Store(Database(self.place, read_only=True))
        try:
            yield store
        finally:
            store.close()

    def children(self) -> list[psutil.Process]:
        """The processes that contour just now; the spare one, which waits for work, has no log yet."""
        found: list[psutil.Process] = []
        for node in self.nodes:
            with contextlib.suppress(psutil.NoSuchProcess):
                if node.pid is not None:
                    found += filter(_is_at_work, psutil.Process(node.pid).children())
        return found

    def stored_at_archive(self) -> list[str]:
        """SOP Instance UIDs in the order in which the archive stored them; again and again if sent so."""
        log = self.folder / "archive" / "stored"
        return log.read_text("utf-8").split() if log.exists() else []

    def events(self) -> list[dict[str, Any]]:
        """What the node logged, over all its lives."""
        lines = [
            line
            for node in self.nodes
            for line in node.log.read_text(encoding="utf-8", errors="replace").splitlines()
        ]
        return [json.loads(line) for line in lines if line.startswith("{") and line.endswith("}")]

    def operate(self) -> None:
        """Let a person promote versions of models, take them back, and have them run in the shadow."""
        config = next(iter(self.nodes)).command[3]
        command = [sys.executable, "-m", "tests.chaos.operator", str(self.folder), "1", config]
        log = self.folder / "operator.log"
        self.operator = self.supervisor.start(SupervisedProcess(name="operator", command=command, log=log))

    def send(self) -> None:
        """Begin to send: two kinds of senders, each with its share of the series."""
        for number in range(self.size.senders):
            kind = ("dcmtk", "own")[number % 2]
            share = [str(each.folder) for each in self.series[number :: self.size.senders]]
            command = [sys.executable, "-m", "tests.chaos.sender", kind, str(self.port), f"SENDER{number}"]
            command += [str(self.folder / f"acks-{number}.tsv"), str(self.size.pause_s), *share]
            log = self.folder / f"sender-{number}.log"
            self.senders.append(
                self.supervisor.start(
                    SupervisedProcess(name=f"sender {kind}", command=command, log=log, ends=True)
                )
            )


def make_series(folder: Path, size: Size) -> list[Sent]:
    """Small CT series of different patients, each a study of its own."""
    made = []
    template = ct_datasets(PhantomOptions(slices=size.slices, slice_spacing_mm=72.0 / size.slices))
    for number in range(size.series):
        place = folder / f"{number:03d}"
        place.mkdir(parents=True)
        series_uid, study_uid, files = uid("chaos", number), uid("chaos-study", number), {}
        for k, dataset in enumerate(copy.deepcopy(template)):
            dataset.SeriesInstanceUID, dataset.StudyInstanceUID = series_uid, study_uid
            dataset.FrameOfReferenceUID, dataset.PatientID = uid("chaos-frame", number), f"CHAOS-{number}"
            dataset.SOPInstanceUID = dataset.file_meta.MediaStorageSOPInstanceUID = uid("chaos", number, k)
            files[save(dataset, place / f"{k:03d}.dcm")] = str(dataset.SOPInstanceUID)
        made.append(Sent(folder=place, series_uid=series_uid, study_uid=study_uid, sop_uids=files))
    return made


def node_command(config: Path, size: Size, *more: str) -> list[str]:
    """The real node with the child that contours by thresholds."""
    return [sys.executable, "-m", "tests.support.node.node_program", str(config), str(size.contour_s), *more]


@contextlib.contextmanager
def world(folder: Path, size: Size, cluster: Cluster | None = None) -> Iterator[World]:
    """A running node and archive, and series ready to be sent; all of it is dead after the block.

    With a PostgreSQL server the node is three processes: one receives, two contour and deliver.
    """
    folder.mkdir(parents=True, exist_ok=True)
    port = free_port()
    with Supervisor() as supervisor:
        archive, orthanc = _archive(folder / "archive", supervisor)
        place = folder / "data" / DATABASE if cluster is None else cluster.new_database()
        text = _CONFIG.format(
            port=port,
            archive_port=orthanc.dicom_port,
            quiet_s=size.quiet_s,
            persons=_first_version(folder, place),
        )
        nodes = _nodes(folder, size, text, place)
        made = World(
            folder=folder, size=size, supervisor=supervisor, nodes=nodes, archive=archive, orthanc=orthanc,
            port=port, series=make_series(folder / "ct", size), place=place, cluster=cluster,
        )  # fmt: skip
        for node in nodes:
            supervisor.start(node)
            until(lambda n=node: up(n), 60, f"the {node.name} runs")
        yield made


_MAY_END: Final = {
    "[STORAGE_DATABASE]": "the database was away when it started",
    '"no heartbeat was stored"': "it could store no heartbeat, so another worker might take its jobs",
    '"declared dead by another worker"': "another worker has taken its jobs",
}


def _first_version(folder: Path, place: Path | Server) -> str:
    """Make a first version of the model live; the lines of the persons who signed it."""
    bench = ModelBench(folder, server=place if isinstance(place, Server) else None)
    bench.make_first_live()
    bench.store.close()
    return "\n".join(f'"{name}" = "{key}"' for name, key in bench.config.models.persons.items())


def _nodes(folder: Path, size: Size, text: str, place: Path | Server) -> list[SupervisedProcess]:
    """The processes of the node: all in one on SQLite, receiver and workers apart on PostgreSQL."""
    texts = {"node": text}
    if isinstance(place, Server):
        (folder / "password").write_text(place.password, encoding="utf-8")
        (folder / "password").chmod(0o600)
        texts = {n: text + _PART.format(url=place.url, name=n, role=role) for n, role in _PARTS.items()}
    made = []
    for name, each in texts.items():
        config = folder / f"{name}.toml"
        config.write_text(each, encoding="utf-8")
        log, may_end = folder / f"{name}.log", _MAY_END if isinstance(place, Server) else {}
        made.append(
            SupervisedProcess(name=name, command=node_command(config, size), log=log, may_end=may_end)
        )
    return made


def up(node: SupervisedProcess) -> bool:
    """Whether the life a process of the node has now has come to work."""
    return node.pid is not None and '"event": "running"' in node.words


def listening(node: SupervisedProcess) -> bool:
    """Whether the life a node process has now has come to listen."""
    return node.pid is not None and '"event": "listening"' in node.words


def _archive(folder: Path, supervisor: Supervisor) -> tuple[SupervisedProcess, Orthanc]:
    """Orthanc, which may be killed and started again on the same files."""
    folder.mkdir(parents=True, exist_ok=True)
    orthanc = Orthanc(dicom_port=free_port(), http_port=free_port())
    script, settings = folder / "stored.lua", folder / "orthanc.json"
    script.write_text(_LUA.replace("{log}", str(folder / "stored")), "utf-8")
    said = _settings(folder, orthanc.dicom_port, orthanc.http_port) | {
        "LuaScripts": [str(script)],
        "DicomAet": AE_TITLE,
    }
    settings.write_text(json.dumps(said), "utf-8")
    orthanc_process = supervisor.start(
        SupervisedProcess(name="Orthanc", command=[_program(), str(settings)], log=folder / "orthanc.log")
    )
    until(lambda: answers(orthanc), 30, "Orthanc answers")
    return orthanc_process, orthanc


def answers(orthanc: Orthanc) -> bool:
    """Whether the archive answers."""
    try:
        orthanc.ask("/system")
    except (urllib.error.URLError, OSError):
        return False
    return True


def processes_of(folder: Path) -> Sequence[psutil.Process]:
    """Every living process that was started for a folder of the node's data, or with it."""
    found = []
    for process in psutil.process_iter(["cmdline", "status"]):
        words = process.info["cmdline"] or []
        if process.info["status"] != psutil.STATUS_ZOMBIE and any(str(folder) in word for word in words):
            found.append(process)
    return found


def _is_at_work(child: psutil.Process) -> bool:
    with contextlib.suppress(psutil.Error):
        return any(file.path.endswith("child.log") for file in child.open_files())
    return False
