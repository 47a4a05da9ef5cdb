"""The tables of the standard say what an object lacks, down into its sequences."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest
from pydicom.dataset import Dataset

from orgseg_node.core.contours import trace
from orgseg_node.core.volume import LabelMap
from orgseg_node.dicom.objects.iod import missing
from orgseg_node.dicom.objects.pdf import write_pdf
from orgseg_node.dicom.objects.rtstruct import write_rtstruct
from orgseg_node.dicom.objects.seg import SegKind, write_seg
from orgseg_node.dicom.objects.sr import write_report_sr
from orgseg_node.dicom.reading.series import CtSeries
from orgseg_node.errors import ObjectInvalid
from tests.support.ct.objects import PROVENANCE

Make = Callable[[], Dataset]


@pytest.fixture(scope="module")
def make(series: CtSeries, label_map: LabelMap) -> dict[str, Make]:
    """Every kind of object that the node writes, newly made at each call."""

    def seg() -> Dataset:
        return write_seg(label_map, series, PROVENANCE)

    return {
        "RTSTRUCT": lambda: write_rtstruct(trace(label_map), series, PROVENANCE, segmentation=seg()),
        "SEG": seg,
        "LABELMAP": lambda: write_seg(label_map, series, PROVENANCE, kind=SegKind.LABELMAP),
        "SR": lambda: write_report_sr(label_map, series, PROVENANCE, seg()),
        "PDF": lambda: write_pdf(b"%PDF-1.4\n%%EOF\n", series, PROVENANCE),
    }


def _items(dataset: Dataset, steps: list[str], keyword: str) -> Iterator[Dataset]:
    """The items at the end of a path of sequences that hold an attribute."""
    if not steps:
        yield from [dataset] if keyword in dataset else []
    for item in dataset.get(steps[0]) or () if steps else ():
        yield from _items(item, steps[1:], keyword)


@pytest.mark.parametrize("kind", ["RTSTRUCT", "SEG", "LABELMAP", "SR", "PDF"])
def test_what_the_node_writes_lacks_nothing(kind: str, make: dict[str, Make]) -> None:
    assert missing(make[kind]()) == ()


@pytest.mark.parametrize(
    ("kind", "path", "number"),
    [
        ("RTSTRUCT", "StructureSetLabel", 1),
        ("RTSTRUCT", "PatientBirthDate", 2),
        ("RTSTRUCT", "OperatorsName", 2),
        ("RTSTRUCT", "ApprovalStatus", 1),
        ("RTSTRUCT", "StructureSetROISequence/ROINumber", 1),
        ("RTSTRUCT", "StructureSetROISequence/ROIName", 2),
        ("RTSTRUCT", "StructureSetROISequence/ROIGenerationAlgorithm", 2),
        ("RTSTRUCT", "ROIContourSequence/ReferencedROINumber", 1),
        ("RTSTRUCT", "ROIContourSequence/ContourSequence/ContourGeometricType", 1),
        ("RTSTRUCT", "ROIContourSequence/ContourSequence/ContourData", 1),
        ("RTSTRUCT", "RTROIObservationsSequence/RTROIInterpretedType", 2),
        ("RTSTRUCT", "ReferencedFrameOfReferenceSequence/FrameOfReferenceUID", 1),
        ("SEG", "ContentLabel", 1),
        ("SEG", "SegmentSequence/SegmentLabel", 1),
        ("SEG", "SegmentSequence/SegmentedPropertyTypeCodeSequence", 1),
        ("SEG", "SegmentSequence/SegmentedPropertyCategoryCodeSequence/CodeMeaning", 1),
        ("SEG", "DimensionOrganizationSequence/DimensionOrganizationUID", 1),
        ("LABELMAP", "SegmentSequence/SegmentNumber", 1),
        ("SR", "CompletionFlag", 1),
        ("SR", "VerificationFlag", 1),
        ("SR", "ContentSequence/RelationshipType", 1),
        ("SR", "ContentSequence/ContentSequence/ContentSequence/ValueType", 1),
        ("SR", "ContentSequence/ContentSequence/ContentSequence/ReferencedSOPSequence", 1),
        ("SR", "ContentSequence/ContentSequence/ContentSequence/ConceptCodeSequence", 1),
        ("SR", "ContentSequence/ContentSequence/ContentSequence/MeasuredValueSequence", 2),
        ("PDF", "EncapsulatedDocument", 1),
        ("PDF", "MIMETypeOfEncapsulatedDocument", 1),
        ("PDF", "DocumentTitle", 2),
    ],
)
def test_what_is_taken_out_is_missed(kind: str, path: str, number: int, make: dict[str, Make]) -> None:
    dataset = make[kind]()
    *steps, keyword = path.split("/")
    item = next(_items(dataset, steps, keyword))
    was = item[keyword]
    if kind == "RTSTRUCT" and keyword == "ApprovalStatus":
        dataset.ReviewerName = ""  # still an approval, so that the module is there
    del item[keyword]
    found = missing(dataset)
    assert [text for text in found if text.endswith(f"{keyword} is missing (type {number})")], found
    item[keyword] = was
    was.clear()
    says_empty = [text for text in missing(dataset) if text.endswith(f"{keyword} is empty (type 1)")]
    assert bool(says_empty) is (number == 1)


def test_the_path_in_the_sequences_is_reported(make: dict[str, Make]) -> None:
    dataset = make["RTSTRUCT"]()
    del dataset.ROIContourSequence[2].ContourSequence[1].ContourImageSequence[0].ReferencedSOPInstanceUID
    place = "ROIContourSequence[3].ContourSequence[2].ContourImageSequence[1].ReferencedSOPInstanceUID"
    assert missing(dataset) == (f"{place} is missing (type 1)",)


def test_a_module_that_is_not_there_need_not_be_complete(make: dict[str, Make]) -> None:
    dataset = make["RTSTRUCT"]()
    del dataset.ApprovalStatus
    assert missing(dataset) == ()


def test_an_unknown_kind_of_object_is_refused(make: dict[str, Make]) -> None:
    dataset = make["PDF"]()
    dataset.SOPClassUID = "1.2.3"
    with pytest.raises(ObjectInvalid, match="SOP class"):
        missing(dataset)
    with pytest.raises(ObjectInvalid, match="SOP class"):
        missing(Dataset())
