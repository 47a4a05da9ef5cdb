"""The structured report says how large each organ is, which segment it is, and that nobody reviewed it."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from io import BytesIO
from pathlib import Path

import highdicom as hd
import numpy as np
import pytest
from pydicom import dcmread
from pydicom.dataset import Dataset

from orgseg_node.core.checks import Finding, Level, check_labels
from orgseg_node.core.organs import OrganTable
from orgseg_node.core.volume import LabelMap
from orgseg_node.dicom.objects.iod import missing
from orgseg_node.dicom.objects.seg import SegKind, write_seg
from orgseg_node.dicom.objects.sr import NOTICE, write_report_sr
from orgseg_node.dicom.reading.series import CtSeries
from orgseg_node.errors import NothingFound, ObjectInvalid
from tests.support.ct.objects import PROVENANCE, SMALL, awkward_label_map, series_of

FOUND = ("A_Aorta", "Eye_L", "Liver", "Kidney_R", "Rectum")


@pytest.fixture(scope="module", params=SegKind)
def seg(request: pytest.FixtureRequest, series: CtSeries, label_map: LabelMap) -> Dataset:
    return write_seg(label_map, series, PROVENANCE, kind=request.param)


@pytest.fixture
def written(series: CtSeries, label_map: LabelMap, seg: Dataset) -> Dataset:
    return dcmread(
        BytesIO(_bytes(write_report_sr(label_map, series, PROVENANCE, seg, check_labels(label_map))))
    )


_OF_VALUE_TYPE = {  # which content items must have an attribute of the SR Document Content module (C.17.3)
    "ReferencedSOPSequence": {"IMAGE", "COMPOSITE", "WAVEFORM"},
    "MeasuredValueSequence": {"NUM"},
    "ConceptCodeSequence": {"CODE"},
    "ContinuityOfContent": {"CONTAINER"},
    "GraphicType": {"SCOORD", "SCOORD3D"},
    "GraphicData": {"SCOORD", "SCOORD3D"},
    "ReferencedFrameOfReferenceUID": {"SCOORD3D"},
    "TemporalRangeType": {"TCOORD"},
    "TabulatedValuesSequence": {"TABLE"},
}


def _lacking(dataset: Dataset) -> list[str]:
    """What the object lacks, without what its content items need only when they are of another value type."""
    found = []
    for lack in missing(dataset):
        *path, keyword = lack.split(" ")[0].split(".")
        item = dataset
        for step in path:
            sequence, number = step.rstrip("]").split("[")
            item = item[sequence].value[int(number) - 1]
        if item.get("ValueType") in _OF_VALUE_TYPE.get(keyword, {item.get("ValueType")}):
            found.append(lack)
    return found


def _bytes(dataset: Dataset) -> bytes:
    buffer = BytesIO()
    dataset.save_as(buffer, enforce_file_format=True)
    return buffer.getvalue()


def _items(dataset: Dataset) -> Iterator[Dataset]:
    """All content items, the outer ones first."""
    for item in dataset.get("ContentSequence", ()):
        yield item
        yield from _items(item)


def _named(dataset: Dataset, meaning: str) -> list[Dataset]:
    return [
        item
        for item in _items(dataset)
        if item.get("ConceptNameCodeSequence") and item.ConceptNameCodeSequence[0].CodeMeaning == meaning
    ]


def test_each_organ_has_its_volume(written: Dataset, label_map: LabelMap) -> None:
    groups = _named(written, "Measurement Group")
    names = [_named(group, "Tracking Identifier")[0].TextValue for group in groups]
    assert tuple(names) == FOUND
    for label, group in enumerate(groups, start=1):
        (volume,) = _named(group, "Volume")
        (measured,) = volume.MeasuredValueSequence
        voxels = int((label_map.labels == label).sum())
        assert float(measured.NumericValue) == pytest.approx(voxels * 4.0 * 4.0 * 2.5 / 1000, abs=5e-4)
        assert measured.MeasurementUnitsCodeSequence[0].CodeValue == "cm3"
        assert measured.MeasurementUnitsCodeSequence[0].CodingSchemeDesignator == "UCUM"


def test_each_group_is_tied_to_its_segment(written: Dataset, seg: Dataset, series: CtSeries) -> None:
    segments = {segment.SegmentLabel: segment for segment in seg.SegmentSequence}
    for group in _named(written, "Measurement Group"):
        segment = segments[_named(group, "Tracking Identifier")[0].TextValue]
        assert segment.TrackingUID == _named(group, "Tracking Unique Identifier")[0].UID
        (reference,) = _named(group, "Referenced Segment")[0].ReferencedSOPSequence
        assert reference.ReferencedSOPClassUID == seg.SOPClassUID
        assert reference.ReferencedSOPInstanceUID == seg.SOPInstanceUID
        assert reference.ReferencedSegmentNumber == segment.SegmentNumber
        assert series.series_instance_uid == _named(group, "Source Series for Segmentation")[0].UID
    (study,) = written.CurrentRequestedProcedureEvidenceSequence
    (evidence,) = study.ReferencedSeriesSequence
    assert evidence.SeriesInstanceUID == seg.SeriesInstanceUID


def test_finding_sites_have_their_side(written: Dataset, organ_table: OrganTable) -> None:
    groups = dict(zip(FOUND, _named(written, "Measurement Group"), strict=True))
    (site,) = _named(groups["Eye_L"], "Finding Site")
    assert site.ConceptCodeSequence[0].CodeValue == organ_table["eyeball_left"].code
    assert _named(site, "Laterality")[0].ConceptCodeSequence[0].CodeValue == "7771000"
    assert _named(groups["Kidney_R"], "Laterality")[0].ConceptCodeSequence[0].CodeValue == "24028007"
    assert not _named(groups["A_Aorta"], "Laterality")


def test_it_says_who_observed_and_that_nobody_reviewed(written: Dataset) -> None:
    assert written.CompletionFlag == "PARTIAL"
    assert written.VerificationFlag == "UNVERIFIED"
    assert written.PreliminaryFlag == "PRELIMINARY"
    assert written.ContentQualification == "RESEARCH"
    assert [item.TextValue for item in _named(written, "Comment")] == [NOTICE]
    (observer,) = _named(written, "Observer Type")
    assert observer.ConceptCodeSequence[0].CodeMeaning == "Device"
    assert not _named(written, "Person Observer Name")
    group = _named(written, "Measurement Group")[0]
    assert _named(group, "Algorithm Name")[0].TextValue == "starter + larynx"
    assert [item.TextValue for item in _named(group, "Algorithm Parameters")] == [
        f"starter 1.0 sha256={'ab' * 32}",
        f"larynx 2.0 sha256={'cd' * 32}",
    ]


def test_it_has_every_attribute_the_standard_requires(written: Dataset) -> None:
    assert _lacking(written) == []
    del _named(written, "Volume")[0].MeasuredValueSequence
    del written.PerformedProcedureCodeSequence
    assert [lack.split(".")[-1] for lack in _lacking(written)] == [
        "PerformedProcedureCodeSequence is missing (type 2)",
        "MeasuredValueSequence is missing (type 2)",
    ]


def test_volumes_of_irregular_slices_are_summed_slice_by_slice(
    tmp_path: Path, organ_table: OrganTable
) -> None:
    heights = (0.0, 3.0, 6.0, 12.0, 15.0, 18.0, 21.0, 24.0)
    series = series_of(tmp_path, replace(SMALL, positions_mm=heights))
    label_map = awkward_label_map(series.geometry, organ_table)
    seg = write_seg(label_map, series, PROVENANCE)
    written = write_report_sr(label_map, series, PROVENANCE, seg)
    thick = np.array([3.0, 3.0, 4.5, 4.5, 3.0, 3.0, 3.0, 3.0])
    for label, group in enumerate(_named(written, "Measurement Group"), start=1):
        voxels = (label_map.labels == label).sum(axis=(1, 2))
        (measured,) = _named(group, "Volume")[0].MeasuredValueSequence
        assert float(measured.NumericValue) == pytest.approx(voxels @ thick * 16.0 / 1000, abs=5e-4)


def test_findings_are_its_text(series: CtSeries, label_map: LabelMap, seg: Dataset) -> None:
    findings = (
        Finding(level=Level.WARNING, code="ORGAN_NOT_FOUND", message="Spleen was looked for and not found."),
        Finding(level=Level.INFO, code="OTHER", message="Gr\u00f6\u00dfe \u00b1 2\\3"),
    )
    written = write_report_sr(label_map, series, PROVENANCE, seg, findings)
    assert [item.TextValue for item in _named(written, "Finding") if "TextValue" in item] == [
        "WARNING ORGAN_NOT_FOUND: Spleen was looked for and not found.",
        "INFO OTHER: Grosse +- 2/3",
    ]


def test_highdicom_finds_the_groups_again(written: Dataset) -> None:
    report = hd.sr.srread(BytesIO(_bytes(written))).content
    groups = report.get_volumetric_roi_measurement_groups()
    assert [group.tracking_identifier for group in groups] == list(FOUND)
    assert groups[1].get_measurements()[0].value == pytest.approx(0.04)


def test_same_job_gives_the_same_bytes_and_another_job_another_object(
    series: CtSeries, label_map: LabelMap, seg: Dataset
) -> None:
    first, again = (write_report_sr(label_map, series, PROVENANCE, seg) for _ in range(2))
    other = write_report_sr(label_map, series, replace(PROVENANCE, job_id="job-2"), seg)
    assert _bytes(first) == _bytes(again)
    assert other.SOPInstanceUID != first.SOPInstanceUID


def test_patient_keeps_the_character_set(tmp_path: Path, organ_table: OrganTable) -> None:
    options = replace(SMALL, character_set="ISO_IR 144", patient_name="\u0418\u0432\u0430\u043d\u043e\u0432")
    series = series_of(tmp_path, options)
    label_map = awkward_label_map(series.grid, organ_table)
    seg = write_seg(label_map, series, PROVENANCE)
    written = dcmread(BytesIO(_bytes(write_report_sr(label_map, series, PROVENANCE, seg))))
    assert written.SpecificCharacterSet == "ISO_IR 144"
    assert str(written.PatientName) == options.patient_name
    assert "FrameOfReferenceUID" not in written


def test_segmentation_without_one_of_the_organs_is_refused(
    series: CtSeries, label_map: LabelMap, seg: Dataset
) -> None:
    fewer = Dataset()
    fewer.SegmentSequence = [one for one in seg.SegmentSequence if one.SegmentLabel != "Liver"]
    with pytest.raises(ObjectInvalid, match=r"\[3\]"):
        write_report_sr(label_map, series, PROVENANCE, fewer)


def test_nothing_found_is_an_error_and_not_written(
    series: CtSeries, label_map: LabelMap, seg: Dataset
) -> None:
    with pytest.raises(NothingFound):
        write_report_sr(replace(label_map, labels=np.zeros_like(label_map.labels)), series, PROVENANCE, seg)


def test_a_guided_result_says_so_in_report_and_segmentation(series: CtSeries, label_map: LabelMap) -> None:
    guided = replace(
        PROVENANCE, guidance="Guided by coarse 2: 2 of 3 networks searched only around its organs."
    )
    seg = write_seg(label_map, series, guided)
    report = write_report_sr(label_map, series, guided, seg, check_labels(label_map))
    (algorithm,) = seg.SegmentSequence[0].SegmentationAlgorithmIdentificationSequence
    assert algorithm.AlgorithmParameters.endswith(f"; {guided.guidance}")
    assert _bytes(report).count(guided.guidance.encode()) >= len(FOUND)
