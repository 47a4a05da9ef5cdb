"""``orgseg demo``: a CT is sent by DICOM to a running node, which sends the contours to a second program.

Nothing is simulated: the node and the "TPS" are processes of their own that use DICOM on loopback ports, and
the Dice is computed from the RTSTRUCT that the TPS received.
"""

from __future__ import annotations

import contextlib
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import tomli_w
import typer
from rich.markup import escape
from rich.table import Table

from orgseg_node.cli.console import err, out, print_message, progress_bar
from orgseg_node.errors import (
    EnvironmentFault,
    InferenceFailed,
    OrgsegError,
    StorageError,
)
from orgseg_node.shipped import bundle_folders

if TYPE_CHECKING:
    from orgseg_node.dicom.reading.series import CtSeries
    from orgseg_node.inference.predictor import ProgressCallback
    from orgseg_node.node.config.node_config import Destination
    from orgseg_node.node.store.model import Job
    from orgseg_node.node.store.store import Store

_NODE, _TPS, _SCANNER = "ORGSEG_DEMO", "DEMO_TPS", "DEMO_CT"
_START_S, _LIMIT_S, _STOP_S, _POLL_S = 60.0, 3600.0, 15.0, 0.3
_PERSON = "demo"
_BUNDLE = "starter-hn"  # it was not trained on the demonstration patient
_FILES = ("montage.png", "report.json", "labels.nii.gz")


@dataclass(frozen=True, slots=True, kw_only=True)
class Stage:
    """The folders and ports of one demonstration.

    Attributes
    ----------
    work : configuration, logs and data of the node
    target : results for the user
    tps : objects that the TPS has received
    node_port, tps_port, web_port : free ports on 127.0.0.1; the last one is that of the pages
    """

    work: Path
    target: Path
    tps: Path
    node_port: int
    tps_port: int
    web_port: int

    @property
    def config(self) -> Path:
        """The node's configuration."""
        return self.work / "node.toml"

    @property
    def data(self) -> Path:
        """The node's data folder."""
        return self.work / "data"


def demo(
    target: Annotated[Path, typer.Option("--out", file_okay=False, help="Folder for the results.")] = Path(
        "demo-output"
    ),
    keep: Annotated[bool, typer.Option("--keep", help="Keep the data and logs of the node as well.")] = False,
    bundle: Annotated[
        list[str] | None, typer.Option("--bundle", help="Model bundle; may be given several times.")
    ] = None,
    stay: Annotated[
        bool, typer.Option("--open", help="Then open the page of the case, and go on until Ctrl-C.")
    ] = False,
) -> None:
    """Start a node and a TPS, send a CT, and compare the received contours with clinical ones.

    It prints the address of the node's pages, with which you can log in once.
    """
    from orgseg_node.cli.ct.demo_patient import demo_ct  # noqa: PLC0415  # heavy imports only when needed
    from orgseg_node.dicom.reading.series import read_series  # noqa: PLC0415
    from orgseg_node.inference.bundles.bundle import open_bundles  # noqa: PLC0415

    bundles = open_bundles(bundle or [_BUNDLE], bundle_folders())
    series = read_series(demo_ct())
    work = Path(tempfile.mkdtemp(prefix="orgseg-demo-"))
    stage = _prepare(work, target.absolute(), [each.manifest.name for each in bundles])
    begun = time.monotonic()
    try:
        with _running(stage):
            print_message(f"Pages of the node: {_page(stage)}")
            job = _send_and_wait(stage, series)
            if stay:
                _show(stage, job, series, time.monotonic() - begun)
        if not stay:
            _collect(stage, job)
            _print_result(stage, series, time.monotonic() - begun)
    finally:
        if keep:
            print_message(f"The data and logs of the node are in {work}")
        else:
            shutil.rmtree(work, ignore_errors=True)


def _prepare(work: Path, target: Path, bundles: list[str]) -> Stage:
    """Prepare folders, ports and the node's configuration."""
    tps = target / "tps"
    try:
        tps.mkdir(parents=True, exist_ok=True)
        for old in tps.glob("*.dcm"):
            old.unlink()
    except OSError as error:
        raise StorageError(f"'{target}': {error.strerror}.") from error
    node_port, tps_port, web_port = _free_ports()
    stage = Stage(
        work=work, target=target, tps=tps, node_port=node_port, tps_port=tps_port, web_port=web_port
    )
    destination = {"host": "127.0.0.1", "port": tps_port, "ae_title": _TPS}
    document: dict[str, Any] = {
        "node": {"ae_title": _NODE, "host": "127.0.0.1", "port": node_port, "data_dir": str(stage.data)},
        "receiver": {"quiet_seconds": 1.0, "min_free_mb": 500},
        "peers": [{"ae_title": _SCANNER, "networks": ["127.0.0.0/8"]}],
        "inference": {"bundles": bundles, "bundle_folders": [str(folder) for folder in bundle_folders()]},
        "destinations": {"tps": destination},
        "web": {"host": "127.0.0.1", "port": web_port},
        "pages": {"enabled": True, "idle_minutes": 120},
    }
    stage.config.write_text(tomli_w.dumps(document), encoding="utf-8")
    return stage


def _free_ports() -> tuple[int, int, int]:
    with socket.socket() as one, socket.socket() as two, socket.socket() as three:
        for each in (one, two, three):
            each.bind(("127.0.0.1", 0))
        return int(one.getsockname()[1]), int(two.getsockname()[1]), int(three.getsockname()[1])


@contextlib.contextmanager
def _running(stage: Stage) -> Iterator[None]:
    """Run the node and the TPS as processes, which are ended in any case."""
    archive = ["node", "archive", str(stage.tps), "--ae-title", _TPS, "--port", str(stage.tps_port)]
    with contextlib.ExitStack() as stack:
        tps = stack.enter_context(_process(stage.work / "tps.log", archive))
        node = stack.enter_context(
            _process(stage.work / "node.log", ["node", "run", "--config", str(stage.config)])
        )
        _await_echo(tps, stage.work / "tps.log", _peer(_TPS, stage.tps_port))
        _await_echo(node, stage.work / "node.log", _peer(_NODE, stage.node_port))
        print_message(f"Node {_NODE} on port {stage.node_port}, TPS {_TPS} on port {stage.tps_port}")
        yield


@contextlib.contextmanager
def _process(log: Path, arguments: list[str]) -> Iterator[subprocess.Popen[bytes]]:
    with log.open("wb") as file:
        command = [sys.executable, "-m", "orgseg_node.cli", *arguments]
        process = subprocess.Popen(command, stdout=file, stderr=subprocess.STDOUT, stdin=subprocess.DEVNULL)
    try:
        yield process
    finally:
        process.terminate()
        try:
            process.wait(_STOP_S)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def _peer(ae_title: str, port: int) -> Destination:
    from orgseg_node.node.config.node_config import Destination  # noqa: PLC0415  # pydantic only when needed

    return Destination(ae_title=ae_title, host="127.0.0.1", port=port)


def _await_echo(process: subprocess.Popen[bytes], log: Path, peer: Destination) -> None:
    """Wait until a process listens, then send it a C-ECHO.

    Raises
    ------
    EnvironmentFault
        If it ends, or does not listen in time; with the end of its log.
    """
    from orgseg_node.node.dimse.storage_scu import DicomSender  # noqa: PLC0415  # network only when needed

    end = time.monotonic() + _START_S
    while process.poll() is None and time.monotonic() < end:
        try:
            socket.create_connection((peer.host, peer.port), timeout=1).close()
        except OSError:
            time.sleep(_POLL_S)
        else:
            DicomSender().echo(peer, _SCANNER)
            return
    tail = " ".join(log.read_text(encoding="utf-8", errors="replace").split()[-60:])
    raise EnvironmentFault(f"{peer.ae_title} did not start: {tail}")


def _send_and_wait(stage: Stage, series: CtSeries) -> Job:
    """Send the CT and wait until the objects of its job are delivered."""
    from orgseg_node.node.dimse.storage_scu import DicomSender  # noqa: PLC0415  # network only when needed
    from orgseg_node.node.store.store import Store  # noqa: PLC0415

    node, sender = _peer(_NODE, stage.node_port), DicomSender()
    begun = time.monotonic()
    with progress_bar() as on_progress:
        count = len(series.slices)
        paths = [each.path for each in series.slices]
        sender.send_all(
            node, _SCANNER, paths, lambda done: on_progress(done / count, f"sent {done} of {count} images")
        )
    print_message(f"{len(series.slices)} images accepted in {time.monotonic() - begun:.1f} s")
    store = Store(stage.data, read_only=True)
    with contextlib.closing(store), progress_bar() as on_progress:
        return _await_job(store, series.series_instance_uid, on_progress)


def _page(stage: Stage, path: str = "") -> str:
    """An address of the node's pages that logs in once, as a person with every role."""
    from orgseg_node.node.store.store import Store  # noqa: PLC0415  # database only when needed
    from orgseg_node.node.users.accounts import Accounts  # noqa: PLC0415
    from orgseg_node.node.users.roles import Role  # noqa: PLC0415

    with contextlib.closing(Store(stage.data)) as store:
        accounts = Accounts(store.database)
        if not accounts.all():
            accounts.add(_PERSON, set(Role), "by orgseg demo")
        secret = accounts.make_ticket(_PERSON, "by orgseg demo")
    then = f"&next={path}" if path else ""
    return f"http://127.0.0.1:{stage.web_port}/login?once={secret}{then}"


def _show(stage: Stage, job: Job, series: CtSeries, seconds: float) -> None:
    """Print the result, open the page of the case, and wait for Ctrl-C while the node runs."""
    import webbrowser  # noqa: PLC0415  # only when needed

    _collect(stage, job)
    _print_result(stage, series, seconds)
    address = _page(stage, f"/cases/{job.job_id}")
    print_message(f"The case: {address}")
    webbrowser.open(address)
    print_message("The node runs until Ctrl-C.")
    with contextlib.suppress(KeyboardInterrupt):
        while True:
            time.sleep(1.0)


def _await_job(store: Store, series_uid: str, on_progress: ProgressCallback) -> Job:
    """Wait for the end of the series' job and show each change.

    Raises
    ------
    InferenceFailed
        If the job ends without delivering, or does not end.
    """
    end, last_state = time.monotonic() + _LIMIT_S, ""
    while time.monotonic() < end:
        job = next((each for each in store.jobs() if each.series_uid == series_uid), None)
        if job is None:
            on_progress(0.0, "waiting for the series to be complete")
            _refuse_held(store, series_uid)
        else:
            state = job.state.value
            on_progress(job.progress, f"{state.lower()} {job.stage}")
            if state != last_state and not err().is_terminal:
                print_message(f"job {job.job_id}: {state}")
            last_state = state
            if state == "DONE":
                return job
            if state in {"FAILED", "CANCELLED", "REJECTED", "SUPERSEDED", "REVIEW"}:
                raise InferenceFailed(f"Job {job.job_id} is {state}: {job.reason} {job.note}")
        time.sleep(_POLL_S)
    raise InferenceFailed(f"The job did not end within {_LIMIT_S:.0f} s.")


def _refuse_held(store: Store, series_uid: str) -> None:
    for series in store.series():
        if series.series_uid == series_uid and series.state.value in {"HOLD", "IGNORED", "CONFLICT"}:
            raise InferenceFailed(f"The series is in {series.state.value}: {series.reason} {series.note}")


def _collect(stage: Stage, job: Job) -> None:
    """Copy montage, report and label map from the node's folder to the target."""
    for name in _FILES:
        found = sorted((stage.data / "jobs" / job.job_id).rglob(name))
        if not found:
            raise StorageError(f"The node's job folder has no {name}.")
        try:
            shutil.copyfile(found[-1], stage.target / name)
        except OSError as error:
            raise StorageError(f"{name}: {error.strerror}.") from error


def _print_result(stage: Stage, series: CtSeries, seconds: float) -> None:
    """Print the structures that the TPS received, compared with the clinical contours."""
    received = _received(stage)
    table = Table("organ", "volume ml", "clinic ml", "Dice", title="In the TPS: automatic, not reviewed")
    for name, volume_ml, clinic_ml, dice in _compare(received["RTSTRUCT"], series):
        clinic = "not drawn" if clinic_ml is None else f"{clinic_ml:.1f}"
        table.add_row(name, f"{volume_ml:.1f}", clinic, "" if dice is None else f"{dice:.3f}")
    console = out()
    console.print(table)
    for modality, path in sorted(received.items()):
        console.print(f"{modality:9}{escape(str(path))}")
    console.print(f"montage  {escape(str(stage.target / 'montage.png'))}")
    console.print(f"report   {escape(str(stage.target / 'report.json'))}")
    print_message(f"Finished in {seconds:.0f} s. For demonstration only; not for clinical use.")


def _received(stage: Stage) -> dict[str, Path]:
    """The objects in the TPS's folder, by modality."""
    import pydicom  # noqa: PLC0415  # heavy imports only when needed

    found = {}
    for path in sorted(stage.tps.glob("*.dcm")):
        found[str(pydicom.dcmread(path, specific_tags=["Modality"]).Modality)] = path
    missing = {"RTSTRUCT", "SEG"} - found.keys()
    if missing:
        raise OrgsegError(f"Not in the TPS: {', '.join(sorted(missing))}.")
    return found


def _compare(rtstruct: Path, series: CtSeries) -> Iterator[tuple[str, float, float | None, float | None]]:
    """Name, volume, clinical volume and Dice of each received structure; None if not in the clinical ones."""
    import pydicom  # noqa: PLC0415  # heavy imports only when needed

    from orgseg_node.cli.ct.demo_patient import clinical_masks  # noqa: PLC0415
    from orgseg_node.core.contours import rasterise  # noqa: PLC0415
    from orgseg_node.core.metrics import dice  # noqa: PLC0415
    from orgseg_node.dicom.objects.rtstruct import read_rtstruct  # noqa: PLC0415
    from orgseg_node.organ_table import organ_table  # noqa: PLC0415

    organs = organ_table()
    clinic = {organs[key].name: mask for key, mask in clinical_masks(series.grid).items()}
    for name, contours in read_rtstruct(pydicom.dcmread(rtstruct), series).items():
        mask = rasterise(contours, series.grid)
        drawn = clinic.get(name)
        volume = float(mask.sum()) * series.grid.voxel_ml
        if drawn is None:
            yield name, volume, None, None
        else:
            yield name, volume, float(drawn.sum()) * series.grid.voxel_ml, dice(mask, drawn)
