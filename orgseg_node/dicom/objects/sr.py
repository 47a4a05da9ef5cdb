"""Writes the structured report: the volume of each organ, and the findings, in machine-readable form.

A Comprehensive SR with template TID 1500 (PS3.16), built by highdicom: one group of measurements for each
organ, linked to its segment in the Segmentation by reference and by tracking UID. The document is partial,
preliminary and unverified, because no person has reviewed it.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import highdicom as hd
from pydicom.dataset import Dataset, FileDataset
from pydicom.uid import ComprehensiveSRStorage, ExplicitVRLittleEndian

from orgseg_node.core.checks import Finding
from orgseg_node.core.organs import Organ
from orgseg_node.core.volume import LabelMap
from orgseg_node.dicom.objects.object_header import (
    algorithm_item,
    code_item,
    file_meta,
    organ_category,
    organ_code,
    set_equipment,
    set_patient_and_study,
    set_unreviewed,
    to_ascii,
)
from orgseg_node.dicom.objects.provenance import MANUFACTURER, MODEL_NAME, Provenance
from orgseg_node.dicom.objects.seg import is_alone, tracking_uid
from orgseg_node.dicom.objects.seg_proof import occurring_labels
from orgseg_node.dicom.objects.uids import derive_uid
from orgseg_node.dicom.reading.patient_study import TYPE_2
from orgseg_node.dicom.reading.series import CtSeries
from orgseg_node.errors import NothingFound, ObjectInvalid

SERIES_NUMBER = 9003
DESCRIPTION = "AUTO VOLUMES UNREVIEWED"
NOTICE = "Automatic, not reviewed. A qualified person must check the contours before use."

_VOLUME = ("118565006", "SCT", "Volume")
_CM3 = ("cm3", "UCUM", "cubic centimeter")  # CID 7462; one millilitre
_CT = ("77477000", "SCT", "Computed tomography")
_COMMENT = ("121106", "DCM", "Comment")
_FINDING = ("121071", "DCM", "Finding")
_EVALUATIONS = ("C0034375", "UMLS", "Qualitative Evaluations")
_ARTIFICIAL = ("123109", "DCM", "Artificial Intelligence")
_CONTAINS = hd.sr.RelationshipTypeValues.CONTAINS


def write_report_sr(
    label_map: LabelMap,
    series: CtSeries,
    provenance: Provenance,
    seg: Dataset | None,
    findings: Sequence[Finding] = (),
) -> FileDataset:
    """The structured report of a result, ready to be saved or sent.

    Parameters
    ----------
    label_map : organs on the slices of the series
    series : the CT of the label map
    provenance : job, time and models; the same job gives the same bytes
    seg : the Segmentation of the same label map, of either kind; None if the recipient does not get it: the
        groups then refer to no segment, and the report to the CT
    findings : each becomes one line of text

    Returns
    -------
    dataset in explicit VR little endian, with volumes in cm3 with three decimals

    Raises
    ------
    NothingFound
        If no voxel belongs to an organ.
    ObjectInvalid
        If the Segmentation lacks an organ of the label map.
    """
    labels = list(occurring_labels(label_map))
    if not labels:
        raise NothingFound
    segments = None if seg is None else _segments(label_map, labels, seg)
    volumes_ml = label_map.volumes_ml()
    groups = []
    for label in labels:
        organ = label_map.organs[label]
        if seg is None or segments is None:
            uid, name, referenced = tracking_uid(organ, provenance), to_ascii(organ.name), None
        else:
            segment = segments[label]
            uid, name = str(segment.TrackingUID), str(segment.TrackingID)
            referenced = _reference(seg, segment, series)
        tracked = hd.sr.TrackingIdentifier(uid=uid, identifier=name)
        groups.append(_group(organ, volumes_ml[label], tracked, referenced, provenance))
    content = hd.sr.MeasurementReport(
        observation_context=_observer(provenance),
        procedure_reported=_concept(*_CT),
        imaging_measurements=groups,
    )
    content[0].ContentSequence.append(_remarks(findings))
    return _document(content, series, provenance, seg)


def _segments(label_map: LabelMap, labels: Sequence[int], seg: Dataset) -> dict[int, Dataset]:
    """The segment of each label. Raises ObjectInvalid if one is missing."""
    segments = {str(one.SegmentLabel): one for one in seg.SegmentSequence if one.SegmentNumber != 0}
    names = {label: to_ascii(label_map.organs[label].name) for label in labels}
    missing = [label for label, name in names.items() if name not in segments]
    if missing:
        raise ObjectInvalid(f"The segmentation has no segment for labels {missing}.")
    return {label: segments[name] for label, name in names.items()}


def _reference(seg: Dataset, segment: Dataset, series: CtSeries) -> hd.sr.ReferencedSegment:
    return hd.sr.ReferencedSegment(
        sop_class_uid=str(seg.SOPClassUID),
        sop_instance_uid=str(seg.SOPInstanceUID),
        segment_number=int(segment.SegmentNumber),
        source_series=hd.sr.SourceSeriesForSegmentation(series.series_instance_uid),
    )


def _group(
    organ: Organ,
    volume_ml: float,
    tracked: hd.sr.TrackingIdentifier,
    referenced: hd.sr.ReferencedSegment | None,
    provenance: Provenance,
) -> hd.sr.MeasurementsAndQualitativeEvaluations | hd.sr.VolumetricROIMeasurementsAndQualitativeEvaluations:
    """The measurements of one organ: of its segment (TID 1411), or without a region (TID 1501)."""
    kind = hd.sr.CodedConcept.from_dataset(code_item(organ.code, "SCT", organ.meaning))
    side = next(iter(organ_code(organ).get("SegmentedPropertyTypeModifierCodeSequence", ())), None)
    laterality = None if side is None else hd.sr.CodedConcept.from_dataset(side)
    volume = hd.sr.Measurement(name=_concept(*_VOLUME), value=round(volume_ml, 3), unit=_concept(*_CM3))
    common: dict[str, Any] = {
        "tracking_identifier": tracked,
        "finding_type": kind,
        "finding_category": hd.sr.CodedConcept.from_dataset(organ_category(organ)),
        "finding_sites": [hd.sr.FindingSite(anatomic_location=kind, laterality=laterality)],
        "measurements": [volume],
        "algorithm_id": _algorithm(provenance),
    }
    if referenced is None:
        return hd.sr.MeasurementsAndQualitativeEvaluations(**common)
    return hd.sr.VolumetricROIMeasurementsAndQualitativeEvaluations(referenced_segment=referenced, **common)


def _algorithm(provenance: Provenance) -> hd.sr.AlgorithmIdentification:
    """The models that made the organ (TID 4019), named as in the Segmentation."""
    item = algorithm_item(provenance)
    return hd.sr.AlgorithmIdentification(
        name=item.AlgorithmName,
        version=item.AlgorithmVersion,
        parameters=[
            *(f"{one.name} {one.version} sha256={one.sha256}" for one in provenance.models),
            *([provenance.guidance] if provenance.guidance else []),
        ],
        family=_concept(*_ARTIFICIAL),
        manufacturer=MANUFACTURER,
    )


def _observer(provenance: Provenance) -> hd.sr.ObservationContext:
    """The node itself as the observer (TID 1004): no person has reviewed the report."""
    device = hd.sr.DeviceObserverIdentifyingAttributes(
        uid=derive_uid("device", MODEL_NAME, provenance.device_serial),
        name=MODEL_NAME,
        manufacturer_name=MANUFACTURER,
        model_name=MODEL_NAME,
        serial_number=provenance.device_serial,
        physical_location=provenance.institution or None,
    )
    return hd.sr.ObservationContext(
        observer_device_context=hd.sr.ObserverContext(
            observer_type=_concept("121007", "DCM", "Device"), observer_identifying_attributes=device
        )
    )


def _remarks(findings: Sequence[Finding]) -> hd.sr.ContainerContentItem:
    """The notice and the findings as text (TID 1500, qualitative evaluations)."""
    remarks = hd.sr.ContainerContentItem(name=_concept(*_EVALUATIONS), relationship_type=_CONTAINS)
    remarks.ContentSequence = hd.sr.ContentSequence(list(_lines(findings)))
    return remarks


def _lines(findings: Sequence[Finding]) -> Iterator[hd.sr.TextContentItem]:
    yield _text(_COMMENT, NOTICE)
    for finding in findings:
        yield _text(_FINDING, f"{finding.level.upper()} {finding.code}: {to_ascii(finding.message)}")


def _text(name: tuple[str, str, str], text: str) -> hd.sr.TextContentItem:
    return hd.sr.TextContentItem(name=_concept(*name), value=text, relationship_type=_CONTAINS)


def _document(
    content: hd.sr.MeasurementReport, series: CtSeries, provenance: Provenance, seg: Dataset | None
) -> FileDataset:
    """The content as a document of the study; with another Segmentation it is another SOP instance."""
    variant: tuple[str, ...] = ("alone",) if seg is None else ()
    if seg is not None and is_alone(seg, provenance):
        variant = ("SEG",)
    sop_instance_uid = derive_uid(provenance.uid_root, "SR", "instance", *variant)
    built = hd.sr.ComprehensiveSR(
        evidence=[_evidence(seg, series)],
        content=content,
        series_instance_uid=derive_uid(provenance.uid_root, "SR", "series"),
        series_number=SERIES_NUMBER,
        sop_instance_uid=sop_instance_uid,
        instance_number=1,
        manufacturer=MANUFACTURER,
        is_complete=False,
        is_final=False,
        is_verified=False,
    )
    meta = file_meta(ComprehensiveSRStorage, sop_instance_uid, ExplicitVRLittleEndian)
    dataset = FileDataset("", built, file_meta=meta, preamble=b"\0" * 128)
    set_patient_and_study(dataset, series, has_frame=False)
    set_equipment(dataset, provenance)
    set_unreviewed(dataset, provenance)
    dataset.SeriesDescription = provenance.series_description(DESCRIPTION)
    dataset.CompletionFlagDescription = "Not reviewed"
    dataset.ContentDate, dataset.ContentTime = provenance.date, provenance.time
    return dataset


def _evidence(seg: Dataset | None, series: CtSeries) -> Dataset:
    """The Segmentation, or else the first image of the CT, as highdicom needs it.

    It has no patient attributes, which highdicom would check.
    """
    evidence = Dataset()
    for keyword in TYPE_2:
        setattr(evidence, keyword, "")
    evidence.StudyInstanceUID = series.study_instance_uid
    if seg is None:
        evidence.SeriesInstanceUID = series.series_instance_uid
        evidence.SOPClassUID = series.slices[0].sop_class_uid
        evidence.SOPInstanceUID = series.slices[0].sop_instance_uid
    else:
        evidence.SeriesInstanceUID = seg.SeriesInstanceUID
        evidence.SOPClassUID = seg.SOPClassUID
        evidence.SOPInstanceUID = seg.SOPInstanceUID
    return evidence


def _concept(value: str, scheme: str, meaning: str) -> hd.sr.CodedConcept:
    return hd.sr.CodedConcept(value, scheme, meaning)
