"""Which structure set of a CT counts, and what is stored again when the archive changes."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from pydicom import dcmread
from pydicom.dataset import Dataset

from orgseg_node.core.checks import Level
from orgseg_node.core.organs import OrganTable
from orgseg_training.datasets.case import SourceCase
from orgseg_training.datasets.case_store import CaseStore
from orgseg_training.datasets.registry import open_database
from orgseg_training.datasets.rtstruct.archive import read_archive
from orgseg_training.durable import read_json
from orgseg_training.errors import CaseRejected, CurationChanged
from tests.unit.training.datasets.test_dicom_trees import SMALL, rename, write_patient


def _structures(folder: Path) -> Path:
    return folder / "plans" / "structures"


def _second(folder: Path, **attributes: str) -> None:
    """Write another structure set of the same CT, without the left parotid."""
    dataset = dcmread(_structures(folder))
    rename({"Parotid_L": "Second"})(dataset)
    dataset.SOPInstanceUID = dataset.file_meta.MediaStorageSOPInstanceUID = "1.2.3.4"
    for name, value in attributes.items():
        setattr(dataset, name, value)
    dataset.save_as(_structures(folder).with_name("second"), enforce_file_format=True)


def _plan(folder: Path, structure_set: str) -> None:
    """Write a plan on a structure set."""
    plan = Dataset()
    plan.file_meta = dcmread(_structures(folder)).file_meta
    plan.SOPClassUID = plan.file_meta.MediaStorageSOPClassUID = "1.2.840.10008.5.1.4.1.1.481.5"
    plan.SOPInstanceUID = plan.file_meta.MediaStorageSOPInstanceUID = "1.2.3.5"
    plan.Modality = "RTPLAN"
    reference = Dataset()
    reference.ReferencedSOPClassUID = "1.2.840.10008.5.1.4.1.1.481.3"
    reference.ReferencedSOPInstanceUID = structure_set
    plan.ReferencedStructureSetSequence = [reference]
    plan.save_as(folder / "plans" / "plan", enforce_file_format=True)


def _edit(folder: Path, **attributes: str) -> None:
    dataset = dcmread(_structures(folder))
    for name, value in attributes.items():
        setattr(dataset, name, value)
    dataset.save_as(_structures(folder), enforce_file_format=True)


def _only(folder: Path, **options: object) -> SourceCase:
    (case,) = open_database("dicom-rtstruct", "db", folder, options)
    return case


@pytest.mark.parametrize(
    ("first", "second", "label", "planned", "why"),
    [
        ({}, {"ApprovalStatus": "APPROVED"}, "", False, "is approved"),
        ({"StructureSetDate": "20200101"}, {"StructureSetDate": "20210305"}, "", False, "is the newest"),
        (
            {"StructureSetDate": "20210305", "StructureSetTime": "080000"},
            {"StructureSetDate": "20210305", "StructureSetTime": "090000"},
            "",
            False,
            "is the newest",
        ),
        (
            {"ApprovalStatus": "APPROVED", "StructureSetDate": "20220101"},
            {"StructureSetLabel": "FINAL", "StructureSetDate": "20210305"},
            "^final",
            False,
            "has the label",
        ),
        ({"ApprovalStatus": "APPROVED"}, {}, "", True, "a plan was made on"),
    ],
)
def test_of_several_structure_sets_the_rules_choose_one(
    first: dict[str, str],
    second: dict[str, str],
    label: str,
    planned: bool,  # noqa: FBT001
    why: str,
    organ_table: OrganTable,
    tmp_path: Path,
) -> None:
    write_patient(tmp_path, organ_table, SMALL)
    _edit(tmp_path, StructureSetDate="", **{k: v for k, v in first.items() if k != "StructureSetDate"})
    _edit(tmp_path, **first)
    _second(tmp_path, **{"StructureSetDate": "", **second})
    if planned:
        _plan(tmp_path, "1.2.3.4")
    case = _only(tmp_path, label=label)
    assert "parotid_left" not in case.annotated
    messages = [one.message for one in case.read().findings if one.code == "STRUCTURES_SEVERAL"]
    assert len(messages) == 1
    assert f"Of 2 structure sets of this CT the one is used that {why}" in messages[0]


def test_a_structure_set_that_a_person_rejected_is_never_used(
    organ_table: OrganTable, tmp_path: Path
) -> None:
    write_patient(tmp_path, organ_table, SMALL)
    _second(tmp_path, ApprovalStatus="REJECTED", StructureSetDate="20990101")
    assert "parotid_left" in _only(tmp_path).annotated
    _edit(tmp_path, ApprovalStatus="REJECTED")
    with pytest.raises(CaseRejected, match="A person rejected its RTSTRUCT"):
        _only(tmp_path).read()


def test_without_a_rule_none_of_two_structure_sets_is_taken(organ_table: OrganTable, tmp_path: Path) -> None:
    write_patient(tmp_path, organ_table, SMALL)
    _second(tmp_path)
    with pytest.raises(CaseRejected, match="neither label, plan, approval nor date"):
        _only(tmp_path).read()


def test_two_structure_sets_with_equal_contours_are_as_good_as_one(
    organ_table: OrganTable, tmp_path: Path
) -> None:
    write_patient(tmp_path, organ_table, SMALL)
    dataset = dcmread(_structures(tmp_path))
    dataset.SOPInstanceUID = dataset.file_meta.MediaStorageSOPInstanceUID = "1.2.3.4"
    dataset.save_as(_structures(tmp_path).with_name("second"), enforce_file_format=True)
    contents = _only(tmp_path).read()
    assert [one.code for one in contents.findings if one.level is Level.WARNING] == ["STRUCTURES_SEVERAL"]


def test_an_rtstruct_fits_another_export_of_its_ct_only_if_the_site_says_so(
    organ_table: OrganTable, tmp_path: Path
) -> None:
    def other_export(dataset: Dataset) -> None:
        study = dataset.ReferencedFrameOfReferenceSequence[0].RTReferencedStudySequence[0]
        study.RTReferencedSeriesSequence[0].SeriesInstanceUID = "1.2.3"
        for roi in dataset.ROIContourSequence:
            for contour in roi.ContourSequence:
                contour.ContourImageSequence[0].ReferencedSOPInstanceUID = "1.2.3.4"

    write_patient(tmp_path, organ_table, SMALL, change=other_export)
    reasons = [error.sentence for _, _, error in read_archive([tmp_path]).unmatched()]
    assert ["any_export = true" in reason for reason in reasons] == [True]
    archive = read_archive([tmp_path], any_export=True)
    assert list(archive.unmatched()) == []
    ((_, links),) = [part for parts in archive.scans() for part in parts]
    assert [link.by_frame for link in links] == [True]


def test_two_rois_of_one_organ_are_used_if_they_are_copies(organ_table: OrganTable, tmp_path: Path) -> None:
    def double(dataset: Dataset) -> None:
        names = {roi.ROIName: roi.ROINumber for roi in dataset.StructureSetROISequence}
        rename({"Bone_Mandible": "Spinal Cord"})(dataset)
        contours = {item.ReferencedROINumber: item for item in dataset.ROIContourSequence}
        contours[names["Bone_Mandible"]].ContourSequence = contours[names["SpinalCord"]].ContourSequence

    write_patient(tmp_path, organ_table, SMALL, change=double)
    contents = _only(tmp_path).read()
    assert contents.masks["spinal_cord"].any()
    assert [one.code for one in contents.findings if one.level is Level.WARNING] == ["ROI_TWICE"]


def test_an_roi_of_a_program_does_not_cost_that_of_a_person(organ_table: OrganTable, tmp_path: Path) -> None:
    def beside(dataset: Dataset) -> None:
        rename({"Bone_Mandible": "Spinal Cord"})(dataset)
        roi = next(one for one in dataset.StructureSetROISequence if one.ROIName == "Spinal Cord")
        roi.ROIGenerationAlgorithm = "AUTOMATIC"

    write_patient(tmp_path, organ_table, SMALL, change=beside)
    case = _only(tmp_path)
    assert "spinal_cord" in case.annotated
    assert not any("program" in name for name in case.unused)


def _without_slices(dataset: Dataset, name: str, keep: Callable[[int], bool]) -> None:
    number = next(roi.ROINumber for roi in dataset.StructureSetROISequence if roi.ROIName == name)
    item = next(item for item in dataset.ROIContourSequence if item.ReferencedROINumber == number)
    planes = sorted({float(contour.ContourData[2]) for contour in item.ContourSequence})
    kept = {z for place, z in enumerate(planes) if keep(place)}
    item.ContourSequence = [c for c in item.ContourSequence if float(c.ContourData[2]) in kept]


def test_a_striped_cord_is_filled_and_a_short_one_is_unknown_beyond_its_ends(
    organ_table: OrganTable, tmp_path: Path
) -> None:
    write_patient(tmp_path / "whole", organ_table, SMALL)
    whole = _only(tmp_path / "whole").read().masks["spinal_cord"]
    write_patient(
        tmp_path / "striped",
        organ_table,
        SMALL,
        change=lambda ds: _without_slices(ds, "SpinalCord", lambda n: n % 2 == 0),
    )
    striped = _only(tmp_path / "striped").read()
    last = np.flatnonzero(striped.masks["spinal_cord"].any(axis=(1, 2)))[-1]
    assert np.array_equal(striped.masks["spinal_cord"][: last + 1], whole[: last + 1])
    assert "ROI_SLICES_FILLED" in {one.code for one in striped.findings}
    write_patient(
        tmp_path / "short",
        organ_table,
        SMALL,
        change=lambda ds: _without_slices(ds, "SpinalCord", lambda n: 5 <= n < 9),
    )
    store = CaseStore(tmp_path / "store")
    store.ingest([_only(tmp_path / "short")])
    (case,) = store.cases()
    assert case.known("spinal_cord") == slice(5, 9)
    assert case.known("liver") == slice(None)
    assert "ROI_DRAWN_IN_PART" in {one.code for one in case.findings}


def test_names_added_after_the_first_ingest_count_and_nothing_else_is_stored_again(
    organ_table: OrganTable, tmp_path: Path
) -> None:
    write_patient(tmp_path / "data", organ_table, SMALL, change=rename({"Parotid_L": "Ohr li"}))
    store = CaseStore(tmp_path / "store")
    first = store.ingest([_only(tmp_path / "data")])
    assert (first.added, first.changed, first.kept) == (1, 0, 0)
    assert first.unused == {"Ohr li": (_only(tmp_path / "data").key,)}
    again = store.ingest([_only(tmp_path / "data")])
    assert (again.added, again.changed, again.kept) == (0, 0, 1)
    rois = {"parotid_left": ["Ohr li"]}
    named = store.ingest([_only(tmp_path / "data", rois=rois)])
    assert (named.added, named.changed, named.kept) == (0, 1, 0)
    (case,) = store.cases()
    assert "parotid_left" in case.drawn
    assert named.unused == {}


def test_a_changed_rtstruct_is_stored_again_but_not_after_a_decision(
    organ_table: OrganTable, tmp_path: Path
) -> None:
    write_patient(tmp_path / "data", organ_table, SMALL)
    store = CaseStore(tmp_path / "store")
    store.ingest([_only(tmp_path / "data")])
    _edit(tmp_path / "data", StructureSetLabel="CHANGED")
    with pytest.raises(CurationChanged):
        store.ingest([_only(tmp_path / "data")], final=True)
    assert store.ingest([_only(tmp_path / "data")]).changed == 1
    assert store.ingest([_only(tmp_path / "data")], final=True).kept == 1


def test_a_scan_that_can_no_longer_be_used_is_taken_out_and_listed(
    organ_table: OrganTable, tmp_path: Path
) -> None:
    write_patient(tmp_path / "data", organ_table, SMALL)
    store = CaseStore(tmp_path / "store")
    store.ingest([_only(tmp_path / "data")])
    _edit(tmp_path / "data", PatientID="SOMEBODY-ELSE")
    result = store.ingest([_only(tmp_path / "data")])
    assert store.cases() == ()
    assert list(result.rejected.values()) == [read_json(store.root / "rejected.json").popitem()[1]["why"]]
    _edit(tmp_path / "data", PatientID=dcmread(next((tmp_path / "data" / "ct").iterdir())).PatientID)
    assert store.ingest([_only(tmp_path / "data")]).added == 1
    assert read_json(store.root / "rejected.json") == {}
