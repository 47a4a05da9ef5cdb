"""Structure sets of other systems: each ROI is judged on its own, and what is unusual is reported."""

from __future__ import annotations

import copy
from collections.abc import Callable, Sequence
from io import BytesIO

import numpy as np
import pytest
from pydicom import dcmread
from pydicom.dataset import Dataset
from pydicom.sequence import Sequence as DicomSequence

from orgseg_node.core.contours import trace
from orgseg_node.core.organs import OrganTable
from orgseg_node.core.volume import LabelMap, Mask
from orgseg_node.dicom.objects.clinical_rtstruct import (
    ClinicalRoi,
    clinical_rois,
    is_approved,
    is_own,
    read_roi,
    stray_contours,
)
from orgseg_node.dicom.objects.rtstruct import write_rtstruct
from orgseg_node.dicom.reading.series import CtSeries
from orgseg_node.errors import ObjectInvalid
from tests.support.ct.header_writing import put
from tests.support.ct.objects import PROVENANCE, series_of
from tests.support.ct.phantom import PhantomOptions, label_map_of

pytestmark = pytest.mark.filterwarnings("ignore::UserWarning:pydicom.*")

NAME = "Brainstem"
OTHERS = {"SpinalCord", "Parotid_L", "Parotid_R", "Bone_Mandible"}


@pytest.fixture(scope="module")
def ct(tmp_path_factory: pytest.TempPathFactory) -> CtSeries:
    """A phantom with slices of 3 mm."""
    return series_of(tmp_path_factory.mktemp("ct"), PhantomOptions(slices=24))


@pytest.fixture(scope="module")
def organs(ct: CtSeries, organ_table: OrganTable) -> LabelMap:
    return label_map_of(ct.grid, organ_table)


@pytest.fixture(scope="module")
def written(ct: CtSeries, organs: LabelMap) -> bytes:
    file = BytesIO()
    write_rtstruct(trace(organs), ct, PROVENANCE).save_as(file, enforce_file_format=True)
    return file.getvalue()


@pytest.fixture
def dataset(written: bytes) -> Dataset:
    """A new copy for each test."""
    return dcmread(BytesIO(written))


@pytest.fixture(scope="module")
def brainstem(organs: LabelMap) -> Mask:
    return organs.mask(next(n for n, organ in organs.organs.items() if organ.key == "brainstem"))


def item(dataset: Dataset, name: str = NAME) -> Dataset:
    """The contours of an ROI."""
    number = next(roi.ROINumber for roi in dataset.StructureSetROISequence if roi.ROIName == name)
    return next(one for one in dataset.ROIContourSequence if one.ReferencedROINumber == number)


def roi(dataset: Dataset, name: str = NAME) -> ClinicalRoi:
    return next(one for one in clinical_rois(dataset) if one.name == name)


def move(contour: Dataset, axis: int, by_mm: float) -> None:
    contour.ContourData = [
        float(v) + (by_mm if n % 3 == axis else 0) for n, v in enumerate(contour.ContourData)
    ]


def add_copy(dataset: Dataset, axis: int = 0, by_mm: float = 0.0) -> Dataset:
    """Add a contour that is there already, moved."""
    contour = copy.deepcopy(item(dataset).ContourSequence[3])
    if by_mm:
        move(contour, axis, by_mm)
    item(dataset).ContourSequence.append(contour)
    return contour


def set_types(dataset: Dataset, value: str | None) -> None:
    for contour in item(dataset).ContourSequence:
        if value is None:
            del contour.ContourGeometricType
        else:
            put(contour, "ContourGeometricType", value)


def _again_in_one(dataset: Dataset) -> None:
    for contour in item(dataset).ContourSequence:
        contour.ContourData = [*contour.ContourData, *contour.ContourData]


def _backwards(dataset: Dataset) -> None:
    contour = add_copy(dataset)
    contour.ContourData = np.reshape(contour.ContourData, (-1, 3))[::-1].ravel().tolist()


def _in_two_items(dataset: Dataset) -> None:
    first = item(dataset)
    second = copy.deepcopy(first)
    first.ContourSequence, second.ContourSequence = first.ContourSequence[:4], second.ContourSequence[4:]
    dataset.ROIContourSequence.append(second)


def _nothing_for_nobody(dataset: Dataset) -> None:
    stranger = Dataset()
    stranger.ROIDisplayColor = [1, 2, 3]
    dataset.ROIContourSequence.append(stranger)


def _no_frame(dataset: Dataset) -> None:
    for one in dataset.StructureSetROISequence:
        del one.ReferencedFrameOfReferenceUID


def _points(dataset: Dataset, count: int) -> None:
    contour = add_copy(dataset)
    contour.ContourData = contour.ContourData[: 3 * count]


def _data(dataset: Dataset, value: str) -> None:
    put(add_copy(dataset), "ContourData", value)


def _commas(dataset: Dataset) -> None:
    for contour in item(dataset).ContourSequence:
        put(contour, "ContourData", "\\".join(f"{v:.3f}" for v in contour.ContourData).replace(".", ","))


def _backslash_at_the_end(dataset: Dataset) -> None:
    contour = item(dataset).ContourSequence[3]
    put(contour, "ContourData", "\\".join(str(v) for v in contour.ContourData) + "\\")


def _refer(dataset: Dataset, to: int) -> None:
    """Let a contour refer to the image of another one."""
    contours = item(dataset).ContourSequence
    contours[0].ContourImageSequence = contours[to].ContourImageSequence


def _all_refer_to_one(dataset: Dataset) -> None:
    for contour in item(dataset).ContourSequence:
        contour.ContourImageSequence = item(dataset).ContourSequence[0].ContourImageSequence


def _frameless(dataset: Dataset) -> None:
    """No ROI states a frame of reference, and the structure set lists two."""
    for one in dataset.StructureSetROISequence:
        one.ReferencedFrameOfReferenceUID = ""
    other = Dataset()
    other.FrameOfReferenceUID = "1.2.3"
    dataset.ReferencedFrameOfReferenceSequence.append(other)
    dataset.pop("FrameOfReferenceUID", None)


def _each(dataset: Dataset, keyword: str, change: Callable[[Dataset], str]) -> None:
    for contour in item(dataset).ContourSequence:
        put(contour, keyword, change(contour))


def _exponents(contour: Dataset) -> str:
    return " \\ ".join(f"{float(v):+.6e}" for v in contour.ContourData)


def _negative_number(dataset: Dataset) -> None:
    contours = item(dataset)
    for one in dataset.StructureSetROISequence:
        if one.ROINumber == contours.ReferencedROINumber:
            one.ROINumber = -7
    contours.ReferencedROINumber = -7


def _all_off(dataset: Dataset) -> None:
    for contour in item(dataset).ContourSequence:
        move(contour, 2, 0.35)


def _listed_again(dataset: Dataset) -> None:
    dataset.StructureSetROISequence.append(copy.deepcopy(dataset.StructureSetROISequence[0]))


def _a_point(dataset: Dataset) -> None:
    add_copy(dataset, 0, 5.0).ContourGeometricType = "POINT"


@pytest.mark.parametrize(
    ("change", "codes"),
    [
        (lambda _: None, []),
        (add_copy, ["REPEATED"]),
        (lambda d: add_copy(d, 0, 0.001), ["REPEATED"]),
        (_backwards, ["REPEATED"]),
        (_again_in_one, ["REPEATED"]),
        (_in_two_items, []),
        (_nothing_for_nobody, []),
        (_no_frame, []),
        (lambda d: set_types(d, "closed_planar"), []),
        (lambda d: set_types(d, "CLOSED PLANAR"), []),
        (lambda d: set_types(d, "CLOSED_PLANAR_XOR"), []),
        (lambda d: set_types(d, ""), ["UNTYPED"]),
        (lambda d: set_types(d, None), ["UNTYPED"]),
        (_a_point, ["POINT"]),
        (lambda d: _points(d, 1), ["SHORT"]),
        (lambda d: _points(d, 2), ["SHORT"]),
        (lambda d: _data(d, ""), ["EMPTY"]),
        (lambda d: _data(d, "\\\\"), ["EMPTY"]),
        (lambda d: delattr(add_copy(d), "ContourData"), ["EMPTY"]),
        (_commas, ["DECIMAL_COMMA"]),
        (_backslash_at_the_end, []),
        (_all_off, ["OFF_PLANE"]),
        (lambda d: add_copy(d, 2, -200.0), ["BEYOND"]),
        (lambda d: add_copy(d, 2, 300.0), ["BEYOND"]),
        (lambda d: add_copy(d, 0, 900.0), ["BESIDE"]),
        (lambda d: _refer(d, 5), ["OTHER_SLICE"]),
        (_all_refer_to_one, ["OTHER_SLICE"]),
        (_frameless, ["NO_FRAME"]),
        (lambda d: _each(d, "ContourData", _exponents), []),
        (lambda d: _each(d, "ContourGeometricType", lambda _: "CLOSED_PLANAR\0"), []),
        (lambda d: _each(d, "NumberOfContourPoints", lambda _: "3"), []),
        (_negative_number, []),
        (_listed_again, []),
    ],
)
def test_what_is_harmless_gives_the_same_voxels_and_a_finding(
    change: Callable[[Dataset], object], codes: Sequence[str], dataset: Dataset, ct: CtSeries, brainstem: Mask
) -> None:
    change(dataset)
    drawn = read_roi(roi(dataset), ct, "brainstem")
    assert np.array_equal(drawn.mask, brainstem)
    assert [finding.code for finding in drawn.findings] == [f"ROI_CONTOURS_{code}" for code in codes]
    assert all(finding.organ == "brainstem" for finding in drawn.findings)


@pytest.mark.parametrize(
    ("change", "code", "grows"),
    [
        (lambda d: add_copy(d, 0, 8.0), "OVERLAP", True),
        (
            lambda d: _scaled(add_copy(d), 0.4),
            "NESTED",
            False,
        ),
    ],
)
def test_contours_of_one_slice_unite_and_are_reported(
    change: Callable[[Dataset], object],
    code: str,
    grows: bool,  # noqa: FBT001
    dataset: Dataset,
    ct: CtSeries,
    brainstem: Mask,
) -> None:
    change(dataset)
    drawn = read_roi(roi(dataset), ct, "brainstem")
    assert not (brainstem & ~drawn.mask).any()
    assert (drawn.mask.sum() > brainstem.sum()) == grows
    assert [finding.code for finding in drawn.findings] == [f"ROI_CONTOURS_{code}"]


def _scaled(contour: Dataset, factor: float) -> None:
    points = np.reshape(contour.ContourData, (-1, 3)).astype(float)
    contour.ContourData = (
        (points.mean(axis=0) + factor * (points - points.mean(axis=0))).round(3).ravel().tolist()
    )


def test_exclusive_contours_leave_a_hole(dataset: Dataset, ct: CtSeries, brainstem: Mask) -> None:
    _scaled(add_copy(dataset), 0.5)
    set_types(dataset, "CLOSEDPLANAR_XOR")
    drawn = read_roi(roi(dataset), ct, "brainstem")
    assert not (drawn.mask & ~brainstem).any()
    assert drawn.mask.sum() < brainstem.sum()
    assert drawn.findings == ()


def _between(dataset: Dataset) -> None:
    move(item(dataset).ContourSequence[3], 2, 1.4)


def _tilted(dataset: Dataset) -> None:
    contour = item(dataset).ContourSequence[3]
    points = np.reshape(contour.ContourData, (-1, 3)).astype(float)
    points[:, 2] += np.linspace(-4, 4, len(points))
    contour.ContourData = points.ravel().tolist()


def _mirrored(dataset: Dataset) -> None:
    """Each contour lies as far below the middle of the ROI as its image lies above it."""
    contours = item(dataset).ContourSequence
    references = [contour.ContourImageSequence for contour in contours]
    for contour, images in zip(contours, reversed(references), strict=True):
        contour.ContourImageSequence = images


def _on_missing_images(dataset: Dataset) -> None:
    _between(dataset)
    for contour in item(dataset).ContourSequence:
        for image in contour.ContourImageSequence:
            image.ReferencedSOPInstanceUID = "1.2.3"


def _aside(dataset: Dataset) -> None:
    for contour in item(dataset).ContourSequence:
        move(contour, 0, 900)


def _other_frame(dataset: Dataset) -> None:
    for one in dataset.StructureSetROISequence:
        if one.ROIName == NAME:
            one.ReferencedFrameOfReferenceUID = "1.2.3"


def _words(dataset: Dataset) -> None:
    put(item(dataset).ContourSequence[3], "ContourData", "1\\2\\x")


def _four_numbers(dataset: Dataset) -> None:
    put(item(dataset).ContourSequence[3], "ContourData", "1\\2\\3\\4")


def _same_number(dataset: Dataset) -> None:
    _listed_again(dataset)
    dataset.StructureSetROISequence[-1].ROIName = "Other"


@pytest.mark.parametrize(
    ("change", "why"),
    [
        (_between, "not in the plane of a slice"),
        (_tilted, "not in the plane of a slice"),
        (_on_missing_images, "an image that is not in this CT"),
        (_aside, "enclose no voxel"),
        (_mirrored, "other slices than those"),
        (_other_frame, "frame of reference"),
        (_words, "not a number"),
        (_four_numbers, "x, y and z"),
        (_same_number, "another ROI has its number"),
        (lambda d: set_types(d, "OPEN_PLANAR"), "not closed but OPEN_PLANAR"),
        (lambda d: set_types(d, "open_nonplanar"), "not closed but open_nonplanar"),
        (lambda d: set_types(d, "POINT"), "not closed but POINT"),
        (lambda d: set_types(d, "CLOSED\\PLANAR\\X"), "not closed but"),
        (lambda d: put(item(d).ContourSequence[3], "ContourGeometricType", "OPEN_PLANAR"), "not closed but"),
        (lambda d: put(item(d).ContourSequence[3], "ContourGeometricType", "x"), "not closed but x"),
    ],
)
def test_what_is_ambiguous_makes_this_roi_unusable_and_no_other(
    change: Callable[[Dataset], object], why: str, dataset: Dataset, ct: CtSeries
) -> None:
    change(dataset)
    assert {one.name for one in clinical_rois(dataset)} >= {NAME, *OTHERS}, "nothing vanishes"
    with pytest.raises(ObjectInvalid, match=why):
        read_roi(roi(dataset), ct, "brainstem")
    for name in OTHERS:
        assert read_roi(roi(dataset, name), ct, name).mask.any()


def test_an_roi_without_number_or_name_is_listed(dataset: Dataset) -> None:
    del dataset.StructureSetROISequence[0].ROINumber
    del dataset.StructureSetROISequence[1].ROIName
    first, second, *_ = clinical_rois(dataset)
    assert "no number" in first.fault
    assert second.name == "(without a name) number 2"


def test_contours_that_belong_to_no_roi_are_counted(dataset: Dataset) -> None:
    assert stray_contours(dataset) == 0
    del dataset.ROIContourSequence[0].ReferencedROINumber
    dataset.ROIContourSequence[1].ReferencedROINumber = 99
    assert stray_contours(dataset) == 2


def test_an_roi_without_contours_is_not_among_them(dataset: Dataset) -> None:
    item(dataset).ContourSequence = DicomSequence()
    assert {one.name for one in clinical_rois(dataset)} == OTHERS


def test_who_made_it_and_who_approved_it(dataset: Dataset) -> None:
    assert is_own(dataset)
    assert not is_approved(dataset)
    assert all(one.is_automatic for one in clinical_rois(dataset))
    dataset.Manufacturer = dataset.ManufacturerModelName = "TPS"
    dataset.ApprovalStatus = "approved"
    assert not is_own(dataset)
    assert is_approved(dataset)
