"""From the last slice to the delivered RTSTRUCT: the time of the node itself, step by step.

    python -m benchmarks.overhead [--slices 300] [--size 512] [--repeats 3] [--quiet 20]

A real node, started as a program, receives one CT series of a synthetic patient by DICOM and sends the result
to a DICOM destination. Thresholds replace the network. The quiet time, an intended wait, and the prediction
are subtracted; the rest is the node: checking completeness, starting the job in a process, tracing contours,
writing, proving, sending. During the quiet time, 20 s by default, the node reads the series and finds the
body; if it is below 6 s, a part of that is done afterwards and counted.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import shutil
import statistics
import sys
import tempfile
import time
from pathlib import Path

from pynetdicom import AE, evt
from pynetdicom.events import Event

from orgseg_node.node.config.node_config import Destination, ReceiverSection
from orgseg_node.node.dimse.storage_scu import DicomSender
from orgseg_node.node.store.store import Store
from tests.chaos.supervisor import SupervisedProcess, Supervisor, until
from tests.chaos.world import listening
from tests.support.ct.phantom import PhantomOptions, build_ct_series
from tests.support.peers.dcmtk import free_port

LIMIT_S = 3.0

CONFIG = """
[node]
host = "127.0.0.1"
port = {port}
data_dir = "data"
log_format = "json"

[receiver]
quiet_seconds = {quiet}
min_free_mb = 1
accept_any_calling_ae = true

[destinations.tps]
ae_title = "TPS"
host = "127.0.0.1"
port = {tps}
"""


class Tps:
    """A destination that records when each object arrived."""

    def __init__(self) -> None:
        self.arrived_at: dict[str, float] = {}
        ae = AE(ae_title="TPS")
        for sop_class in ("1.2.840.10008.5.1.4.1.1.481.3", "1.2.840.10008.5.1.4.1.1.66.4"):
            ae.add_supported_context(sop_class)
        handlers = [(evt.EVT_C_STORE, self._store)]
        self.server = ae.start_server(("127.0.0.1", 0), block=False, evt_handlers=handlers)
        self.port = self.server.server_address[1]

    def _store(self, event: Event) -> int:
        self.arrived_at[str(event.request.AffectedSOPClassUID)] = time.time()
        return 0

    @property
    def rtstruct(self) -> float | None:
        """Time at which the structure set arrived, in seconds since the epoch."""
        return self.arrived_at.get("1.2.840.10008.5.1.4.1.1.481.3")


def run(folder: Path, files: list[Path], repeat: int, quiet_s: float) -> dict[str, float]:
    """Send one series through a new node.

    Parameters
    ----------
    folder : temporary folder
    files : the series
    repeat : number of the run
    quiet_s : quiet time of the node

    Returns
    -------
    seconds by name of the step
    """
    node_folder = folder / f"run{repeat}"
    node_folder.mkdir()
    tps, port = Tps(), free_port()
    (node_folder / "node.toml").write_text(CONFIG.format(port=port, quiet=quiet_s, tps=tps.port))
    command = [sys.executable, "-m", "tests.support.node.node_program", str(node_folder / "node.toml"), "0"]
    with Supervisor() as supervisor:
        node = supervisor.start(SupervisedProcess(name="node", command=command, log=node_folder / "log"))
        until(lambda: listening(node), 60, "the node listens")
        to_node = Destination(ae_title="ORGSEG", host="127.0.0.1", port=port, timeout_s=30)
        DicomSender().send_all(to_node, "BENCH", files)
        last = time.time()
        until(lambda: tps.rtstruct is not None, 300, "the structure set comes", every_s=0.01)
        arrived = tps.rtstruct or 0.0
        with contextlib.closing(Store(node_folder / "data", read_only=True)) as store:
            (job,) = store.jobs()
            at = {e.change: e.at.timestamp() for e in reversed(store.events(job.job_id)) if e.kind == "job"}
        out = node_folder / "data" / "jobs" / job.job_id / "out"
        steps = json.loads((out / "report.json").read_text())["timings_s"]["steps"]
        written = max(path.stat().st_mtime for path in out.iterdir())
    tps.server.shutdown()
    started = at["QUEUED -> PREPARING"]
    parts = {"check and queue": started - last - quiet_s}
    inside = {name: float(seconds) for name, seconds in steps.items() if isinstance(seconds, int | float)}
    inside = {name: inside[name] for name in STEPS if name in inside}
    parts["start the child, survey"] = written - started - sum(inside.values())
    parts |= {name: seconds for name, seconds in inside.items() if name != "segment"}
    parts["child ends, queue sending"] = at["CHECKING -> SENDING"] - written
    parts["send"] = arrived - at["CHECKING -> SENDING"]
    parts["all"] = arrived - last - quiet_s - inside["segment"]
    return parts


STEPS = ("read", "body", "segment", "contour", "encode", "prove", "review", "save")


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--slices", type=int, default=300)
    parser.add_argument("--size", type=int, default=512)
    parser.add_argument("--repeats", type=int, default=3)
    default = ReceiverSection().quiet_seconds
    parser.add_argument("--quiet", type=float, default=default, help="quiet time in seconds (default: 20)")
    options = parser.parse_args()
    folder = Path(tempfile.mkdtemp(prefix="orgseg-overhead-"))
    phantom = PhantomOptions(
        slices=options.slices, rows=options.size, columns=options.size,
        pixel_spacing_mm=(256 / options.size, 256 / options.size), slice_spacing_mm=300 / options.slices,
    )  # fmt: skip
    try:
        files = build_ct_series(folder / "ct", phantom)
        runs = [run(folder, files, repeat, options.quiet) for repeat in range(options.repeats)]
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    print(f"{options.slices} slices of {options.size} x {options.size}, median of {options.repeats} runs")
    for name in runs[0]:
        print(f"  {name:26s} {statistics.median(each[name] for each in runs):6.2f} s")
    total = statistics.median(each["all"] for each in runs)
    print(f"load of the machine: {os.getloadavg()[0]:.1f}, cores: {os.cpu_count()}")
    print(f"node overhead: {total:.2f} s (aim: {LIMIT_S:g} s)")
    return 0 if total <= LIMIT_S else 1


if __name__ == "__main__":
    sys.exit(main())
