"""What nobody edited does not become truth without saying so."""

from __future__ import annotations

import csv
from pathlib import Path

import pydicom

from orgseg_node.core.organs import OrganTable
from orgseg_node.dicom.reading.series import read_series
from orgseg_node.node.feedback.training_source import write_training_source
from tests.support.node.feedback_bench import FeedbackBench, attributes, copied, deleted, shifted


def names(path: Path) -> set[str]:
    return {str(roi.ROIName) for roi in pydicom.dcmread(path).StructureSetROISequence}


def test_only_edited_and_added_organs_are_taken(tmp_path: Path, organ_table: OrganTable) -> None:
    bench = FeedbackBench(tmp_path / "data", organ_table)
    bench.come_back(shifted("Brainstem", x_mm=8.0), deleted("Parotid_R"), copied("Parotid_L", "Heart", "zz"))
    done = write_training_source(bench.store, bench.data, tmp_path / "out")
    assert (done.cases, done.unchanged) == ((1,), 3)
    case = tmp_path / "out" / "000001"
    assert names(case / "RS.dcm") == {"Brainstem", "Heart"}
    assert len(pydicom.dcmread(case / "RS.dcm").ROIContourSequence) == 2
    assert read_series(case / "CT").content_sha256 == bench.series.content_sha256
    with (tmp_path / "out" / "feedback.csv").open(encoding="utf-8") as file:
        rows = {row["organ"]: row for row in csv.DictReader(file)}
    assert rows["brainstem"]["independent"] == rows["brainstem"]["taken"] == "1"
    assert rows["spinal_cord"]["taken"] == "0"

    write_training_source(bench.store, bench.data, tmp_path / "all", with_unchanged=True)
    everything = tmp_path / "all" / "000001" / "RS.dcm"
    assert names(everything) == {"Brainstem", "Heart", "SpinalCord", "Parotid_L", "Bone_Mandible"}
    with (tmp_path / "all" / "feedback.csv").open(encoding="utf-8") as file:
        rows = {row["organ"]: row for row in csv.DictReader(file)}
    assert (rows["spinal_cord"]["taken"], rows["spinal_cord"]["independent"]) == ("1", "0")

    bench.come_back(attributes(ReviewDate="20260401"))
    done = write_training_source(bench.store, bench.data, tmp_path / "later")
    assert (done.cases, done.nothing_edited) == ((), (2,)), "a later set, in which nothing was edited"
