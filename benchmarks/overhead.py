"""From the last slice to the delivered RTSTRUCT: what the node itself takes, and where.

    python -m benchmarks.overhead [--slices 300] [--size 512] [--repeats 3] [--quiet 20]

A real node, started as a program, is sent one CT series of a synthetic patient by DICOM; a DICOM
destination takes what comes back. Instead of a network, thresholds find the organs. The quiet time, which
is waited on purpose, and the prediction are taken off; everything else is the node: judging, handing the
job to a process, tracing contours, writing, proving, sending. In the quiet time, 20 s as shipped, the node
surveys and reads the series and finds the body; with a quiet time below 6 s, part of that comes after it
and is counted.
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
from tests.chaos.charges import Charge, Keeper, until
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
    """A destination that notes when which object came."""

    def __init__(self) -> None:
        self.came: dict[str, float] = {}
        ae = AE(ae_title="TPS")
        for kind in ("1.2.840.10008.5.1.4.1.1.481.3", "1.2.840.10008.5.1.4.1.1.66.4"):
            ae.add_supported_context(kind)
        handlers = [(evt.EVT_C_STORE, self._store)]
        self.server = ae.start_server(("127.0.0.1", 0), block=False, evt_handlers=handlers)
        self.port = self.server.server_address[1]

    def _store(self, event: Event) -> int:
        self.came[str(event.request.AffectedSOPClassUID)] = time.time()
        return 0

    @property
    def rtstruct(self) -> float | None:
        """When the structure set was there; seconds since the epoch."""
        return self.came.get("1.2.840.10008.5.1.4.1.1.481.3")


def run(folder: Path, files: list[Path], repeat: int, quiet_s: float) -> dict[str, float]:
    """Seconds of each part, for one series through a fresh node."""
    place = folder / f"run{repeat}"
    place.mkdir()
    tps, port = Tps(), free_port()
    (place / "node.toml").write_text(CONFIG.format(port=port, quiet=quiet_s, tps=tps.port))
    command = [sys.executable, "-m", "tests.support.node.node_program", str(place / "node.toml"), "0"]
    with Keeper() as keeper:
        node = keeper.take(Charge(name="node", command=command, log=place / "log"))
        until(lambda: listening(node), 60, "the node listens")
        to_node = Destination(ae_title="ORGSEG", host="127.0.0.1", port=port, timeout_s=30)
        DicomSender().send_all(to_node, "BENCH", files)
        last = time.time()
        until(lambda: tps.rtstruct is not None, 300, "the structure set comes", every_s=0.01)
        arrived = tps.rtstruct or 0.0
        with contextlib.closing(Store(place / "data", read_only=True)) as store:
            (job,) = store.jobs()
            at = {e.change: e.at.timestamp() for e in reversed(store.events(job.job_id)) if e.kind == "job"}
        out = place / "data" / "jobs" / job.job_id / "out"
        steps = json.loads((out / "report.json").read_text())["timings_s"]["steps"]
        written = max(path.stat().st_mtime for path in out.iterdir())
    tps.server.shutdown()
    started = at["QUEUED -> PREPARING"]
    parts = {"judge and queue": started - last - quiet_s}
    inside = {name: float(seconds) for name, seconds in steps.items() if isinstance(seconds, int | float)}
    inside = {name: inside[name] for name in STEPS if name in inside}
    parts["start the child, survey"] = written - started - sum(inside.values())
    parts |= {name: seconds for name, seconds in inside.items() if name != "segment"}
    parts["child ends, hand over"] = at["CHECKING -> SENDING"] - written
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
    usual = ReceiverSection().quiet_seconds
    parser.add_argument("--quiet", type=float, default=usual, help="quiet time in seconds (as shipped: 20)")
    told = parser.parse_args()
    folder = Path(tempfile.mkdtemp(prefix="orgseg-overhead-"))
    options = PhantomOptions(
        slices=told.slices, rows=told.size, columns=told.size,
        pixel_spacing_mm=(256 / told.size, 256 / told.size), slice_spacing_mm=300 / told.slices,
    )  # fmt: skip
    try:
        files = build_ct_series(folder / "ct", options)
        runs = [run(folder, files, repeat, told.quiet) for repeat in range(told.repeats)]
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    print(f"{told.slices} slices of {told.size} x {told.size}, median of {told.repeats} runs")
    for name in runs[0]:
        print(f"  {name:26s} {statistics.median(each[name] for each in runs):6.2f} s")
    total = statistics.median(each["all"] for each in runs)
    print(f"load of the machine: {os.getloadavg()[0]:.1f}, cores: {os.cpu_count()}")
    print(f"node overhead: {total:.2f} s (aim: {LIMIT_S:g} s)")
    return 0 if total <= LIMIT_S else 1


if __name__ == "__main__":
    sys.exit(main())
