"""A CT finds its RTSTRUCT by what it refers to; what does not fit together is listed, never used."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from pydicom import dcmread
from pydicom.dataset import Dataset

from orgseg_node.core.checks import Level
from orgseg_node.core.contours import trace
from orgseg_node.core.geometry import Grid
from orgseg_node.core.organs import OrganTable, load_organs
from orgseg_node.core.volume import LabelMap
from orgseg_node.dicom.objects.rtstruct import write_rtstruct
from orgseg_node.dicom.reading.series import Inventory, files_in, survey
from orgseg_node.shipped import shipped_config
from orgseg_training.datasets.case import OrganState
from orgseg_training.datasets.case_store import CaseStore
from orgseg_training.datasets.description import load_data_set
from orgseg_training.datasets.organ_names import organ_names
from orgseg_training.datasets.registry import open_database
from orgseg_training.datasets.rtstruct.ct_survey import survey_each
from orgseg_training.durable import read_json
from orgseg_training.errors import CaseRejected
from tests.support.ct.header_writing import put
from tests.support.ct.objects import PROVENANCE, series_of
from tests.support.ct.phantom import FEET_FIRST, PRONE, PhantomOptions, label_map_of

Names = Mapping[str, str]
"""Names that ROIs get, by the name they have."""

SMALL = PhantomOptions(slices=16, rows=32, columns=32, pixel_spacing_mm=(6.0, 6.0), slice_spacing_mm=4.5)
LEFT, RIGHT = "parotid_left", "parotid_right"


def write_patient(
    folder: Path,
    table: OrganTable,
    options: PhantomOptions | None = None,
    change: Callable[[Dataset], object] | None = None,
    labels: Callable[[LabelMap], LabelMap] = lambda label_map: label_map,
) -> None:
    """A CT and, elsewhere, its RTSTRUCT, after a change."""
    series = series_of(folder / "ct", options or SMALL)
    dataset = write_rtstruct(trace(labels(label_map_of(series.geometry, table))), series, PROVENANCE)
    (folder / "plans").mkdir()
    path = folder / "plans" / "structures"
    by_a_person(dataset)
    dataset.save_as(path, enforce_file_format=True)
    if change is not None:
        dataset = dcmread(path)
        change(dataset)
        dataset.save_as(path, enforce_file_format=True)


def by_a_person(dataset: Dataset) -> None:
    """Mark a structure set as drawn by a person in a planning system, and not approved."""
    dataset.Manufacturer = dataset.ManufacturerModelName = "TPS"
    for roi in dataset.StructureSetROISequence:
        roi.ROIGenerationAlgorithm = "MANUAL"


def rename(names: Names) -> Callable[[Dataset], None]:
    """A change of ROI names."""

    def changed(dataset: Dataset) -> None:
        for roi in dataset.StructureSetROISequence:
            roi.ROIName = names.get(roi.ROIName, roi.ROIName)

    return changed


def stored(folder: Path, out: Path, kind: str = "dicom-rtstruct", **options: object) -> CaseStore:
    """The ingested folder."""
    store = CaseStore(out)
    store.ingest(open_database(kind, "db", folder, options))
    return store


def why(store: CaseStore) -> list[tuple[str, str]]:
    """Code and reason of every rejected scan."""
    return [(entry["code"], entry["why"]) for entry in read_json(store.root / "rejected.json").values()]


@pytest.mark.parametrize(
    "options",
    [
        PhantomOptions(),
        PhantomOptions(orientation=FEET_FIRST, patient_position="FFS"),
        PhantomOptions(orientation=PRONE, patient_position="HFP"),
    ],
    ids=["head first", "feet first", "prone"],
)
def test_contours_come_back_in_the_patient_whatever_way_it_lay(
    options: PhantomOptions, organ_table: OrganTable, tmp_path: Path
) -> None:
    write_patient(tmp_path / "data", organ_table, options)
    (case,) = stored(tmp_path / "data", tmp_path / "store").cases()
    assert case.drawn == {"brainstem", "spinal_cord", LEFT, RIGHT, "mandible", "parotids"}
    assert case.state("liver") is OrganState.NOT_DRAWN
    grid = case.volume().grid
    truth = label_map_of(grid, organ_table)
    for number, organ in truth.organs.items():
        assert np.array_equal(case.mask(organ.key), truth.mask(number)), organ.key
    x = grid.to_lps(np.argwhere(case.mask(LEFT)))[:, 0].mean()
    assert x > 40


def test_slices_at_uneven_places_get_masks_on_the_regular_grid(
    organ_table: OrganTable, tmp_path: Path
) -> None:
    places = [-36.0 + 3.0 * k + (0.4 if k % 3 == 1 else 0.0) for k in range(24)]
    write_patient(tmp_path / "data", organ_table, PhantomOptions(positions_mm=places))
    (case,) = stored(tmp_path / "data", tmp_path / "store").cases()
    truth = label_map_of(case.volume().grid, organ_table)
    for number, organ in truth.organs.items():
        mask, wanted = case.mask(organ.key), truth.mask(number)
        assert 2 * (mask & wanted).sum() / (mask.sum() + wanted.sum()) > 0.9, organ.key


def test_no_name_tells_the_patient_and_scans_of_one_patient_share_a_number(
    organ_table: OrganTable, tmp_path: Path
) -> None:
    for study in ("first", "second"):
        options = PhantomOptions(
            study=study, patient_id="1234567", attributes={"PatientAge": "018M", "PatientBirthDate": ""}
        )
        write_patient(tmp_path / study, organ_table, options)
    first, second = open_database("dicom-rtstruct", "db", tmp_path, {})
    assert first.patient == second.patient
    assert first.name != second.name
    assert "1234567" not in first.key + first.patient
    assert first.age_years == pytest.approx(1.5)


def test_names_that_mean_no_organ_are_listed_and_a_site_adds_its_own(
    organ_table: OrganTable, tmp_path: Path
) -> None:
    names = {"Parotid_L": "Ohrspeichel li", "Brainstem": "zz opt Brainstem"}
    write_patient(tmp_path / "data", organ_table, change=rename(names))
    store = stored(tmp_path / "data", tmp_path / "first")
    (case,) = store.cases()
    assert case.drawn == {"spinal_cord", RIGHT, "mandible"}
    assert case.state(LEFT) is OrganState.NOT_DRAWN
    assert read_json(store.root / "unused.json") == {name: [case.key] for name in names.values()}
    rois = {LEFT: ["ohrspeichel LI"]}
    (case,) = stored(tmp_path / "data", tmp_path / "second", rois=rois).cases()
    assert {LEFT, "parotids"} <= case.drawn


def test_an_roi_of_a_template_without_contours_was_not_drawn(organ_table: OrganTable, tmp_path: Path) -> None:
    def emptied(dataset: Dataset) -> None:
        del dataset.ROIContourSequence[0].ContourSequence

    write_patient(tmp_path / "data", organ_table, change=emptied)
    (case,) = stored(tmp_path / "data", tmp_path / "store").cases()
    assert len(case.states) == 5 - 1 + (len(case.drawn & {LEFT, RIGHT}) == 2)
    assert set(case.states.values()) == {OrganState.DRAWN}
    (finding,) = [one for one in case.findings if one.code == "ROI_EMPTY"]
    assert finding.organ not in case.drawn
    assert "has no contours" in finding.message


def test_an_unneeded_roi_with_faults_does_no_harm(organ_table: OrganTable, tmp_path: Path) -> None:
    def spoilt(dataset: Dataset) -> None:
        roi = next(r for r in dataset.StructureSetROISequence if r.ROIName == "Brainstem")
        roi.ROIName = "Couch"
        roi.ReferencedFrameOfReferenceUID = "1.2.3"

    write_patient(tmp_path / "data", organ_table, change=spoilt)
    (case,) = stored(tmp_path / "data", tmp_path / "store").cases()
    assert case.drawn == {"spinal_cord", LEFT, RIGHT, "mandible", "parotids"}


def without_images(dataset: Dataset) -> None:
    """Remove the references of all contours."""
    for roi in dataset.ROIContourSequence:
        for contour in roi.ContourSequence:
            del contour.ContourImageSequence


def _other_patient(dataset: Dataset) -> None:
    dataset.PatientID = "SOMEBODY-ELSE"


def _other_frame(dataset: Dataset) -> None:
    for roi in dataset.StructureSetROISequence:
        roi.ReferencedFrameOfReferenceUID = "1.2.3"


def _other_series(dataset: Dataset) -> None:
    study = dataset.ReferencedFrameOfReferenceSequence[0].RTReferencedStudySequence[0]
    study.RTReferencedSeriesSequence[0].SeriesInstanceUID = "1.2.3"


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (_other_patient, "of another patient"),
        (_other_frame, "frame of reference is another one"),
        (
            rename(
                dict.fromkeys(("Parotid_L", "Parotid_R", "Brainstem", "SpinalCord", "Bone_Mandible"), "x")
            ),
            "x, x",
        ),
    ],
)
def test_what_does_not_fit_is_rejected_with_its_reason(
    change: Callable[[Dataset], None], message: str, organ_table: OrganTable, tmp_path: Path
) -> None:
    write_patient(tmp_path / "data", organ_table, change=change)
    store = stored(tmp_path / "data", tmp_path / "store")
    ((code, reason),) = why(store)
    assert code == "TRAINING_CASE_REJECTED"
    assert message in reason
    assert store.cases() == ()
    assert not list(store.root.rglob("*.nii.gz"))


def test_exchanged_sides_are_seen(organ_table: OrganTable, tmp_path: Path) -> None:
    names = {"Parotid_L": "Parotid_R", "Parotid_R": "Parotid_L"}
    write_patient(tmp_path / "data", organ_table, change=rename(names))
    (case,) = stored(tmp_path / "data", tmp_path / "store").cases()
    assert case.drawn == {"brainstem", "spinal_cord", "mandible"}
    assert {LEFT, RIGHT, "parotids"}.isdisjoint(case.states)
    (message,) = {f.message.partition(": ")[2] for f in case.findings if f.code == "ROI_LEFT_OUT"}
    assert f"{RIGHT} is not right of {LEFT}" in message


def test_a_ct_alone_and_an_rtstruct_alone_are_listed(organ_table: OrganTable, tmp_path: Path) -> None:
    def other(dataset: Dataset) -> None:
        _other_series(dataset)
        without_images(dataset)

    write_patient(tmp_path / "data", organ_table, change=other)
    reasons = sorted(reason for _, reason in why(stored(tmp_path / "data", tmp_path / "store")))
    assert ["No RTSTRUCT refers" in reasons[0], "is not here" in reasons[1]] == [True, True]
    assert len(reasons) == 2


def test_of_several_the_one_approved_counts(organ_table: OrganTable, tmp_path: Path) -> None:
    write_patient(tmp_path / "data", organ_table)
    path = tmp_path / "data" / "plans" / "structures"
    other = dcmread(path)
    rename({"Parotid_L": "Approved"})(other)
    other.SOPInstanceUID = other.file_meta.MediaStorageSOPInstanceUID = "1.2.3.4"
    other.save_as(path.with_name("other"), enforce_file_format=True)
    ((_, reason),) = why(stored(tmp_path / "data", tmp_path / "first"))
    assert "2 RTSTRUCTs refer to this CT, and neither label, plan, approval nor date" in reason
    other.ApprovalStatus = "APPROVED"
    other.save_as(path.with_name("other"), enforce_file_format=True)
    (case,) = stored(tmp_path / "data", tmp_path / "second").cases()
    assert LEFT not in case.drawn


def test_damaged_files_are_listed(organ_table: OrganTable, tmp_path: Path) -> None:
    write_patient(tmp_path / "data", organ_table)
    structures = tmp_path / "data" / "plans" / "structures"
    structures.write_bytes(structures.read_bytes()[:-2000])
    codes = sorted(code for code, _ in why(stored(tmp_path / "data", tmp_path / "first")))
    assert codes == ["INPUT_TRUNCATED", "TRAINING_CASE_REJECTED"]


PUBLIC = {
    "pediatric-ct-seg": {
        "Adrenal-Left": "adrenal_gland_left", "Bladder": "urinary_bladder", "Bones": "whole_bones",
        "Esophagus": "esophagus", "Femoral-Head-Lef": "femoral_head_left",
        "Femoral-Head-Rig": "femoral_head_right", "Gall-Bladder": "gall_bladder", "Heart": "heart",
        "Kidney-Left": "kidney_left", "KIDNEY_RIGHT": "kidney_right", "Large-Intestine": "colon",
        "Liver": "liver", "Lung_L": "lung_left", "Lung_R": "lung_right", "Pancreas": "pancreas",
        "Rectum": "rectum", "Small-Intestine": "small_bowel", "Spleen": "spleen", "Stomach": "stomach",
        "Spinal-Canal": "spinal_canal", "Skin": "skin", "Duodenum": "duodenum", "Prostate": "prostate",
        "Uterus": "uterus", "Thymus": None, "Breast-Left": "breast_left",
    },
    "lctsc": {
        "Esophagus": "esophagus", "Heart": "heart", "Lung_L": "lung_left", "Lung_R": "lung_right",
        "SpinalCord": "spinal_cord", "GTV": None,
    },
    "dicom-rtstruct": {
        "Glnd_Adrenal_L": "adrenal_gland_left", "A_Aorta": "aorta", "Lt Lung": "lung_left",
        "SPINAL CORD": "spinal_cord", "SpinalCanal": "spinal_canal", "SpinalCord_PRV05": None,
        "PTV_6000": None, "Bladder": "urinary_bladder", "Kidney_L old": None,
    },
}  # fmt: skip


@pytest.mark.parametrize("kind", sorted(PUBLIC))
def test_names_mean_what_the_data_set_says(kind: str) -> None:
    names = organ_names(load_data_set(kind), load_organs(shipped_config("organs.toml")), {})
    assert {name: names.organ(name) for name in PUBLIC[kind]} == PUBLIC[kind]


def _thorax(label_map: LabelMap) -> LabelMap:
    """Five organs of LCTSC on the phantom's CT."""
    grid = label_map.grid
    assert isinstance(grid, Grid)
    table = load_organs(shipped_config("organs.toml"))
    places = {
        "lung_left": (60, 0, 20), "lung_right": (-60, 0, 20), "heart": (10, -30, 12), "esophagus": (0, 20, 9),
        "spinal_cord": (0, 45, 9),
    }  # fmt: skip
    k, j, i = np.indices(grid.shape)
    points = grid.to_lps(np.stack([k, j, i], -1).reshape(-1, 3)).reshape(*grid.shape, 3)
    labels = np.zeros(grid.shape, np.uint8)
    for number, (x, y, radius) in enumerate(places.values(), 1):
        labels[np.hypot(points[..., 0] - x, points[..., 1] - y) <= radius] = number
    return LabelMap(grid=grid, labels=labels, organs={n: table[key] for n, key in enumerate(places, 1)})


@pytest.mark.parametrize("kind", ["lctsc", "pediatric-ct-seg"])
def test_a_public_tree_of_dicom(kind: str, organ_table: OrganTable, tmp_path: Path) -> None:
    names = (
        {}
        if kind == "lctsc"
        else {"Lung_L": "Lung-Left", "Lung_R": "LUNG-RIGHT", "SpinalCord": "Spinal-Canal"}
    )
    patient = tmp_path / "data" / "P-001" / "study"
    write_patient(patient, organ_table, change=rename(names), labels=_thorax)
    (case,) = stored(tmp_path / "data", tmp_path / "store", kind).cases()
    expected = {"heart", "esophagus", "lung_left", "lung_right", "lungs"}
    assert case.drawn == expected | {"spinal_cord" if kind == "lctsc" else "spinal_canal"}


def _off_plane(dataset: Dataset) -> None:
    contour = dataset.ROIContourSequence[0].ContourSequence[0]
    contour.ContourData = [v + (1.4 if n % 3 == 2 else 0) for n, v in enumerate(contour.ContourData)]


def _outside(dataset: Dataset) -> None:
    for contour in dataset.ROIContourSequence[0].ContourSequence:
        contour.ContourData = [v + (900 if n % 3 == 0 else 0) for n, v in enumerate(contour.ContourData)]


def _no_number(dataset: Dataset) -> None:
    del dataset.StructureSetROISequence[0].ROINumber


def _open(dataset: Dataset) -> None:
    for contour in dataset.ROIContourSequence[0].ContourSequence:
        contour.ContourGeometricType = "OPEN_PLANAR"


def _twice(dataset: Dataset) -> None:
    rename({"Bone_Mandible": "brain stem"})(dataset)


def _by_a_program(dataset: Dataset) -> None:
    dataset.StructureSetROISequence[0].ROIGenerationAlgorithm = "AUTOMATIC"


@pytest.mark.parametrize(
    ("change", "why_not"),
    [
        (_off_plane, "plane of a slice"),
        (_outside, "enclose no voxel"),
        (_no_number, "no number"),
        (_open, "OPEN_PLANAR"),
        (_twice, "the ROIs 'Brainstem' and 'brain stem' mean it and differ"),
        (_by_a_program, "nobody approved"),
    ],
)
def test_an_roi_that_cannot_be_used_is_listed_and_the_others_are_used(
    change: Callable[[Dataset], None], why_not: str, organ_table: OrganTable, tmp_path: Path
) -> None:
    write_patient(tmp_path / "data", organ_table, change=change)
    store = stored(tmp_path / "data", tmp_path / "store")
    (case,) = store.cases()
    assert case.state("brainstem") is OrganState.NOT_DRAWN
    assert {"spinal_cord", LEFT, RIGHT, "parotids"} <= case.drawn
    (finding,) = [one for one in case.findings if one.organ and one.level is Level.WARNING]
    assert (finding.code, finding.organ) == ("ROI_LEFT_OUT", "brainstem")
    assert why_not in finding.message
    assert finding.message in read_json(store.root / "findings.json")[case.key]


def test_of_a_pair_with_one_unusable_side_nothing_is_known(organ_table: OrganTable, tmp_path: Path) -> None:
    def change(dataset: Dataset) -> None:
        number = next(r.ROINumber for r in dataset.StructureSetROISequence if r.ROIName == "Parotid_L")
        roi = next(c for c in dataset.ROIContourSequence if c.ReferencedROINumber == number)
        contour = roi.ContourSequence[0]
        contour.ContourData = [v + (1.4 if n % 3 == 2 else 0) for n, v in enumerate(contour.ContourData)]

    write_patient(tmp_path / "data", organ_table, change=change)
    (case,) = stored(tmp_path / "data", tmp_path / "store").cases()
    assert set(case.states) == {"brainstem", "spinal_cord", RIGHT, "mandible"}


def _own(dataset: Dataset) -> None:
    dataset.Manufacturer = "orgseg_node"


def _all_by_a_program(dataset: Dataset) -> None:
    for roi in dataset.StructureSetROISequence:
        roi.ROIGenerationAlgorithm = "AUTOMATIC"


@pytest.mark.parametrize("change", [_own, _all_by_a_program])
def test_what_a_program_made_is_no_truth_unless_approved_or_asked_for(
    change: Callable[[Dataset], None], organ_table: OrganTable, tmp_path: Path
) -> None:
    write_patient(tmp_path, organ_table, change=change)
    (case,) = open_database("dicom-rtstruct", "db", tmp_path, {})
    with pytest.raises(CaseRejected, match="A program made its RTSTRUCT"):
        case.read()
    (case,) = open_database("dicom-rtstruct", "db", tmp_path, {"automatic": True})
    assert "brainstem" in case.annotated
    path = tmp_path / "plans" / "structures"
    dataset = dcmread(path)
    dataset.ApprovalStatus = "APPROVED"
    dataset.save_as(path, enforce_file_format=True)
    (case,) = open_database("dicom-rtstruct", "db", tmp_path, {})
    assert "brainstem" in case.annotated


def test_contours_of_a_person_count_beside_those_of_a_program(
    organ_table: OrganTable, tmp_path: Path
) -> None:
    write_patient(tmp_path / "data", organ_table)
    path = tmp_path / "data" / "plans" / "structures"
    other = dcmread(path)
    _own(other)
    rename({"Parotid_L": "of the program"})(other)
    other.SOPInstanceUID = other.file_meta.MediaStorageSOPInstanceUID = "1.2.3.4"
    other.save_as(path.with_name("other"), enforce_file_format=True)
    (case,) = open_database("dicom-rtstruct", "db", tmp_path / "data", {})
    assert LEFT in case.annotated


def _list_both(dataset: Dataset, uid: str) -> None:
    """Let a structure set list another series as well."""
    listed = dataset.ReferencedFrameOfReferenceSequence[0].RTReferencedStudySequence[0]
    also = Dataset()
    also.SeriesInstanceUID = uid
    listed.RTReferencedSeriesSequence.append(also)


def two_cts(folder: Path, table: OrganTable, change: Callable[[Dataset, str], object]) -> None:
    """Two CTs of one frame of reference, and a structure set that was drawn on the first."""
    frame = replace(SMALL, series="drawn", frame="shared")
    other = series_of(folder / "other", replace(SMALL, series="other", frame="shared"))
    write_patient(
        folder / "data", table, frame, change=lambda dataset: change(dataset, other.series_instance_uid)
    )


def test_the_images_of_the_contours_decide_between_two_listed_cts(
    organ_table: OrganTable, tmp_path: Path
) -> None:
    two_cts(tmp_path / "all", organ_table, _list_both)
    cases = open_database("dicom-rtstruct", "db", tmp_path / "all", {})
    drawn, other = sorted(cases, key=lambda case: not case.annotated)
    assert "brainstem" in drawn.read().masks
    with pytest.raises(CaseRejected, match="No RTSTRUCT refers to this CT"):
        other.read()


def test_contours_that_name_no_image_belong_to_neither_of_two_listed_cts(
    organ_table: OrganTable, tmp_path: Path
) -> None:
    def change(dataset: Dataset, uid: str) -> None:
        _list_both(dataset, uid)
        without_images(dataset)

    two_cts(tmp_path / "all", organ_table, change)
    cases = open_database("dicom-rtstruct", "db", tmp_path / "all", {})
    assert len(cases) == 2
    for case in cases:
        with pytest.raises(CaseRejected, match="may belong to 2 CTs"):
            case.read()


def test_an_roi_whose_contours_refer_to_images_elsewhere_was_not_drawn_on_this_ct(
    organ_table: OrganTable, tmp_path: Path
) -> None:
    def change(dataset: Dataset) -> None:
        for contour in dataset.ROIContourSequence[0].ContourSequence:
            contour.ContourImageSequence[0].ReferencedSOPInstanceUID = "1.2.3"

    write_patient(tmp_path, organ_table, change=change)
    (case,) = open_database("dicom-rtstruct", "db", tmp_path, {})
    assert case.annotated == {"spinal_cord", LEFT, RIGHT, "mandible", "parotids"}


def test_a_listed_ct_that_is_not_here_may_be_the_one_that_was_drawn_on(
    organ_table: OrganTable, tmp_path: Path
) -> None:
    def change(dataset: Dataset) -> None:
        _list_both(dataset, "1.2.3")
        without_images(dataset)

    write_patient(tmp_path, organ_table, change=change)
    (case,) = open_database("dicom-rtstruct", "db", tmp_path, {})
    with pytest.raises(CaseRejected, match="may belong to 2 CTs"):
        case.read()


def _no_listed_series(dataset: Dataset) -> None:
    del dataset.ReferencedFrameOfReferenceSequence[0].RTReferencedStudySequence


def _no_listed_series_nor_images(dataset: Dataset) -> None:
    _no_listed_series(dataset)
    without_images(dataset)


def _no_references(dataset: Dataset) -> None:
    del dataset.ReferencedFrameOfReferenceSequence
    without_images(dataset)


@pytest.mark.parametrize(
    ("change", "codes"),
    [
        (_no_listed_series, []),
        (_other_series, []),
        (_no_listed_series_nor_images, ["STRUCTURES_BY_FRAME"]),
        (_no_references, ["STRUCTURES_BY_FRAME"]),
    ],
)
def test_a_structure_set_finds_its_ct_by_what_it_does_refer_to(
    change: Callable[[Dataset], None], codes: list[str], organ_table: OrganTable, tmp_path: Path
) -> None:
    write_patient(tmp_path, organ_table, change=change)
    (case,) = open_database("dicom-rtstruct", "db", tmp_path, {})
    assert [one.code for one in case.read().findings if one.level is Level.WARNING] == codes


def test_files_without_preamble_are_read(organ_table: OrganTable, tmp_path: Path) -> None:
    write_patient(tmp_path / "data", organ_table)
    for path in (tmp_path / "data").rglob("*"):
        if path.is_file():
            content = path.read_bytes()
            path.write_bytes(content[144 + int.from_bytes(content[140:144], "little") :])
    (case,) = open_database("dicom-rtstruct", "db", tmp_path / "data", {})
    assert "brainstem" in case.read().masks


def test_a_patient_without_id_in_the_structure_set_is_known_by_the_images(
    organ_table: OrganTable, tmp_path: Path
) -> None:
    def change(dataset: Dataset) -> None:
        del dataset.PatientID

    write_patient(tmp_path, organ_table, change=change)
    (case,) = open_database("dicom-rtstruct", "db", tmp_path, {})
    assert "brainstem" in case.annotated


def test_one_damaged_structure_set_does_not_end_the_others(organ_table: OrganTable, tmp_path: Path) -> None:
    def damaged(dataset: Dataset) -> None:
        put(dataset, "StructureSetROISequence", b"no items", "UN")

    for name, change in (("odd", damaged), ("good", None)):
        options = replace(SMALL, study=name, series=name, frame=name)
        write_patient(tmp_path / "all" / name, organ_table, options, change)
    usable, rejected = sorted(
        open_database("dicom-rtstruct", "db", tmp_path / "all", {}), key=lambda case: not case.annotated
    )
    assert "brainstem" in usable.read().masks
    with pytest.raises(CaseRejected, match="None of its ROIs means an organ"):
        rejected.read()


def test_one_series_whose_survey_fails_does_not_hide_the_others(tmp_path: Path) -> None:
    for name in ("odd", "good"):
        series_of(tmp_path / name, PhantomOptions(slices=4, study=name, series=name, frame=name))

    def fails(paths: Sequence[Path]) -> Inventory:
        if any(path.parent.name == "odd" for path in paths):
            raise RecursionError
        return survey(paths)

    inventory, failed = survey_each(files_in(tmp_path), fails)
    (good,) = inventory.accepted
    assert good.slices[0].path.parent.name == "good"
    ((path, error),) = failed
    assert (path.parent.name, error.code) == ("odd", "TRAINING_CASE_UNEXPECTED")
