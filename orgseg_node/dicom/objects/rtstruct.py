"""Writing the RT Structure Set: contours on the original slices, marked automatic and not reviewed.

Written as the profile of a planning system says (`dicom.tps`), by default in implicit VR little endian, in
which Contour Data may be of any length; each contour still stays below 60 kB, so that an archive may
re-encode it in explicit VR. Points lie in the plane of the slice they belong to, computed from that slice's
own position and orientation. Sections refer to DICOM PS3.3.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from pydicom.dataelem import DataElement
from pydicom.dataset import Dataset, FileDataset
from pydicom.uid import ExplicitVRLittleEndian, ImplicitVRLittleEndian, RTStructureSetStorage

from orgseg_node.core.contours import Contour, Holes, Structure, StructureSet
from orgseg_node.core.organs import Organ
from orgseg_node.dicom.objects.contour_data import CONTOUR_DATA, contour_text
from orgseg_node.dicom.objects.object_header import (
    algorithm_item,
    code,
    file_meta,
    organ_category,
    organ_code,
    plain,
    reference,
    set_equipment,
    set_patient_and_study,
    set_unreviewed,
)
from orgseg_node.dicom.objects.provenance import MANUFACTURER, MODEL_NAME, UNREVIEWED, Provenance
from orgseg_node.dicom.objects.rtstruct_reader import prove, read_rtstruct
from orgseg_node.dicom.objects.uids import derive_uid
from orgseg_node.dicom.reading.series import CtSeries, CtSlice
from orgseg_node.dicom.tps.tps import GENERIC, EmptyRois, TpsProfile, names_for
from orgseg_node.errors import NothingFound, ObjectInvalid

__all__ = ["contour_text", "prove", "read_rtstruct", "write_rtstruct"]

SERIES_NUMBER = 9001
LABEL = "AUTO UNREVIEWED"  # at most 16 characters (SH)

_DETACHED_STUDY = "1.2.840.10008.3.1.2.3.1"  # the class by which an RTSTRUCT refers to a study
_ALTERNATE = ("121326", "DCM", "Alternate SOP Class instance")  # CID 7205: the same content, another object
_SH, _ST = 16, 1024  # characters in a Short String, a Short Text (PS3.5 6.2)


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class _Writing:
    """What every part of the object is made from.

    Attributes
    ----------
    names : as the planning system takes them, by `Organ.key`
    segments : reference to the segment of an organ, by the name that it has in the segmentation
    holes : how the structures were traced
    """

    series: CtSeries
    provenance: Provenance
    profile: TpsProfile
    names: dict[str, str]
    segments: dict[str, Dataset]
    holes: Holes


def write_rtstruct(
    structure_set: StructureSet,
    series: CtSeries,
    provenance: Provenance,
    profile: TpsProfile = GENERIC,
    segmentation: Dataset | None = None,
) -> FileDataset:
    """The RT Structure Set of a CT, ready to be saved or sent.

    Parameters
    ----------
    structure_set : contours in index coordinates of the series, traced with ``profile.tracing``
    series : the CT they belong to
    provenance : job, time and models; the same job gives the same bytes
    profile : the planning system it is for; another profile than the generic one is another object
    segmentation : the same organs as a DICOM Segmentation, which each ROI then refers to

    Returns
    -------
    dataset in the transfer syntax of the profile. Contour Data is held as text; who reads the saved file gets
    numbers

    Raises
    ------
    NothingFound
        If there is no structure.
    ObjectInvalid
        If the structures were traced on another grid than that of the series, or with holes written otherwise
        than the profile wants, or if two of them have the same key.
    """
    if not structure_set.structures:
        raise NothingFound
    if structure_set.grid.shape != (len(series.slices), series.rows, series.columns):
        raise ObjectInvalid("The structures were traced on another grid than that of the CT.")
    if structure_set.holes is not profile.holes:
        raise ObjectInvalid("The structures were traced for a planning system that writes holes otherwise.")
    structures = _listed(structure_set, profile)
    writing = _Writing(
        series=series,
        provenance=provenance,
        profile=profile,
        names=names_for(all_organs(structure_set), profile),
        segments=_segments(segmentation) if segmentation is not None else {},
        holes=structure_set.holes,
    )
    dataset = _empty_object(provenance, profile)
    set_patient_and_study(dataset, series)
    set_equipment(dataset, provenance)
    set_unreviewed(dataset, provenance)
    _set_series_and_label(dataset, provenance)
    if segmentation is not None:
        dataset.ReferencedInstanceSequence = [_alternate(segmentation)]
    dataset.ReferencedFrameOfReferenceSequence = [_frame_of_reference(series)]
    rois = list(enumerate(structures, start=1))
    dataset.StructureSetROISequence = [_roi(number, s, writing) for number, s in rois]
    dataset.ROIContourSequence = [_roi_contour(number, s, writing) for number, s in rois]
    dataset.RTROIObservationsSequence = [_observation(number, s, writing) for number, s in rois]
    return dataset


def all_organs(structure_set: StructureSet) -> list[Organ]:
    """Every organ and region that was looked for, in an order that does not depend on what was found."""
    organs = [*(structure.organ for structure in structure_set.structures), *structure_set.missing]
    return sorted(organs, key=lambda organ: organ.key)


def _listed(structure_set: StructureSet, profile: TpsProfile) -> Sequence[Structure]:
    if profile.empty_rois is EmptyRois.OMIT:
        return structure_set.structures
    empty = (Structure(organ=organ, label=None, contours=()) for organ in structure_set.missing)
    return [*structure_set.structures, *empty]


def _empty_object(provenance: Provenance, profile: TpsProfile) -> FileDataset:
    own = () if profile.name == GENERIC.name else (profile.name,)
    sop_instance_uid = derive_uid(provenance.job_id, "RTSTRUCT", "instance", *own)
    syntax = ImplicitVRLittleEndian if profile.implicit_vr else ExplicitVRLittleEndian
    meta = file_meta(RTStructureSetStorage, sop_instance_uid, syntax)
    dataset = FileDataset("", {}, file_meta=meta, preamble=b"\0" * 128)
    dataset.SOPClassUID = RTStructureSetStorage
    dataset.SOPInstanceUID = sop_instance_uid
    return dataset


def _set_series_and_label(dataset: Dataset, provenance: Provenance) -> None:
    """RT Series (C.8.8.1), Structure Set (C.8.8.5) and Approval (C.8.8.16) modules."""
    dataset.Modality = "RTSTRUCT"
    dataset.SeriesInstanceUID = derive_uid(provenance.job_id, "RTSTRUCT", "series")
    dataset.SeriesNumber = SERIES_NUMBER
    dataset.OperatorsName = ""
    dataset.InstanceNumber = 1
    dataset.StructureSetLabel = LABEL
    dataset.StructureSetName = "Automatic contours, not reviewed"
    dataset.StructureSetDescription = provenance.summary[:_ST]
    dataset.StructureSetDate = provenance.date
    dataset.StructureSetTime = provenance.time
    dataset.ApprovalStatus = "UNAPPROVED"  # review date, time and reviewer are for a person to add


def _alternate(segmentation: Dataset) -> Dataset:
    other = reference(segmentation.SOPClassUID, segmentation.SOPInstanceUID)
    other.PurposeOfReferenceCodeSequence = [code(*_ALTERNATE)]
    return other


def _segments(segmentation: Dataset) -> dict[str, Dataset]:
    """A reference to each segment, by its label."""
    found = {}
    for segment in segmentation.SegmentSequence:
        item = reference(segmentation.SOPClassUID, segmentation.SOPInstanceUID)
        item.ReferencedSegmentNumber = int(segment.SegmentNumber)
        found[str(segment.SegmentLabel)] = item
    return found


def _frame_of_reference(series: CtSeries) -> Dataset:
    referenced_series = Dataset()
    referenced_series.SeriesInstanceUID = series.series_instance_uid
    referenced_series.ContourImageSequence = _images(series.slices)
    study = Dataset()
    study.ReferencedSOPClassUID = _DETACHED_STUDY
    study.ReferencedSOPInstanceUID = series.study_instance_uid
    study.RTReferencedSeriesSequence = [referenced_series]
    frame = Dataset()
    frame.FrameOfReferenceUID = series.frame_of_reference_uid
    frame.RTReferencedStudySequence = [study]
    return frame


def _images(slices: Iterable[CtSlice]) -> list[Dataset]:
    """References to slices: one for each file, with the frames where a file holds several."""
    items: dict[str, Dataset] = {}
    frames: dict[str, list[int]] = {}
    for ct_slice in slices:
        uid = ct_slice.sop_instance_uid
        items.setdefault(uid, reference(ct_slice.sop_class_uid, uid))
        if ct_slice.frame is not None:
            frames.setdefault(uid, []).append(ct_slice.frame)
    for uid, numbers in frames.items():
        items[uid].ReferencedFrameNumber = numbers if len(numbers) > 1 else numbers[0]
    return list(items.values())


def _roi(number: int, structure: Structure, writing: _Writing) -> Dataset:
    organ, profile = structure.organ, writing.profile
    roi = Dataset()
    roi.ROINumber = number
    roi.ReferencedFrameOfReferenceUID = writing.series.frame_of_reference_uid
    roi.ROIName = writing.names[organ.key]
    if structure.how:
        roi.ROIDescription = plain(structure.how)[:_ST]
    roi.ROIGenerationAlgorithm = "AUTOMATIC"
    roi.ROIGenerationDescription = UNREVIEWED
    if profile.definition_source and structure.label is not None and plain(organ.name) in writing.segments:
        roi.DefinitionSourceSequence = [writing.segments[plain(organ.name)]]
    if profile.algorithm:
        roi.ROIDerivationAlgorithmIdentificationSequence = [algorithm_item(writing.provenance)]
    if profile.roi_creator:
        roi.ROICreatorSequence = [_creator(writing.provenance)]
    return roi


def _creator(provenance: Provenance) -> Dataset:
    """The node as an Identified Person or Device (Table 10-18)."""
    item = Dataset()
    item.ObserverType = "DEV"
    item.DeviceUID = derive_uid(MODEL_NAME, "device", provenance.device_serial)
    item.Manufacturer = MANUFACTURER
    item.ManufacturerModelName = MODEL_NAME
    item.InstitutionName = provenance.institution
    item.InstitutionCodeSequence = []
    return item


def _roi_contour(number: int, structure: Structure, writing: _Writing) -> Dataset:
    roi = Dataset()
    roi.ReferencedROINumber = number
    roi.ROIDisplayColor = list(structure.organ.color)
    if writing.profile.source_series:
        source = Dataset()
        source.SeriesInstanceUID = writing.series.series_instance_uid
        roi.SourceSeriesSequence = [source]
    if structure.contours:
        # C.8.8.6.3: if one contour of an ROI is to exclude another, all of them are of that type
        is_xor = writing.holes is Holes.XOR and structure.has_holes
        kind = "CLOSEDPLANAR_XOR" if is_xor else "CLOSED_PLANAR"
        roi.ContourSequence = [
            _contour(index, contour, kind, writing)
            for index, contour in enumerate(structure.contours, start=1)
        ]
    return roi


def _contour(number: int, contour: Contour, kind: str, writing: _Writing) -> Dataset:
    item = Dataset()
    item.ContourNumber = number
    item.ContourImageSequence = _images([writing.series.slices[contour.k]])
    item.ContourGeometricType = kind
    item.NumberOfContourPoints = len(contour.points)
    # As finished text: pydicom would otherwise make an object of each number, ten times slower.
    text = contour_text(contour, writing.series, writing.profile.decimals)
    item[CONTOUR_DATA] = DataElement(CONTOUR_DATA, "DS", text, already_converted=True)
    return item


def _observation(number: int, structure: Structure, writing: _Writing) -> Dataset:
    organ = structure.organ
    observation = Dataset()
    observation.ObservationNumber = number
    observation.ReferencedROINumber = number
    observation.ROIObservationLabel = writing.names[organ.key][:_SH]
    observation.ROIObservationDescription = UNREVIEWED
    if writing.profile.codes and organ.code:
        observation.SegmentedPropertyCategoryCodeSequence = [organ_category(organ)]
        observation.RTROIIdentificationCodeSequence = [organ_code(organ)]
    observation.RTROIInterpretedType = writing.profile.interpreted_type(organ.interpreted_type)
    observation.ROIInterpreter = ""
    return observation
