"""From storescu to storescp through a node with the shipped network, also with kill -9 during inference."""

from __future__ import annotations

import contextlib
import json
from pathlib import Path

import pydicom
import pytest

from orgseg_node.cli.ct.demo_patient import demo_ct
from orgseg_node.dicom.reading.series import read_series
from orgseg_node.node.store.model import JobState
from tests.support.node.node_process import running_node, wait_for
from tests.support.peers.dcmtk import free_port, storescp, storescu

pytestmark = [pytest.mark.slow, pytest.mark.peer, pytest.mark.timeout(900)]


@pytest.mark.parametrize("way", ["straight", "killed"])
def test_a_ct_pushed_by_storescu_reaches_storescp_as_one_rtstruct_and_one_seg(
    way: str, tmp_path: Path
) -> None:
    series = read_series(demo_ct())
    files = [each.path for each in series.slices]
    port = free_port()
    with (
        storescp(tmp_path / "tps", port, "-aet", "TPS") as tps,
        running_node(tmp_path, port, None, warm=True) as node,
    ):
        pushed = storescu(node.port, files, "-aec", "ORGSEG", "-aet", "STORESCU", "-xt")
        assert pushed.returncode == 0, pushed.stdout
        if way == "killed":
            node.job_in(JobState.INFERRING, seconds=60)
            wait_for(lambda: node.job_in(JobState.INFERRING).progress > 0.12, 120, "tiles are being computed")
            node.kill()
            node.start()
        job = node.job_in(JobState.DONE, seconds=600)
        objects = [pydicom.dcmread(path) for path in tps.iterdir() if path.is_file()]
        assert sorted(each.Modality for each in objects) == ["RTSTRUCT", "SEG"]
        for each in objects:
            assert each.StudyInstanceUID == series.study_instance_uid
            assert each.FrameOfReferenceUID == series.frame_of_reference_uid
        with contextlib.closing(node.store()) as store:
            changes = [event.change for event in store.events(job.job_id)]
        assert changes[-1].endswith("DONE")
        assert changes.count("PREPARING -> INFERRING") == {"straight": 1, "killed": 2}[way]
        report = json.loads((node.data / "jobs" / job.job_id / "out" / "report.json").read_text())
        assert report["method"].startswith("streaming, exact")
