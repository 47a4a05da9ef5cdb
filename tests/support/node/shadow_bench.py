"""A node with a live version, one in the shadow, and a child that stands for the networks."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Final

import numpy as np

from orgseg_node.contouring.label_export import label_nifti
from orgseg_node.core.geometry import Grid
from orgseg_node.core.organs import OrganTable
from orgseg_node.core.volume import LabelMap
from orgseg_node.node.config.current import CurrentConfig
from orgseg_node.node.config.database import Server
from orgseg_node.node.models.shadow_rows import ShadowRun, ShadowRuns
from orgseg_node.node.models.version_rows import ModelVersion, live_version, shadow_version
from orgseg_node.node.processing.shadow import ShadowRunner
from orgseg_node.node.store.clock import utc_now
from orgseg_node.node.store.model import Instance, Job, JobState, NewJob, SeriesState
from tests.support.node.model_bench import FAMILY, ModelBench

GRID: Final = Grid(shape=(6, 20, 20), spacing_mm=(3.0, 2.0, 2.0), origin_mm=(0.0, 0.0, 0.0))
CHILD: Final = """
import json, pathlib, shutil, sys, time
request = json.loads(pathlib.Path(sys.argv[-1]).read_text())
what = sys.argv[1]
if what == "waits":
    time.sleep(60)
if what == "dies":
    import os
    os.kill(os.getpid(), 9)
if what == "fails":
    print(json.dumps({"event": "error", "code": "BUNDLE_HASH", "sentence": "Damaged.", "next_step": ""}))
    sys.exit(1)
pathlib.Path(sys.argv[2]).with_name("seen.json").write_text(json.dumps(request))
shutil.copytree(sys.argv[2], request["out"])
print(json.dumps({"event": "done", "objects": [], "held": []}), flush=True)
"""


def write_result(folder: Path, table: OrganTable, **organs: tuple[int, slice]) -> None:
    """A result with an organ in some rows for each name: its label number, and the rows."""
    folder.mkdir(parents=True)
    labels = np.zeros(GRID.shape, np.uint8)
    for number, rows in organs.values():
        labels[2:4, rows, 5:15] = number
    named = {number: table[key] for key, (number, _) in organs.items()}
    (folder / "labels.nii.gz").write_bytes(label_nifti(LabelMap(grid=GRID, labels=labels, organs=named)))
    rows = [{"key": key, "label": number} for key, (number, _) in organs.items()]
    (folder / "report.json").write_text(json.dumps({"organs": rows}))


class Shadowed(ModelBench):
    """A node with a live version, one in the shadow, and one scan that the live version has contoured."""

    def __init__(self, folder: Path, table: OrganTable, server: Server | None = None) -> None:
        super().__init__(folder, server=server)
        jobs = self.store.jobs()
        if jobs:
            self.job = jobs[-1]
            return
        self.make_first_live()
        self.registry.begin_shadow(FAMILY, self.installed("2"), "by A")
        self.job = self.add_job("1.2.3", "b" * 64)
        for state in (JobState.PREPARING, JobState.INFERRING, JobState.WRITING, JobState.CHECKING):
            self.store.move(self.job.job_id, state, "")
        self.store.begin_sending(self.job.job_id, [])
        out = self.data / "jobs" / self.job.job_id / "out"
        write_result(out, table, liver=(1, slice(4, 14)), spleen=(2, slice(15, 18)))
        write_result(folder / "result", table, liver=(2, slice(4, 14)), aorta=(1, slice(0, 3)))

    def add_job(self, series: str, content: str) -> Job:
        """A queued job of the live version."""
        self.store.accept(
            Instance(
                sop_uid=f"{series}.1", series_uid=series, sha256="a" * 64, size=10,
                path=f"inbox/{series}.dcm", transfer_syntax="1.2.840.10008.1.2.1", calling_ae="CT",
                received_at=utc_now(),
            )
        )  # fmt: skip
        new = NewJob(
            series_uid=series, content_sha256=content, bundles=(f"{FAMILY}@1",), slices=1,
            models=(self.bundles["1"].sha256,),
        )  # fmt: skip
        assert self.store.judge(self.store.one_series(series), SeriesState.READY, job=new)
        return self.store.job(new.job_id)

    def runner(self, what: str) -> ShadowRunner:
        """A runner whose child does something."""
        command = (sys.executable, "-c", CHILD, what, str(self.folder / "result"))
        return ShadowRunner(CurrentConfig(self.config), self.store, command)

    def versions(self) -> tuple[ModelVersion, ModelVersion]:
        """The version in the shadow and the live one."""
        return shadow_version(self.store.database, FAMILY), live_version(self.store.database, FAMILY)

    def outcomes(self) -> list[ShadowRun]:
        """What became of the scans."""
        return ShadowRuns(self.store.database).outcomes(self.versions()[0])
